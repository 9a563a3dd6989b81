"""What the I2C sensors share: the bus, and a reading in steps that neither wait nor raise.

A reading is: prepare the chip (once after power-up, and again after a failure), start a conversion, come back when the
datasheet's longest conversion time is over, fetch. Each is one step of at most 40 bytes on the wire, 4 ms at 100 kHz.
A step that fails begins again at the preparation, TRIES times in all; a chip that is still busy is asked again, at most
POLLS times. After that the reading is a fault, and the next round starts afresh.

A bus whose data line a slave holds low (a reset in the middle of a transfer) reads as zeros or times out. It is freed
with nine clocks before the next try: NXP UM10204, section 3.1.16 "Bus clear".
"""

from micropython import const

from isocore.record import FAULT_ALL_ZERO, FAULT_MISSING, FAULT_RANGE

TRIES = const(3)
POLLS = const(4)
POLL_MS = const(5)
RETRY_MS = const(10)
BUSY = const(-1)  # of `_fetch`: not ready yet
PREPARED = const(-1)  # of `_prepare`: nothing more to do
REFUSED = const(-2)  # of `_prepare`: `_why` says why
_ENODEV = const(19)  # the same number in newlib and Linux: nobody acknowledged the address
_EIO = const(5)  # RP2's word for it; and ours for a command that was not acknowledged


class Bus:
    """One pair of pins with the sensors on it."""

    def __init__(self, scl, sda, hal):
        self._hal = hal
        self._scl = scl
        self._sda = sda
        self._i2c = hal.i2c_open(scl, sda)
        self.freed = 0  # how often a stuck bus was clocked free

    def write(self, address, data):
        """Send `data`. Raises OSError, also when a byte of it was not acknowledged (ports only count those)."""
        if self._i2c.writeto(address, data) != len(data):
            raise OSError(_EIO)

    def read_into(self, address, buf):
        """Fill `buf`. Raises OSError."""
        self._i2c.readfrom_into(address, buf)

    def registers_into(self, address, register, buf):
        """Fill `buf` from `register` on. Raises OSError."""
        self._i2c.readfrom_mem_into(address, register, buf)

    def free(self):
        """Clock out a slave that holds the data line. Never raises."""
        self.freed += 1
        data = self._hal.pin_open(self._sda)
        data.init(data.OPEN_DRAIN, value=1)
        clock = self._hal.pin_open(self._scl)
        clock.init(clock.OPEN_DRAIN, value=1)
        for _ in range(9):
            clock.value(0)  # a call takes longer than the 4.7 us that a level must last (UM10204, table 10)
            clock.value(1)
        clock.value(0)
        data.value(0)
        clock.value(1)
        data.value(1)  # STOP
        self._i2c = self._hal.i2c_open(self._scl, self._sda)


class I2cSensor:
    """Temperature and, where the chip has it, humidity; either may be left out of the settings.

    A chip says with `_prepare(stage)` how it is made ready: milliseconds to wait before it is called with the next
    stage, PREPARED, or REFUSED. `_convert()` starts a conversion and gives the milliseconds it takes at most, or a
    negative FAULT_* when it has not started: where old data could be taken for new, a lost command must be noticed.
    `_fetch()` gives 0 after `_keep`, a FAULT_*, or BUSY. All three may raise OSError.
    """

    TEMP_MIN_MILLI = -40000
    TEMP_MAX_MILLI = 125000

    def __init__(self, setting, bus, hal):
        self.channels = tuple(sorted(setting.channels.values()))
        self.values = [0] * len(self.channels)
        self.faults = [0] * len(self.channels)
        temperature = setting.channels.get("temperature")
        humidity = setting.channels.get("humidity")
        self._temperature_at = -1 if temperature is None else self.channels.index(temperature)
        self._humidity_at = -1 if humidity is None else self.channels.index(humidity)
        self._address = setting.address
        self._bus = bus
        self._hal = hal
        self._prepared = False
        self._stage = 0
        self._converting = False
        self._tries = 0
        self._polls = 0
        self._why = 0
        self._since = 0
        self._pause_ms = 0

    def start(self, now):
        """Begin a reading, as far as one step goes."""
        self._tries = TRIES
        self._stage = 0
        self._converting = False
        self._step()

    def wait_ms(self, now):
        """Until the next step is worth taking."""
        left = self._pause_ms - self._hal.ticks_diff(now, self._since)
        return left if left > 0 else 0

    def read(self, now):
        """One step; True when the reading is final."""
        return self._step()

    def _step(self):
        try:
            if not self._prepared:
                return self._make_ready()
            if not self._converting:
                pause_ms = self._convert()
                if pause_ms < 0:
                    return self._failed(-pause_ms, -pause_ms == FAULT_ALL_ZERO)
                self._pause(pause_ms)
                self._converting = True
                self._polls = POLLS
                return False
            code = self._fetch()
        except OSError as error:
            number = error.args[0] if error.args else 0
            return self._failed(FAULT_MISSING, number != _ENODEV and number != _EIO)
        if code == 0:
            self._pause_ms = 0
            return True
        if code != BUSY:
            return self._failed(code, code == FAULT_ALL_ZERO)
        self._polls -= 1
        if self._polls <= 0:
            return self._failed(FAULT_MISSING, False)
        self._pause(POLL_MS)
        return False

    def _make_ready(self):
        pause_ms = self._prepare(self._stage)
        if pause_ms == REFUSED:
            return self._failed(self._why, self._why == FAULT_ALL_ZERO)
        self._stage += 1
        self._prepared = pause_ms == PREPARED
        self._pause(0 if self._prepared else pause_ms)
        return False

    def _failed(self, code, stuck):
        """Count a try that came to nothing; True when it was the last."""
        if stuck:
            self._bus.free()
        self._prepared = False
        self._converting = False
        self._stage = 0
        self._tries -= 1
        self._pause(RETRY_MS)
        if self._tries > 0:
            return False
        for i in range(len(self.faults)):
            self.faults[i] = code
        return True

    def _pause(self, duration_ms):
        self._since = self._hal.ticks_ms()
        self._pause_ms = duration_ms

    def _refuse(self, code):
        self._why = code
        return REFUSED

    def _keep(self, temperature_milli, humidity_milli):
        """Take a reading; what the chip cannot measure is FAULT_RANGE on its channel."""
        at = self._temperature_at
        if at >= 0:
            within = self.TEMP_MIN_MILLI <= temperature_milli <= self.TEMP_MAX_MILLI
            self.faults[at] = 0 if within else FAULT_RANGE
            self.values[at] = temperature_milli
        at = self._humidity_at
        if at >= 0:
            self.faults[at] = 0 if 0 <= humidity_milli <= 100000 else FAULT_RANGE
            self.values[at] = humidity_milli
        return 0


def is_zero(buf):
    """True when nothing but zeros came."""
    for i in range(len(buf)):
        if buf[i]:
            return False
    return True
