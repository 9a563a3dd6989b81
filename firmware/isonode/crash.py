"""The last resort: what brought the application down, kept in a bounded file, and how often in a row.

The count lives in memory that survives resets but not a power cut, so power cycles by a user never lead to safe mode
(where a chip has no such memory, as RP2, the count stays 0). Knows no stage of the application.
"""

import os
import sys

from isonode import hal

LOG_PATH = "/crash.log"
LOG_BYTES_MAX = 2048  # then it becomes crash.old, and what was crash.old is gone
SAFE_AFTER = 5  # crash or watchdog resets in a row
_MAGIC = b"ISC1"


def count():
    """Crash and watchdog resets in a row, up to the present boot."""
    memory = hal.rtc_memory()
    return memory[4] if len(memory) >= 5 and memory[:4] == _MAGIC else 0


def _keep(number):
    hal.set_rtc_memory(_MAGIC + bytes((min(number, 255),)))


def on_boot(cause):
    """Count a watchdog's reset; a user's reset and a power cut end the row. Returns the count."""
    if cause == hal.RESET_WATCHDOG:
        _keep(count() + 1)
    elif cause == hal.RESET_POWER_ON:
        _keep(0)
    return count()


def on_healthy():
    """The application has run for long enough: the row is over."""
    if count():
        _keep(0)


def log(error):
    """Write the traceback down and count it. Never raises: the reset that follows must come."""
    _keep(count() + 1)
    sys.print_exception(error)
    try:
        try:
            if os.stat(LOG_PATH)[6] > LOG_BYTES_MAX:
                os.rename(LOG_PATH, "/crash.old")
        except OSError:
            pass  # no log yet
        with open(LOG_PATH, "a") as file:
            sys.print_exception(error, file)
    except OSError:
        pass  # flash full or broken: the console had it


def hold_off_ms():
    """How long to wait before the reset: a board that crashes at every start must not wear out its flash."""
    return min(1000 << min(count(), 6), 60000)


def last_line():
    """Last line of the log, for the health message; "" if there is none."""
    try:
        size = os.stat(LOG_PATH)[6]
        with open(LOG_PATH, "rb") as file:
            file.seek(max(0, size - 128))
            return file.read().decode().strip().split("\n")[-1]
    except (OSError, ValueError):
        return ""
