"""The analysis of a site's windows: hand-worked cases, properties, and the same results whatever the order or side."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.virtual.interpreter import find_micropython
from isocore import analysis
from isocore.analysis import Sensor, analyse, encode, median, slopes

ROOT = Path(__file__).resolve().parents[2]
LENGTH_S = 300
START_S = 1_800_000_000


def sensor(key: str, values: list[int], **limits: int | None) -> Sensor:
    """The last value is that of the window at START_S."""
    first_s = START_S - LENGTH_S * (len(values) - 1)
    return Sensor(key, {first_s + i * LENGTH_S: value for i, value in enumerate(values)}, **limits)


def only(values: list[int], **limits: int | None) -> analysis.Result:
    (result,) = analyse([sensor("a", values, **limits)], LENGTH_S, START_S)
    return result


def test_a_fridge_that_warms_by_three_degrees_an_hour_crosses_in_forty_minutes() -> None:
    # 0.25 °C each five minutes; the last window's mean, 5.875, stands for its middle, so its end is at 6.0.
    result = only([5875 - 250 * i for i in range(12)][::-1], high_milli=8000)
    assert result.slope_milli_h == 3000
    assert (result.limit_milli, result.cross_s) == (8000, 40 * 60)
    assert result.earliest_s == result.latest_s == 40 * 60


def test_falling_goes_to_the_low_limit_and_nothing_is_foreseen_further_than_was_seen() -> None:
    falling = [6000 - 250 * i for i in range(12)]  # an hour of looking back
    assert only(falling, low_milli=1000, high_milli=8000).limit_milli == 1000
    assert only(falling, low_milli=-1000, high_milli=8000).limit_milli is None
    assert only(falling, high_milli=8000).limit_milli is None


def test_neither_a_cycle_nor_a_step_nor_noise_is_a_trend() -> None:
    cycle = [4000 + 300 * abs(4 - i % 8) for i in range(24)]
    assert only(cycle, high_milli=6000).limit_milli is None
    step = [4000] * 12 + [5900] * 12
    assert only(step, high_milli=6000).limit_milli is None
    noise = random.Random(7)
    crossings = 0
    for _ in range(300):
        crossings += (
            only([5000 + noise.randrange(-400, 401) for _ in range(24)], high_milli=5450).limit_milli is not None
        )
    assert crossings <= 15  # of 300, at 2.5 % on the side of the limit, less what the halves refuse


def test_past_the_limit_nothing_is_foreseen() -> None:
    assert only([7000 + 200 * i for i in range(12)], high_milli=8000).limit_milli is None


def test_a_site_that_warms_as_one_scores_nowhere_and_one_that_leaves_it_does() -> None:
    def day(base: int, seed: int, last: int = 0) -> list[int]:
        noise = random.Random(seed)
        values = [base + 20 * abs(48 - i) + noise.randrange(-60, 61) for i in range(97)]
        values[-1] += 3000 + last
        return values

    site = [sensor(f"s{i}", day(18_000 + 900 * i, i)) for i in range(5)]
    assert all(abs(result.score_milli or 0) < 4000 for result in analyse(site, LENGTH_S, START_S))
    site[3] = sensor("s3", day(20_700, 3, last=2500))
    scores = {result.key: result.score_milli for result in analyse(site, LENGTH_S, START_S)}
    assert scores.pop("s3") > 10_000
    assert all(abs(score or 0) < 4000 for score in scores.values())


def test_a_score_by_hand() -> None:
    # Baseline 20.0; earlier residuals -0.5, 0, 0.5 in turn, so their scatter is 1.4826 * 0.5 = 0.741.
    result = only([20_000 + 500 * (i % 3 - 1) for i in range(12)] + [22_000])
    assert result.deviation_milli == 2000
    assert result.score_milli == 2000 * 1000 // 741
    assert only([20_000] * 12 + [19_000]).score_milli == -1000 * 1000 // 100


def test_too_little_says_nothing_and_a_silent_sensor_does_not_disturb() -> None:
    assert only([20_000] * 12).score_milli is None
    assert only([20_000] * 7).slope_milli_h is None
    silent = Sensor("z", {START_S - LENGTH_S: 20_000, START_S + LENGTH_S: 99_000})
    results = analyse([silent, sensor("a", [20_000] * 13)], LENGTH_S, START_S)
    assert [result.as_list()[1:] for result in results][1] == [None] * 8
    assert results[0].score_milli == 0
    assert analyse([], LENGTH_S, START_S) == []


VALUES = st.lists(st.one_of(st.none(), st.integers(-60_000, 130_000)), max_size=30)


@st.composite
def sites(draw: st.DrawFn) -> list[Sensor]:
    found = []
    for i in range(draw(st.integers(0, 5))):
        values = draw(VALUES)
        means = {START_S - LENGTH_S * k: value for k, value in enumerate(values) if value is not None}
        limit = st.one_of(st.none(), st.integers(-60_000, 130_000))
        found.append(Sensor(f"s{i}", means, draw(limit), draw(limit)))
    return found


@settings(max_examples=60, deadline=None)
@given(sites(), st.randoms(use_true_random=False))
def test_order_of_sensors_and_windows_is_no_matter(site: list[Sensor], order: random.Random) -> None:
    expected = encode(analyse(site, LENGTH_S, START_S), LENGTH_S, START_S)
    shuffled = []
    for one in site:
        items = list(one.means.items())
        order.shuffle(items)
        later = {START_S + LENGTH_S: 1_000_000, START_S - 1000 * LENGTH_S: 5}  # neither is looked at
        shuffled.append(Sensor(one.key, {**later, **dict(items)}, one.low_milli, one.high_milli))
    order.shuffle(shuffled)
    assert encode(analyse(shuffled, LENGTH_S, START_S), LENGTH_S, START_S) == expected
    for result in analyse(site, LENGTH_S, START_S):
        if result.cross_s is not None:
            assert result.limit_milli is not None and result.earliest_s is not None
            assert result.earliest_s <= result.cross_s <= (result.latest_s or result.cross_s)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-60_000, 130_000), min_size=2, max_size=24))
def test_slope_is_the_median_of_the_exact_slopes(values: list[int]) -> None:
    points = [(i * LENGTH_S, value) for i, value in enumerate(values)]
    exact = [
        Fraction((points[j][1] - points[i][1]) * 3600, points[j][0] - points[i][0])
        for i in range(len(points))
        for j in range(i + 1, len(points))
    ]
    low, middle, high = slopes(points)
    assert low <= middle <= high
    assert abs(middle - statistics.median(exact)) <= 1
    assert median(values) == statistics.median(values) // 1


@pytest.mark.micropython
def test_the_32_bit_interpreter_gives_the_same_bytes(tmp_path: Path) -> None:
    """Another interpreter, with other integers and no dict order: what x86, ARM and two Pythons must agree on."""
    noise = random.Random(3)
    site = []
    for i in range(4):
        values = [4000 + 40 * k * (i == 2) + noise.randrange(-200, 201) for k in range(60)]
        site.append(sensor(f"s{i}", values, low_milli=0, high_milli=8000))
    expected = encode(analyse(site, LENGTH_S, START_S), LENGTH_S, START_S)
    spec = [[one.key, list(one.means.items()), one.low_milli, one.high_milli] for one in site]
    (tmp_path / "site.json").write_text(json.dumps(spec))
    script = (
        "import sys, json\n"
        f"sys.path.insert(0, {str(ROOT / 'firmware')!r})\n"
        "from isocore.analysis import Sensor, analyse, encode\n"
        f"spec = json.load(open({str(tmp_path / 'site.json')!r}))\n"
        "site = [Sensor(k, dict(m), lo, hi) for k, m, lo, hi in spec]\n"
        f"sys.stdout.write(encode(analyse(site, {LENGTH_S}, {START_S}), {LENGTH_S}, {START_S}).decode())\n"
    )
    (tmp_path / "run.py").write_text(script)
    interpreter = find_micropython(root=ROOT)
    command = [*interpreter.command, *interpreter.heap_option(4 << 20), str(tmp_path / "run.py")]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.stdout == expected, done.stderr.decode()
