"""The board's `machine` module: pins, watchdog, RTC, reset and its cause, and the tap that counts samples.

Same names and numbers as the ESP32 port, until rp2.py puts on a Pico's. Below a pin hangs whatever `silicon` has put
there. Writes to output pins are reported as events, so that the supervisor sees relays, LEDs and buzzers. Must not know
the firmware.
"""

import struct
import time

from sim import clock, host, player, silicon, state
from sim.timer import Timer  # noqa: F401 - part of `machine`

PWRON_RESET = host.POWER_ON
HARD_RESET = host.HARD
WDT_RESET = host.WATCHDOG
DEEPSLEEP_RESET = host.DEEP_SLEEP
SOFT_RESET = host.SOFT

_PIN_EVENTS = 10  # a pin that changes more often in a status period is reported once more, with its count of writes
_UNIX_2000_S = 946_684_800

_cause = host.POWER_ON
_unique = b"\0\0\0\0\0\0"
_pins = {}
_changed = []  # pins with events in this status period

tap_boot = 0  # the firmware's boot counter, for the tap's rows


def start(cause, unique):
    global _cause, _unique
    _cause = cause
    _unique = unique
    host.commands["pin"] = _pin_command


# ---- pins


class Pin:
    IN = 1
    OUT = 3
    OPEN_DRAIN = 7
    PULL_DOWN = 1
    PULL_UP = 2
    IRQ_RISING = 1
    IRQ_FALLING = 2

    def __new__(cls, number, *args, **options):
        pin = _pins.get(number)
        if pin is None:
            pin = object.__new__(cls)
            pin.number = number
            pin._mode = cls.IN
            pin._pull = None
            pin._value = 0
            pin._driven = None  # what the world outside puts on it
            pin._handler = None
            pin._trigger = 0
            pin._shown = None
            pin._shown_count = 0  # events in this status period
            pin._writes = 0
            pin.watch = None  # called with each level that is written, instead of reporting it: a bus clock
            _pins[number] = pin
        return pin

    def __init__(self, number, mode=-1, pull=-1, *, value=None, drive=None, hold=None, alt=None):
        self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=-1, *, value=None, drive=None, hold=None, alt=None):
        if pull != -1:
            self._pull = pull
        if value is not None:
            self._value = 1 if value else 0
        if mode != -1:
            self._mode = mode
        if self._mode == self.OUT:
            self._report(value is not None)

    def value(self, new=None):
        if new is not None:
            self._value = 1 if new else 0
            if self.watch is not None:
                self.watch(self._value)
            elif self._mode != self.IN:
                self._report(True)
            return None
        if self._mode == self.OUT or (self._mode == self.OPEN_DRAIN and not self._value):
            return self._value
        if self._driven is not None:
            return self._driven
        return 1 if self._pull == self.PULL_UP else 0

    def __call__(self, new=None):
        return self.value(new)

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def toggle(self):
        self.value(1 - self._value)

    def irq(self, handler=None, trigger=None, *, wake=None, hard=False):
        self._handler = handler
        self._trigger = self.IRQ_RISING | self.IRQ_FALLING if trigger is None else trigger
        return self

    def has_listener(self):
        return self._handler is not None and self._trigger & self.IRQ_RISING

    def drive(self, level):
        """The world outside puts a level on the pin; an edge calls the handler."""
        before = self.value()
        self._driven = level
        now = self.value()
        if now != before and self._handler and self._trigger & (self.IRQ_RISING if now else self.IRQ_FALLING):
            self._handler(self)

    def _report(self, written):
        if written:
            self._writes += 1
        if self._value == self._shown:
            return
        if self._shown_count < _PIN_EVENTS:
            if not self._shown_count:
                _changed.append(self)
            self._emit()
        else:
            self._shown_count = _PIN_EVENTS + 1

    def _emit(self):
        self._shown = self._value
        self._shown_count += 1
        host.emit(
            "pin",
            {"pin": self.number, "value": self._value, "writes": self._writes, "uptime_ms": clock.uptime_ms()},
        )

    def __repr__(self):
        return "Pin(" + repr(self.number) + ")"


def report_pins():
    """Report what came too fast to be reported one by one, and begin a new status period."""
    while _changed:
        pin = _changed.pop()
        if pin._shown_count > _PIN_EVENTS:
            pin._emit()
        pin._shown_count = 0


def _pin_command(words):
    Pin(int(words[0])).drive(1 if words[1] == "1" else 0)


def __getattr__(name):
    """Buses are loaded by boards that have them."""
    if name in ("SoftI2C", "I2C"):
        from sim import i2c

        i2c.etimedout = ETIMEDOUT
        return i2c.SoftI2C
    raise AttributeError("module 'machine' has no attribute '" + name + "'")


def dht_readinto(pin, buf):
    sensor = silicon.dht_at.get(pin.number)
    if len(buf) < 4:
        raise ValueError("buffer too small")
    if sensor is None or not sensor.read_into(buf):
        raise OSError(ETIMEDOUT)


ETIMEDOUT = 116  # newlib's number on ESP32; runner.py sets it for other chips


class ADC:
    """Enough of an ADC for the RP2040's temperature sensor: input 4, 27 C at 0.706 V, -1.721 mV a degree (4.9.5)."""

    CORE_TEMP = 4

    def __init__(self, source):
        self._source = source

    def read_u16(self):
        if self._source != self.CORE_TEMP:
            return 0
        return (706_000 - (player.temp_milli + CHIP_WARMER_MILLI - 27_000) * 1721 // 1000) * 65_535 // 3_300_000


CHIP_WARMER_MILLI = 15_000  # a chip with its radio on against the air around it


# ---- watchdog, sleep and reset


class WDT:
    _armed = None

    def __init__(self, id=0, timeout=5000):
        WDT._armed = host.Watchdog(timeout)

    def feed(self):
        WDT._armed.feed()


def _restart(cause):
    clock.on_status()
    clock.on_save()
    host.leave(host.EXIT_RESET_BASE + cause + (host.EXIT_AT_PROMPT if host.at_prompt else 0))


def reset():
    _restart(host.HARD)


on_soft_reset = None  # set by runner: what outlives the process is noted there


def soft_reset():
    if on_soft_reset is not None:
        on_soft_reset()
    _restart(host.SOFT)


def reset_cause():
    return _cause


def deepsleep(time_ms=0):
    if not time_ms:
        clock.wait(clock.idle, clock.FOREVER, clock.FOREVER)  # no timer wakes it: until the power goes
    clock.skip(time_ms)
    _restart(host.DEEP_SLEEP)


def lightsleep(time_ms=0):
    clock.sleep_ms(time_ms)


def idle():
    clock.sleep_ms(1)


def unique_id():
    return _unique


def freq(hz=None):
    return 160_000_000


def disable_irq():
    return 0


def enable_irq(irq_state=0):
    pass


class RTC:
    """The RTC and its memory; its clock goes on with run time, and its memory survives all but a power cut."""

    def __init__(self, id=0):
        pass

    def memory(self, data=None):
        if data is None:
            return state.read_memory()
        state.write_memory(data)
        return None

    def datetime(self, new=None):
        if new is None:
            clock.sync()
            t = time.gmtime(wall_unix_s())
            return (t[0], t[1], t[2], t[6], t[3], t[4], t[5], clock.run_ms * 1000)
        wanted = time.mktime((new[0], new[1], new[2], new[4], new[5], new[6], 0, 0, 0)) - _local_offset_s()
        state.wall_correction_s += wanted - wall_unix_s()
        clock.on_save()
        return None

    def init(self, new):
        self.datetime(new)


_epoch_unix_s = _UNIX_2000_S


def set_epoch(unix_s):
    """Wall time at run time 0."""
    global _epoch_unix_s
    _epoch_unix_s = unix_s


def wall_unix_s():
    clock.sync()
    return _epoch_unix_s + state.wall_correction_s + clock.run_s


def _local_offset_s():
    """What the host's mktime, which knows zones, adds to a day of a board, which does not."""
    return time.mktime((2000, 1, 1, 0, 0, 0, 0, 0, 0)) - _UNIX_2000_S


# ---- the tap: what the firmware accepted, written past it, so that a run can be reconciled

_TAP_LOW_AT = 20  # offset of the real time in a row of <BBHIIIiq
_tap_row = bytearray(28)
_tap_file = None
_tap_us = 0  # real ticks at the anchor
_tap_low = 0  # unix microseconds at the anchor, low 24 bits ...
_tap_high = 0  # ... and the rest


def open_tap(path):
    global _tap_file
    _tap_file = open(path, "ab")
    anchor_tap()


def anchor_tap():
    """Note the real time, so that `tap` can get at it with small integers only."""
    global _tap_us, _tap_low, _tap_high
    unix_us = time.time_ns() // 1000
    _tap_us = time.ticks_us()
    _tap_low = unix_us & 0xFFFFFF
    _tap_high = unix_us >> 24


def tap(kind, channel, value, seq, t_s, t_ms):
    """Append one row to the samples file. One write, nothing allocated, nothing left behind in a buffer."""
    low = _tap_low + clock.ticks_diff(time.ticks_us(), _tap_us)
    struct.pack_into("<BBHIIIi", _tap_row, 0, kind, channel, t_ms, tap_boot, seq, t_s, value)
    struct.pack_into("<I", _tap_row, _TAP_LOW_AT, low & 0xFFFFFF)
    struct.pack_into("<I", _tap_row, _TAP_LOW_AT + 3, _tap_high + (low >> 24))
    _tap_file.write(_tap_row)
