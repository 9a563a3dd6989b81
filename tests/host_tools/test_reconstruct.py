"""The receiver's side of the prediction."""

from __future__ import annotations

from host_tools.reconstruct import Reconstruction, value_after
from isocore.predict import predict


def test_reports_hold_or_move_on_until_the_next_one() -> None:
    signal = Reconstruction([(1000, 1, 20_000, 0), (61_500, 2, 21_000, 60), (3_000_000, 3, 0, 0)])
    assert [signal.at(t_ms) for t_ms in (0, 1000, 61_499, 61_500, 121_000)] == [20_000, 20_000, 20_000, 21_000, 21_060]
    assert signal.at(2_999_999) == 21_000 + 60 * 20
    assert signal.at(10**9) == 0


def test_order_of_arrival_does_not_matter_and_at_one_time_the_later_record_counts() -> None:
    reports = [(2000, 7, 5, 0), (1000, 8, 3, 0), (2000, 9, 6, 0)]
    assert [Reconstruction(reports[::step]).at(2000) for step in (1, -1)] == [6, 6]
    assert Reconstruction(reports).at(1999) == 3
    assert not Reconstruction([])


def test_whole_seconds_of_uptime_are_compared_as_on_the_board() -> None:
    assert value_after(0, 600, 1999, 2000) == predict(0, 600, 1) == 10
    assert value_after(0, 600, 1000, 1999) == 0
    assert value_after(7, 600, 5000, 0) == 7, "before the report: what it says"
