"""The last resort: what brought the application down, kept in a bounded file, and how often in a row.

What counts is a watchdog's bite, an exception that reached main.py, and a reset that nobody announced (a panic of the
chip's own software). After SAFE_AFTER in a row the board starts in safe mode: built-in model, sensors, radio and model
updates only. A power cycle, a reset from the prompt and a planned one end the row; so does running well for a while.

The count lives in memory that survives resets but not a power cut (rtc.py). Knows no stage of the application.
"""

import os
import sys

from isonode import hal, rtc

LOG_PATH = "/crash.log"
OLD_PATH = "/crash.old"
CONFIG_PATH = "/config.json"
LOG_BYTES_MAX = 2048  # then it becomes crash.old, and what was crash.old is gone
ENTRY_BYTES_MAX = 1024  # of one traceback: both files together stay within 2 * (LOG + ENTRY) bytes
SAFE_AFTER = 5
HEALTHY_S = 600  # uptime after which earlier crashes are forgotten
_STAY_S = 3600  # in safe mode, before the whole application is tried again; doubles each time, up to 16 h
_STAYS_MAX = 4
_HOLD_OFF_MS_MAX = 60000

# How the run before ended.
_NOTHING, _RUNNING, _PLANNED, _CRASHED, _RETRY = range(5)


def count():
    """Crashes and watchdog resets in a row, up to the present boot."""
    return rtc.head()[0]


def _keep(number, state, stays=None):
    rtc.keep_head(bytes((min(number, 255), state, rtc.head()[2] if stays is None else stays, 0)))


def on_boot(cause):
    """Judge how the run before ended. Returns the crashes in a row."""
    number, state, stays, _ = rtc.head()
    bitten = cause == hal.RESET_WATCHDOG
    if cause == hal.RESET_POWER_ON or state == _PLANNED or (state == _NOTHING and not bitten):
        number = stays = 0  # after a planned end RP2 goes on naming the bite before it, at each soft reset
    elif cause != hal.RESET_DEEP_SLEEP and (state == _RUNNING or state == _NOTHING):
        number += 1
    _keep(number, _RUNNING, stays)
    return count()


def on_healthy():
    """The application has run for long enough: the row is over."""
    if count():
        _keep(0, _RUNNING, 0)


def on_planned():
    """A reset follows that is meant: it counts as nothing."""
    _keep(0, _PLANNED, 0)


def stay_s():
    """How long to stay in safe mode before the whole application is tried again."""
    return _STAY_S << min(rtc.head()[2], _STAYS_MAX)


def on_leaving():
    """A reset follows that leaves safe mode: one more crash leads back to it, for longer."""
    _keep(SAFE_AFTER - 1, _RETRY, min(rtc.head()[2] + 1, _STAYS_MAX))


def log(error):
    """Write the traceback down and count it. Never raises: the reset that follows must come."""
    _keep(count() + 1, _CRASHED)
    sys.print_exception(error)
    try:
        _write(error)
    except (OSError, MemoryError, ImportError):
        pass  # flash full or broken, or no room left: the console had it


def _write(error):
    try:
        if os.stat(LOG_PATH)[6] > LOG_BYTES_MAX:
            os.rename(LOG_PATH, OLD_PATH)
    except OSError:
        pass  # no log yet
    with open(LOG_PATH, "ab") as file:
        file.write(_traceback(error))
        file.flush()


def _traceback(error):
    """At most ENTRY_BYTES_MAX bytes, the last line whole where it is not longer than half of that."""
    import io

    text = io.StringIO()
    sys.print_exception(error, text)
    data = text.getvalue().encode()
    if len(data) > ENTRY_BYTES_MAX:
        half = ENTRY_BYTES_MAX // 2
        data = data[: half - 5] + b"\n...\n" + data[-half:]
    return data


def hold_off_ms():
    """How long to wait before the reset: a board that crashes at every start must not wear out its flash.

    One that is not provisioned gets on by its cable only, and is best met at rest.
    """
    try:
        os.stat(CONFIG_PATH)
    except OSError:
        return _HOLD_OFF_MS_MAX
    return min(1000 << min(count(), 6), _HOLD_OFF_MS_MAX)


def last_line():
    """Last line of the log, for the health message; "" if there is none."""
    try:
        size = os.stat(LOG_PATH)[6]
        with open(LOG_PATH, "rb") as file:
            file.seek(max(0, size - 128))
            return file.read().decode().strip().split("\n")[-1]
    except (OSError, ValueError):
        return ""
