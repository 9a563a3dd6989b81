"""The outbox by example: what each promise of its docstring looks like. Must not know how segments are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isocore.frame import decode
from isocore.record import BOOT, DELTA, FAULT, HIGH_OFF, HIGH_ON, LOST, SAMPLE, WINDOW_MAX
from isonode.capacity import capacity_days
from isonode.entries import ENTRY_BYTES
from isonode.outbox import URGENT_RECORDS, Outbox

from .outbox_model import OutboxModel, walk

Open = Callable[..., Outbox]


@pytest.fixture
def open_outbox(tmp_path: Path) -> Iterator[Open]:
    """Opens outboxes on one folder; `boot` and sizes by keyword."""
    opened: list[Outbox] = []

    def open_one(boot: int = 1, **more: object) -> Outbox:
        if opened:
            opened[-1].store.close()
        sizes = {
            "ram_records": 16,
            "spill_records": 8,
            "segment_bytes": 512,
            "capacity_bytes": 4096,
            "block_bytes": 128,
        }
        outbox = Outbox(str(tmp_path / "outbox"), boot, **(sizes | more))
        assert outbox.open()
        opened.append(outbox)
        return outbox

    yield open_one
    for outbox in opened:
        outbox.store.close()


def fill(outbox: Outbox, model: OutboxModel, count: int, kind: int = DELTA) -> None:
    """Append `count` records a minute apart, spilling as they come."""
    for _ in range(count):
        uptime_s = outbox.next_seq * 60
        seq = outbox.append(kind, 1, 20000 + uptime_s % 1000, uptime_s, 250)
        model.append(outbox.boot, seq, (kind, 1, 20000 + uptime_s % 1000, uptime_s * 1000 + 250, 0))
        outbox.maintain(0)


def segments(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "outbox").glob("*.seg"), key=lambda path: int(path.stem))


def test_empty(open_outbox: Open) -> None:
    outbox = open_outbox(boot=7)
    assert outbox.floor() == (7, 1)
    assert outbox.next_frame(0, 0, seal=True) is None
    assert outbox.next_urgent() is None
    assert outbox.counts.held() == 0
    assert outbox.flush()


def test_ram_frame_waits_for_a_full_batch_unless_sealed(open_outbox: Open) -> None:
    outbox = open_outbox()
    for i in range(7):
        outbox.append(DELTA, 0, 20000, i, 0)
    assert outbox.next_frame(1, 0) is None
    data, boot, first, last = outbox.next_frame(1, 0, seal=True)
    assert (boot, first, last, len(decode(data).records)) == (1, 1, 7, 7)
    outbox.append(DELTA, 0, 20000, 8, 0)
    assert outbox.next_frame(1, 0)[1:] == (1, 1, 8)
    assert outbox.next_frame(1, 3, seal=True)[1:] == (1, 4, 8)


def test_online_nothing_touches_flash(open_outbox: Open, tmp_path: Path) -> None:
    outbox = open_outbox()
    for i in range(500):
        seq = outbox.append(DELTA, 0, 20000, i, 0)
        outbox.maintain(i)
        outbox.ack(1, seq)
    assert outbox.counts.entries_written == 0
    assert segments(tmp_path) == []
    assert outbox.counts.acked_reports == 500


def test_old_records_spill_before_the_batch_is_full(open_outbox: Open) -> None:
    outbox = open_outbox(spill_age_s=600)
    outbox.append(DELTA, 0, 20000, 1000, 0)
    assert not outbox.maintain(1599)
    assert not outbox.maintain(1600, idle=False)
    assert outbox.maintain(1600)
    assert outbox.counts.entries_written == 1


def test_flush_survives_a_power_cycle_and_the_rest_is_bounded(open_outbox: Open) -> None:
    model = OutboxModel()
    outbox = open_outbox()
    fill(outbox, model, 20)
    assert outbox.flush()
    fill(outbox, model, 3)
    again = open_outbox(boot=2)
    assert walk(again, model).covered[1] == 20
    assert again.counts.held() == 20


def test_boot_rises_above_what_flash_holds(open_outbox: Open) -> None:
    outbox = open_outbox(boot=9)
    outbox.append(BOOT, 255, 1, 0, 0)
    assert outbox.flush()
    assert open_outbox(boot=3).boot == 10


def test_ack_frees_ram_and_whole_segments(open_outbox: Open, tmp_path: Path) -> None:
    outbox = open_outbox()
    model = OutboxModel()
    fill(outbox, model, 100)
    before = segments(tmp_path)
    assert len(before) > 2
    size = before[0].stat().st_size
    assert outbox.ack(1, 5)
    assert outbox.floor() == (1, 6)
    assert before[0].stat().st_size == size, "a segment was rewritten for an ack"
    outbox.ack(1, 99)
    assert outbox.floor() == (1, 100)
    assert outbox.next_frame(1, 99, seal=True)[2:] == (100, 100)
    assert outbox.ack(1, 100)
    assert segments(tmp_path) == []
    assert outbox.store.used_bytes == 0
    assert outbox.counts.acked_reports == 100
    assert not outbox.ack(1, 100), "no news"


@pytest.mark.parametrize(("boot", "seq"), [(1, 1000), (2, 5), (0, 5), (1, 0), (1, -4)])
def test_ack_of_what_never_was_is_harmless(open_outbox: Open, boot: int, seq: int) -> None:
    outbox = open_outbox()
    model = OutboxModel()
    fill(outbox, model, 10)
    outbox.ack(boot, seq)
    assert outbox.next_seq == 11
    fill(outbox, model, 3)
    assert walk(outbox, model).covered[1] == 13


def test_a_walk_goes_on_into_what_was_spilled_meanwhile(open_outbox: Open) -> None:
    outbox = open_outbox()
    model = OutboxModel()
    fill(outbox, model, 16)
    assert outbox.next_frame(1, 0)[2:] == (1, 8)
    fill(outbox, model, 12)
    seen = [outbox.next_frame(1, last, seal=True)[2:] for last in (8, 16, 24)]
    assert seen == [(9, 16), (17, 24), (25, 28)]


def test_ack_of_a_later_boot_frees_nothing_of_an_earlier_one(open_outbox: Open) -> None:
    model = OutboxModel()
    outbox = open_outbox(boot=1)
    fill(outbox, model, 20)
    assert outbox.flush()
    outbox = open_outbox(boot=2)
    fill(outbox, model, 5)
    assert not outbox.ack(2, 5)
    assert walk(outbox, model).covered == {1: 20, 2: 5}
    assert outbox.ack(1, 20)
    assert outbox.floor() == (2, 6), "the ack that came early counts now"
    assert outbox.counts.held() == 0


def test_urgent_records_go_ahead_of_a_backlog(open_outbox: Open) -> None:
    outbox = open_outbox()
    model = OutboxModel()
    fill(outbox, model, 30)
    fill(outbox, model, 2, HIGH_ON)
    fill(outbox, model, 1)
    fill(outbox, model, 1, FAULT)
    assert outbox.urgent
    assert outbox.flush_urgent()
    assert not outbox.urgent
    first, second = outbox.next_urgent(), outbox.next_urgent()
    assert [(first[2], first[3]), (second[2], second[3])] == [(31, 32), (34, 34)]
    assert [record[1] for record in decode(first[0]).records] == [HIGH_ON, HIGH_ON]
    assert outbox.next_urgent() is None
    outbox.urgent_got(31, 32)
    outbox.urgent_again()
    assert outbox.next_urgent()[2:] == (34, 34)
    assert walk(outbox, model).covered[1] == 34, "they come in order as well"
    outbox.ack(1, 34)
    outbox.urgent_again()
    assert outbox.next_urgent() is None


def test_urgent_copies_are_bounded(open_outbox: Open) -> None:
    outbox = open_outbox(ram_records=64)
    for i in range(URGENT_RECORDS + 5):
        outbox.append(HIGH_ON if i % 2 else HIGH_OFF, 0, 20000, i, 0)
    assert outbox.next_urgent()[2:] == (6, URGENT_RECORDS + 5)
    assert outbox.urgent_dropped == 5


def test_reports_are_evicted_before_events(open_outbox: Open) -> None:
    outbox = open_outbox()
    model = OutboxModel()
    for _ in range(40):
        fill(outbox, model, 9)
        fill(outbox, model, 1, HIGH_ON)
        outbox.flush_urgent()
    delivery = walk(outbox, model)
    assert delivery.covered[1] == 400
    assert delivery.events == 40 and outbox.counts.evicted_events == 0
    assert delivery.lost == outbox.counts.evicted_reports == 360 - delivery.reports > 0
    newest_lost = max(record[0] for frame in delivery.frames for record in frame.records if record[1] == LOST)
    oldest_report = min(seq for _, seq in delivery.seen if model.records[1, seq][0] == DELTA)
    assert oldest_report > newest_lost, "an older report stayed while a newer one went"


def test_events_are_evicted_when_nothing_else_is_left(open_outbox: Open) -> None:
    outbox = open_outbox()
    model = OutboxModel()
    fill(outbox, model, 1500, HIGH_ON)
    delivery = walk(outbox, model)
    assert delivery.covered[1] == 1500
    assert outbox.counts.evicted_events == delivery.lost > 0
    assert outbox.store.used_bytes <= outbox.store.capacity_bytes


def test_evicted_runs_merge_into_one_lost_record(open_outbox: Open, tmp_path: Path) -> None:
    outbox = open_outbox()
    model = OutboxModel()
    fill(outbox, model, 2000)
    lost = [record for frame in walk(outbox, model).frames for record in frame.records if record[1] == LOST]
    assert len(lost) == 1
    assert lost[0][3] == lost[0][0] == outbox.counts.evicted_reports
    assert sum(1 for path in segments(tmp_path) if path.stat().st_size < 200) <= 2, "small remains pile up"


def test_lost_of_lost_adds(open_outbox: Open) -> None:
    model = OutboxModel()
    outbox = open_outbox()
    fill(outbox, model, 1000)
    assert outbox.flush()
    again = open_outbox(boot=2)
    fill(again, model, 1000)
    delivery = walk(again, model)
    assert delivery.covered[2] == 1000
    first = delivery.frames[0].records[0]
    assert first[1] == LOST and first[0] == first[3] == 1000, "all of boot 1 is one LOST record"


def test_eviction_keeps_what_was_acknowledged_out_of_the_count(open_outbox: Open) -> None:
    outbox = open_outbox()
    model = OutboxModel()
    fill(outbox, model, 100)
    outbox.ack(1, 45)  # inside an entry that is not its segment's first
    fill(outbox, model, 900)
    delivery = walk(outbox, model)
    assert outbox.counts.acked_reports == 45
    assert delivery.lost == outbox.counts.evicted_reports
    assert outbox.counts.evicted_reports + delivery.reports == 955
    assert outbox.counts.acked_reports + outbox.counts.evicted_reports + outbox.counts.reports == 1000


def test_interrupted_replacement_is_finished_at_open(open_outbox: Open, tmp_path: Path) -> None:
    outbox = open_outbox()
    model = OutboxModel()
    fill(outbox, model, 100)
    while outbox.counts.compactions < 2:
        before = {path: path.read_bytes() for path in segments(tmp_path)}
        fill(outbox, model, 1)
    gone = [path for path in before if not path.exists()]
    assert gone, "this eviction merged nothing"
    assert outbox.flush()
    gone[0].write_bytes(before[gone[0]])  # as if the power had failed between the renaming and the removal
    (tmp_path / "outbox" / "9.tmp").write_bytes(b"half")
    again = open_outbox(boot=2)
    assert walk(again, model).covered[1] == outbox.next_seq - 1
    assert again.counts.held() == outbox.counts.held()
    assert not gone[0].exists() and not (tmp_path / "outbox" / "9.tmp").exists()


@pytest.mark.parametrize("cut_bytes", [1, 10, ENTRY_BYTES, ENTRY_BYTES + 20, 120])
def test_torn_tail_is_left_out_and_never_appended_to(open_outbox: Open, tmp_path: Path, cut_bytes: int) -> None:
    outbox = open_outbox()
    model = OutboxModel()
    fill(outbox, model, 16)
    path = segments(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:-cut_bytes])
    again = open_outbox(boot=2)
    assert walk(again, model).covered[1] == 8
    fill(again, model, 8)
    assert len(segments(tmp_path)) == 2
    assert walk(open_outbox(boot=3), model).covered == {1: 8, 2: 8, 3: 0} or again.counts.held() == 16


@pytest.mark.parametrize("at", [0, 7, 30, ENTRY_BYTES + 40])
def test_damage_in_the_middle_is_told_as_lost(open_outbox: Open, tmp_path: Path, at: int) -> None:
    outbox = open_outbox()
    model = OutboxModel()
    fill(outbox, model, 100)
    path = segments(tmp_path)[1]
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)
    outbox.store.close()
    delivery = walk(outbox, model)
    assert delivery.covered[1] == 100
    assert delivery.lost >= 8
    assert outbox.counts.corrupt > 0
    outbox.ack(1, 100)
    assert outbox.floor() == (1, 101)
    assert segments(tmp_path) == []


def test_damage_survives_eviction_and_restart(open_outbox: Open, tmp_path: Path) -> None:
    outbox = open_outbox()
    model = OutboxModel()
    fill(outbox, model, 100)
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[ENTRY_BYTES + 60] ^= 1
    path.write_bytes(data)
    outbox.store.close()
    fill(outbox, model, 300)
    assert outbox.counts.compactions
    assert walk(outbox, model).covered[1] == 400
    assert outbox.flush()
    assert walk(open_outbox(boot=2), model).covered[1] == 400


def test_foreign_files_are_left_alone(open_outbox: Open, tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "x.seg").write_text("not a number")
    (folder / "3.seg").write_bytes(b"\xff" * 700)
    outbox = open_outbox()
    assert outbox.counts.held() == 0
    assert (folder / "notes.txt").read_text() == "mine"
    assert not (folder / "3.seg").exists(), "what holds no entry makes room"


def test_unusable_flash_leaves_ram(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("a file where the folder should be")
    outbox = Outbox(str(tmp_path / "outbox"), 4, ram_records=16)
    assert not outbox.open()
    model = OutboxModel()
    fill(outbox, model, 100)
    assert not outbox.flush()
    assert outbox.counts.io_errors
    delivery = walk(outbox, model)
    assert delivery.covered[4] == 100
    assert delivery.lost == outbox.counts.evicted_reports == 100 - delivery.reports
    outbox.ack(4, 100)
    assert outbox.counts.held() == 0


def test_epoch_learnt_late_is_put_into_frames_of_this_boot_only(open_outbox: Open) -> None:
    model = OutboxModel()
    outbox = open_outbox()
    fill(outbox, model, 8)
    outbox = open_outbox(boot=2)
    fill(outbox, model, 8)
    outbox.epoch_s, outbox.epoch_ms = 1000, 7
    fill(outbox, model, 8)
    frames = walk(outbox, model).frames
    assert [(frame.boot, frame.epoch_s, frame.epoch_ms) for frame in frames] == [(1, 0, 0), (2, 1000, 7), (2, 1000, 7)]


def test_lost_records_keep_the_time_of_the_last_they_replace(open_outbox: Open) -> None:
    model = OutboxModel()
    for boot in (1, 2, 3):
        outbox = open_outbox(boot=boot, capacity_bytes=2048)
        outbox.epoch_s, outbox.epoch_ms = boot * 1000, boot
        fill(outbox, model, 3, HIGH_ON)
        fill(outbox, model, 161)
        assert outbox.flush()
    lost = [(frame, record) for frame in walk(outbox, model).frames for record in frame.records if record[1] == LOST]
    assert len(lost) > 3
    assert {frame.boot for frame, _ in lost} == {1, 2, 3}
    for frame, (seq, _, _, _, uptime_ms, _) in lost:
        assert (frame.epoch_s, frame.epoch_ms) == (frame.boot * 1000, frame.boot)
        assert uptime_ms == model.records[frame.boot, seq][3]


def test_tagged_frames_verify_after_storage_eviction_and_late_time(open_outbox: Open) -> None:
    key = bytes(range(32))
    model = OutboxModel()
    outbox = open_outbox(key=key)
    fill(outbox, model, 500)
    outbox.epoch_s = 5
    fill(outbox, model, 20)
    delivery = walk(outbox, model, key)
    assert delivery.covered[1] == 520 and delivery.lost
    assert all(len(frame.tag) == 16 for frame in delivery.frames)


def test_kinds_are_counted_apart(open_outbox: Open) -> None:
    outbox = open_outbox()
    for kind in (SAMPLE, DELTA, BOOT, FAULT, WINDOW_MAX):
        outbox.append(kind, 0, 1, 1, 1)
    counters: dict[str, int] = {}
    outbox.fill_counters(counters)
    assert (outbox.counts.reports, outbox.counts.events, counters["outbox"]) == (2, 2, 5)
    outbox.ack(1, 5)
    outbox.fill_counters(counters)
    assert (counters["acked"], counters["events_acked"], counters["outbox"]) == (2, 2, 0)


def test_values_past_the_frame_are_clamped_so_that_no_frame_is_refused(open_outbox: Open) -> None:
    outbox = open_outbox()
    outbox.append(DELTA, 0, 2**31, 1, 0, 40000)
    outbox.append(DELTA, 0, -(2**31), 1, 0, -40000)
    records = decode(outbox.next_frame(1, 0, seal=True)[0]).records
    assert [record[3] for record in records] == [2**30 - 1, 1 - 2**30]
    assert [record[5] for record in records] == [32767, -32767]


def test_records_too_far_apart_for_one_frame_are_split(open_outbox: Open) -> None:
    outbox = open_outbox()
    outbox.append(DELTA, 0, 1, 10, 0)
    outbox.append(DELTA, 0, 2, 2_000_000, 0)
    assert outbox.next_frame(1, 0, seal=True)[2:] == (1, 1)
    assert outbox.next_frame(1, 1, seal=True)[2:] == (2, 2)
    assert outbox.flush()
    assert outbox.next_frame(1, 1, seal=True)[2:] == (2, 2)


def test_close_is_a_flush(open_outbox: Open) -> None:
    model = OutboxModel()
    outbox = open_outbox()
    fill(outbox, model, 3)
    assert outbox.close()
    assert walk(open_outbox(boot=2), model).covered[1] == 3


def test_ram_ring_must_have_a_sensible_size(tmp_path: Path) -> None:
    for ram_records in (0, 3, 256):
        with pytest.raises(ValueError, match="ram_records"):
            Outbox(str(tmp_path), 1, ram_records=ram_records)


@pytest.mark.parametrize(
    ("capacity_bytes", "records_per_day", "days"),
    [(262144, 1440, 13.2), (1048576, 144, 532.0), (262144, 0, 36500.0), (4096, 10**9, 0.0), (2**24, 1, 36500.0)],
)
def test_capacity_days(capacity_bytes: int, records_per_day: int, days: float) -> None:
    assert capacity_days(capacity_bytes, records_per_day) == days


def test_capacity_days_holds_on_a_real_outbox(open_outbox: Open) -> None:
    outbox = open_outbox(ram_records=64, spill_records=32, segment_bytes=4096, capacity_bytes=65536, block_bytes=4096)
    model = OutboxModel()
    promised = int(capacity_days(65536, 24) * 24)
    while not outbox.counts.evicted_reports:
        fill(outbox, model, 1)
    assert 0.9 * promised <= outbox.next_seq - 1 <= 1.1 * promised
