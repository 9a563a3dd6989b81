"""What one record may be: the kinds, the fault codes and their names.

A record is (seq, kind, channel, value, uptime, trend). Its identity is (device, boot, seq). `value` is an integer in
milli-units (m degC, m%RH) for reports and alarms; for the other kinds it is what the table says.

    kind            value
    SAMPLE          the reading: first one, after a fault, heartbeat, or every one when the predictor is "none"
    DELTA           the reading had left the error bound around the last report: a value within the bound of it
    *_ON, *_OFF     the reading that switched the alarm (for RATE: the change in milli-units a minute)
    FAULT           fault code; the channel's readings are not to be trusted until FAULT_CLEARED
    FAULT_CLEARED   the fault code that ended
    LOST            n: the outbox was full; this record took the place, and the seq, of the last of n records evicted
                    in a row, so the sequence stays gapless: (seq - n, seq] is accounted for
    BOOT            reset cause
    WINDOW_*        one figure of a window summary; the four share their uptime, the end of the window

`trend` belongs to reports: how the value is to be carried on until the next one (predict.py). Reports are in order of
uptime among themselves; an alarm, a fault or a window may stand before a report that is older.

Reports (SAMPLE, DELTA) are the samples that travel; events are all that must never be thinned.
"""

SAMPLE = 1
DELTA = 2
HIGH_ON = 3
HIGH_OFF = 4
LOW_ON = 5
LOW_OFF = 6
RATE_ON = 7
RATE_OFF = 8
FAULT = 9
FAULT_CLEARED = 10
LOST = 11
BOOT = 12
WINDOW_MIN = 13
WINDOW_MEAN = 14
WINDOW_MAX = 15
WINDOW_COUNT = 16

KIND_NAMES = (
    "",
    "sample",
    "delta",
    "high_on",
    "high_off",
    "low_on",
    "low_off",
    "rate_on",
    "rate_off",
    "fault",
    "fault_cleared",
    "lost",
    "boot",
    "window_min",
    "window_mean",
    "window_max",
    "window_count",
)
KIND_LAST = WINDOW_COUNT

FAULT_CRC = 1  # checksum of the sensor's own frame or scratchpad
FAULT_POWER_ON = 2  # what a sensor shows before its first conversion, such as the DS18B20's 85 degC (table 1, note)
FAULT_ALL_ZERO = 3  # zeros: pass a DHT's checksum and a DS18B20's CRC; a bus shorted or held to ground
FAULT_RANGE = 4  # outside what the sensor can measure, or outside the model's valid range
FAULT_STUCK = 5  # unchanged for the model's stuck time
FAULT_MISSING = 6  # no answer from the sensor

FAULT_NAMES = ("", "crc", "power_on", "all_zero", "range", "stuck", "missing")

BOARD_CHANNEL = 255  # channel of records that belong to the board itself (LOST, BOOT)

# Integers a board handles without allocating: 31-bit small integers (MicroPython object representation A).
SMALL_INT_MAX = 0x3FFFFFFF
# Any reading and any limit stays within this, so that a difference of two still is a small integer.
VALUE_MAX = 0x1FFFFFFF


def is_report(kind):
    """True for records that carry a sample (SAMPLE, DELTA)."""
    return kind == SAMPLE or kind == DELTA


def is_alarm(kind):
    """True for alarm on and off records of any limit."""
    return HIGH_ON <= kind <= RATE_OFF


def is_event(kind):
    """True for alarm, fault, lost and boot records: counted apart from reports, evicted last."""
    return HIGH_ON <= kind <= BOOT
