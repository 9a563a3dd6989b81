"""What is different on a Pico W: put on the simulated modules before the firmware sees them.

From MicroPython's ports/rp2 (modmachine.c, machine_pin.c, machine_wdt.c, machine_rtc.c) and the RP2040 datasheet: two
causes of a reset, a watchdog of 8.4 s whose registers outlive all but a power cut and say whether it bit or was
forced, an RTC without memory, no deep sleep that remembers, other numbers of pins, time since 1970, no `esp32`.
Must not know the firmware.
"""

import sys
from collections import namedtuple

from sim import clock, host, machine, state

WATCHDOG_BASE = 0x40058000  # RP2040 datasheet, section 4.7.6
_REASON = 2  # words from the base: TIMER in bit 0, FORCE in bit 1
_SCRATCH0 = 3
_SCRATCHES = 8
_BITTEN, _FORCED = 1, 2
_WDT_MAX_MS = 8388

_Implementation = namedtuple("implementation", ("name", "version", "_machine", "_mpy", "_build"))


class Sys:
    """The interpreter's `sys`, as a Pico W has it."""

    platform = "rp2"
    implementation = _Implementation(
        sys.implementation[0],
        sys.implementation[1],
        "Raspberry Pi Pico W with RP2040",
        getattr(sys.implementation, "_mpy", 0),
        "RPI_PICO_W",
    )

    def __getattr__(self, name):
        return getattr(sys, name)


class _Words:
    """`machine.mem32`: the watchdog's registers, kept where a reset does not reach them; others by `beyond`."""

    def __init__(self, beyond):
        self._beyond = beyond
        self._kept = bytearray(state.read_memory())
        if len(self._kept) != 4 * (_SCRATCHES + 1):
            self._kept = bytearray(4 * (_SCRATCHES + 1))

    def _at(self, address):
        """Place of a register that is kept: the reason, then the scratches; None for another."""
        word = (address - WATCHDOG_BASE) // 4
        if _SCRATCH0 <= word < _SCRATCH0 + _SCRATCHES:
            return 4 * (word - _SCRATCH0 + 1)
        return 0 if word == _REASON else None

    def __getitem__(self, address):
        at = self._at(address)
        return self._beyond[address] if at is None else int.from_bytes(self._kept[at : at + 4], "little")

    def __setitem__(self, address, value):
        at = self._at(address)
        if not at:  # the reason is read only
            raise ValueError("nothing may be written at 0x%x here" % address)
        self._keep(at, value)

    def _keep(self, at, value):
        self._kept[at : at + 4] = value.to_bytes(4, "little")
        state.write_memory(self._kept)

    def note(self, cause):
        """Why the chip starts: what its registers then say. A soft reset leaves them as they are."""
        if cause != host.SOFT:
            self._keep(0, {host.POWER_ON: 0, host.WATCHDOG: _BITTEN}.get(cause, _FORCED))

    def reset_cause(self):
        return machine.WDT_RESET if self[WATCHDOG_BASE + 4 * _REASON] else machine.PWRON_RESET


_esp32_rtc = machine.RTC
_Watchdog = machine.WDT


class _Rtc:
    """Date and time; there is no memory in it."""

    def __init__(self, id=0):
        self._clock = _esp32_rtc()

    def datetime(self, new=None):
        return self._clock.datetime(new)


class _Wdt(_Watchdog):
    def __init__(self, id=0, timeout=5000):
        if timeout > _WDT_MAX_MS:
            raise ValueError("timeout exceeds %d" % _WDT_MAX_MS)
        _Watchdog.__init__(self, id, timeout)


def _deepsleep(time_ms=0):
    """A light sleep, and then a reset."""
    clock.skip(time_ms)
    machine.reset()


def _frequency(hz=None):
    return 125_000_000


def dress(cause):
    """Make `machine` a Pico's. `cause`: how the supervisor says that this start came about."""
    sys.modules["sys"] = Sys()
    for name in ("HARD_RESET", "DEEPSLEEP_RESET", "SOFT_RESET"):
        delattr(machine, name)
    machine.ETIMEDOUT = 110  # MicroPython's own numbers, which are Linux's
    words = _Words(getattr(machine, "mem32", {}))
    words.note(cause)
    machine.mem32 = words
    machine.reset_cause = words.reset_cause
    machine.RTC = _Rtc
    machine.WDT = _Wdt
    machine.deepsleep = _deepsleep
    machine.freq = _frequency
    pin = machine.Pin
    pin.IN, pin.OUT, pin.OPEN_DRAIN = 0, 1, 2
    pin.PULL_UP, pin.PULL_DOWN = 1, 2
    pin.IRQ_FALLING, pin.IRQ_RISING = 4, 8
