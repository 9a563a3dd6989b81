"""What a site's windows say: which sensor leaves its neighbours, and which will cross a limit, and when.

The one analysis for both sides: gateway and cloud hand it the same windows (aggregate.py) and get the same results, and
the same bytes of them (`encode`), on every machine. Therefore everything is an integer, every division says how it
rounds, and nothing depends on the order in which sensors or windows come. Boards do not load this file. It knows no
clock, no store and no policy; whether a score is an alarm is the caller's to say.

    score   A sensor's baseline is the median of its windows before the last. What it is off by, less what the site's
            sensors are off by together (their median, of three or more), is its deviation. The score is the last
            deviation in units of the earlier ones' scatter (median absolute deviation, scaled to a standard deviation):
            a warm day moves every room and scores nowhere; one warm room, or one drifting sensor, scores.
    trend   The median of the slopes between all pairs of the last windows (Theil 1950, Sen 1968), with Sen's interval
            of 95 % from Kendall's variance. There is a crossing only if both ends of the interval point at the limit,
            each half of the windows moves that way by itself (a single step is none), and the limit is met within as
            much time as was looked back on: nothing is extrapolated further than it was seen.
"""

import json

VERSION = 1  # of the results: goes up whenever the same windows would give others
SCORE_WINDOWS_MIN = 12  # before the last one; fewer score nothing
SCORE_WINDOWS_MAX = 288  # older ones are left out: a day of 5-minute windows
SCORE_MAX_MILLI = 1000000
SCATTER_MILLI_MIN = 100  # a DHT22's resolution: what is below it is no deviation
TREND_WINDOWS_MIN = 8
TREND_WINDOWS_MAX = 24
NEIGHBOURS_MIN = 3  # of two sensors that part, none can say which one left
_MAD_TO_DEVIATION = (14826, 10000)  # of a normal distribution
_Z = (196, 100)  # 95 %


def median(values):
    """The middle of integers; of an even count the mean of the middle two, rounded down. At least one value."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) // 2


def scatter(values):
    """Robust standard deviation, rounded down: 1.4826 times the median distance from the median."""
    middle = median(values)
    return median([abs(value - middle) for value in values]) * _MAD_TO_DEVIATION[0] // _MAD_TO_DEVIATION[1]


class Sensor:
    """One sensor's windows.

    key: text that names it, unique at its site. means: {start_s: mean in milli-units} of windows of one length; leave
    out a window without a value. low_milli, high_milli: limits to look out for, or None.
    """

    def __init__(self, key, means, low_milli=None, high_milli=None):
        self.key = key
        self.means = means
        self.low_milli = low_milli
        self.high_milli = high_milli


class Result:
    """What is found of one sensor; see `analyse`. Times are in s, everything else in milli-units or None."""

    def __init__(self, key):
        self.key = key
        self.value_milli = None
        self.deviation_milli = None  # from its own baseline and its neighbours
        self.score_milli = None  # thousandths of a scatter
        self.slope_milli_h = None
        self.limit_milli = None  # that will be crossed; None: no crossing is foreseen
        self.cross_s = None  # from the end of the last window on
        self.earliest_s = None
        self.latest_s = None  # None, with a cross_s: perhaps not within four times that span

    def as_list(self):
        """The fields in order."""
        return [
            self.key,
            self.value_milli,
            self.deviation_milli,
            self.score_milli,
            self.slope_milli_h,
            self.limit_milli,
            self.cross_s,
            self.earliest_s,
            self.latest_s,
        ]


def analyse(sensors, length_s, start_s):
    """Results of the window [start_s, start_s + length_s) of a site's sensors, sorted by key.

    sensors: Sensor objects; windows that start later than `start_s` are not looked at. A sensor without that window
    has a result of Nones, since silence is found elsewhere. The same input gives the same output, in any order.
    """
    results = []
    ordered = sorted(sensors, key=lambda sensor: sensor.key)
    deviations = _deviations(ordered, length_s, start_s)
    for sensor in ordered:
        result = Result(sensor.key)
        value = sensor.means.get(start_s)
        if value is not None:
            result.value_milli = value
            _score(result, deviations[sensor.key], start_s)
            _look_ahead(result, sensor, length_s, start_s)
        results.append(result)
    return results


def encode(results, length_s, start_s):
    """The bytes of a window's results: JSON, canonical. Both sides store these, and compare by them."""
    rows = [result.as_list() for result in results]
    return json.dumps([VERSION, length_s, start_s, rows], separators=(",", ":")).encode()


def windows_needed():
    """How many windows, the last one included, the analysis looks at."""
    return SCORE_WINDOWS_MAX + 1


# ---- score


def _deviations(sensors, length_s, start_s):
    """{key: {start_s: what the sensor is off by, beyond its site}}"""
    first_s = start_s - SCORE_WINDOWS_MAX * length_s
    residuals = {}
    for sensor in sensors:
        before = [value for at_s, value in sensor.means.items() if first_s <= at_s < start_s]
        if len(before) < SCORE_WINDOWS_MIN:
            residuals[sensor.key] = {}
            continue
        baseline = median(before)
        residuals[sensor.key] = {
            at_s: value - baseline for at_s, value in sensor.means.items() if first_s <= at_s <= start_s
        }
    by_time = {}
    for own in residuals.values():
        for at_s, residual in own.items():
            by_time.setdefault(at_s, []).append(residual)
    site = {at_s: median(all_) for at_s, all_ in by_time.items() if len(all_) >= NEIGHBOURS_MIN}
    return {
        key: {at_s: residual - site.get(at_s, 0) for at_s, residual in own.items()} for key, own in residuals.items()
    }


def _score(result, deviations, start_s):
    now = deviations.get(start_s)
    if now is None:
        return
    unit = max(SCATTER_MILLI_MIN, scatter([value for at_s, value in deviations.items() if at_s != start_s]))
    size = min(SCORE_MAX_MILLI, abs(now) * 1000 // unit)
    result.deviation_milli = now
    result.score_milli = size if now >= 0 else -size


# ---- trend


def _look_ahead(result, sensor, length_s, start_s):
    """Set the slope and, where there is one, the crossing."""
    first_s = start_s - (TREND_WINDOWS_MAX - 1) * length_s
    points = sorted((at_s, value) for at_s, value in sensor.means.items() if first_s <= at_s <= start_s)
    if len(points) < TREND_WINDOWS_MIN:
        return
    slow, slope, fast = slopes(points)
    result.slope_milli_h = slope
    if slow <= 0 <= fast:
        return  # it may as well stand still, or go the other way
    half = len(points) // 2
    if not _same_way(slope, points[:half]) or not _same_way(slope, points[half:]):
        return
    limit = sensor.high_milli if slope > 0 else sensor.low_milli
    if limit is None:
        return
    # A mean stands for the middle of its window; the crossing is counted from the end of the last one.
    end_s = start_s + length_s
    level = median([value + slope * (end_s - at_s - length_s // 2) // 3600 for at_s, value in points])
    span_s = end_s - points[0][0]
    missing = limit - level
    if missing * slope <= 0:
        return  # past it already: that is an alarm's business
    cross_s = _time_to(missing, slope)
    if cross_s is None or cross_s > span_s:
        return
    steep, shallow = (fast, slow) if slope > 0 else (slow, fast)
    result.limit_milli = limit
    result.cross_s = cross_s
    result.earliest_s = _time_to(missing, steep)
    latest_s = _time_to(missing, shallow)
    result.latest_s = latest_s if latest_s is not None and latest_s <= 4 * span_s else None


def slopes(points):
    """(lower end, median, upper end) of the slope in milli-units an hour; the ends are those of Sen's 95 % interval.

    points: (s, milli-units), all at different times, at least two.
    """
    n = len(points)
    found = sorted(
        (points[j][1] - points[i][1]) * 3600 // (points[j][0] - points[i][0]) for i in range(n) for j in range(i + 1, n)
    )
    # Kendall's S has variance n (n - 1) (2 n + 5) / 18; the interval's ends stand z of its deviations apart, in ranks.
    width = _isqrt(n * (n - 1) * (2 * n + 5) * _Z[0] * _Z[0] // (18 * _Z[1] * _Z[1]))
    low = max(0, (len(found) - width) // 2 - 1)
    high = min(len(found) - 1, (len(found) + width + 1) // 2)
    return found[low], median(found), found[high]


def _same_way(slope, points):
    """Whether these points alone move as `slope` does."""
    return slopes(points)[1] * slope > 0


def _time_to(missing, slope_milli_h):
    """Whole seconds, rounded down, until `missing` is made up for; None when it never is."""
    if missing * slope_milli_h <= 0:
        return None
    return abs(missing) * 3600 // abs(slope_milli_h)


def _isqrt(value):
    """The integer square root, by Newton's method."""
    if value < 2:
        return value
    root = value
    better = (root + 1) // 2
    while better < root:
        root = better
        better = (root + value // root) // 2
    return root
