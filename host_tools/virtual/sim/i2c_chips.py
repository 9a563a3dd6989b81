"""I2C temperature sensors as register files, written from their datasheets: what a driver can see of them, no more.

A chip has `awake()` (it acknowledges its address now), `write(data)` (how many bytes it acknowledged) and
`read_into(buf)` (False: it does not acknowledge). `world` has temp_milli, humidity_milli, fault, the FAULT_ numbers and
was_read(); `clock` has ticks_ms, ticks_add and ticks_diff. Must not know the drivers, and imports nothing, so that
CPython's tests use these very files.

Faults: `crc` spoils Sensirion's checksums (the others have none), `85` takes the chip's power away during a conversion,
`busy` never lets a conversion end; `zero`, `missing`, `short` and `wedged` are the bus's own (i2c.py).
"""


class Chip:
    """A conversion that takes its time, with what was felt at its beginning."""

    def __init__(self, world, clock, description):
        self._world = world
        self._clock = clock
        self._until = clock.ticks_ms()
        self._waiting = False  # for `_until`
        self._temp_milli = 0
        self._humidity_milli = 0
        self._fault = 0

    def _for_ms(self, duration_ms):
        self._until = self._clock.ticks_add(self._clock.ticks_ms(), duration_ms)
        self._waiting = True

    def _feel(self, duration_ms):
        world = self._world
        world.was_read()
        self._temp_milli = world.temp_milli
        self._humidity_milli = world.humidity_milli
        self._fault = world.fault
        self._for_ms(duration_ms)

    def _over(self):
        """True when nothing is going on any more."""
        busy = self._fault == self._world.FAULT_BUSY == self._world.fault
        if self._waiting and not busy:
            self._waiting = self._clock.ticks_diff(self._clock.ticks_ms(), self._until) < 0
        return not self._waiting

    def awake(self):
        return True


# ---- Sensirion


def crc8(data):
    """Sensirion's CRC-8, bit by bit: x^8 + x^5 + x^4 + 1, from 0xFF, most significant bit first."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc <<= 1
            if crc & 0x100:
                crc ^= 0x131
    return crc


class Sensirion(Chip):
    """Commands in, words with checksums out; silent while it converts or starts."""

    RESET_MS = 1

    def __init__(self, world, clock, description):
        super().__init__(world, clock, description)
        self._output = b""
        self._measured = False
        self.heater = bool(description.get("heater"))
        self.commands = []

    def awake(self):
        return self._over()

    def _word(self, value):
        data = bytes((value >> 8, value & 0xFF))
        crc = crc8(data)
        if self._fault == self._world.FAULT_CRC:
            crc ^= 0x5A
        return data + bytes((crc,))

    def _measure(self, duration_ms):
        self._feel(duration_ms)
        self._measured = self._fault != self._world.FAULT_POWER_ON

    def _reset(self):
        self._measured = False
        self._output = b""
        self._fault = 0
        self.heater = False
        self._for_ms(self.RESET_MS)

    def read_into(self, buf):
        if self._measured:
            self._measured = False
            warmer = 3000 if self.heater else 0
            self._output = self._word(raw16(self._temp_milli + warmer + 45000, 175000)) + self._humidity_word()
        if not self._output:
            return False
        for i in range(len(buf)):
            buf[i] = self._output[i] if i < len(self._output) else 0xFF
        self._output = b""
        return True


def raw16(milli, span_milli):
    """The 16-bit word that stands for `milli` of a span."""
    return min(max((milli * 65535 + span_milli // 2) // span_milli, 0), 65535)


class Sht3x(Sensirion):
    """Datasheet SHT3x-DIS: commands of tables 9, 10, 13, 14, 16, 17 and 19; status register of table 18."""

    _SINGLE_MS = {0x2400: 15, 0x240B: 6, 0x2416: 4}  # table 4

    def __init__(self, world, clock, description):
        super().__init__(world, clock, description)
        self._periodic = bool(description.get("periodic"))
        self._status = 0x8010  # alert pending, reset detected

    def write(self, data):
        if len(data) < 2:
            return len(data)
        command = data[0] << 8 | data[1]
        self.commands.append(command)
        if command == 0x3093:
            self._periodic = False
            self._for_ms(1)
        elif self._periodic:
            return 1  # only fetching and the break are answered
        elif command == 0x30A2:
            self._reset()
            self._status |= 0x10
        elif command in self._SINGLE_MS:
            self._measure(self._SINGLE_MS[command])
        elif command == 0xF32D:
            self._output = self._word(self._status | (0x2000 if self.heater else 0))
        elif command == 0x3041:
            self._status &= ~0x8C10
        elif command == 0x306D:
            self.heater = True
        elif command == 0x3066:
            self.heater = False
        else:
            self._status |= 0x02  # command not processed
            return 1
        return len(data)

    def _humidity_word(self):
        return self._word(raw16(self._humidity_milli, 100000))


class Sht4x(Sensirion):
    """Datasheet SHT4x: commands of its command table, one byte each."""

    _MEASURE_MS = {0xFD: 8, 0xF6: 5, 0xE0: 2}

    def write(self, data):
        command = data[0]
        self.commands.append(command)
        if command == 0x94:
            self._reset()
        elif command in self._MEASURE_MS:
            self._measure(self._MEASURE_MS[command])
        elif command == 0x89:
            self._output = self._word(0x1234) + self._word(0x5678)
        else:
            return 0
        return 1

    def _humidity_word(self):
        return self._word(raw16(self._humidity_milli + 6000, 125000))


# ---- registers


class Registers(Chip):
    """A pointer, then data; `_peek(register)` and `_poke(register, byte)` are the chip's."""

    def __init__(self, world, clock, description):
        super().__init__(world, clock, description)
        self._pointer = 0


class Bme280(Registers):
    """BST-BME280-DS002: memory map of table 18, forced mode, compensation figures of table 16."""

    # T1 to T3 are those of the worked example in Bosch's BMP280 datasheet (section 3.12), which has the same sensor
    T = (27504, 26435, -1000)
    H = (75, 362, 0, 318, 50, 30)
    MEASURE_MS = 6

    def __init__(self, world, clock, description):
        super().__init__(world, clock, description)
        self._calibration = {}
        t1, t2, t3 = self.T
        h1, h2, h3, h4, h5, h6 = self.H
        for i, value in enumerate((t1, t2, t3)):
            self._calibration[0x88 + 2 * i] = value & 0xFF
            self._calibration[0x89 + 2 * i] = value >> 8 & 0xFF
        self._calibration[0xA1] = h1
        humidity = (
            h2 & 0xFF,
            h2 >> 8 & 0xFF,
            h3,
            h4 >> 4 & 0xFF,
            (h4 & 15) | (h5 & 15) << 4,
            h5 >> 4 & 0xFF,
            h6 & 0xFF,
        )
        for i, value in enumerate(humidity):
            self._calibration[0xE1 + i] = value
        self._power_up()

    def _power_up(self):
        self._ctrl_hum = self._ctrl_hum_next = self._ctrl_meas = self._config = 0
        self._raw_t = 0x80000
        self._raw_h = 0x8000
        self._updating = True  # im_update: it copies its calibration
        self._for_ms(2)

    def write(self, data):
        self._pointer = data[0]
        for i in range(1, len(data), 2):  # pairs of register and value, section 6.2.1
            self._poke(self._pointer if i == 1 else data[i - 1], data[i])
        return len(data)

    def _poke(self, register, value):
        if register == 0xE0 and value == 0xB6:
            self._fault = 0
            self._power_up()
        elif register == 0xF2:
            self._ctrl_hum_next = value & 7
        elif register == 0xF4:
            self._ctrl_hum = self._ctrl_hum_next
            self._ctrl_meas = value
            if value & 3 in (1, 2):
                self._feel(self.MEASURE_MS)
        elif register == 0xF5:
            self._config = value

    def _settle(self):
        if not self._over():
            return
        self._updating = False
        if not self._ctrl_meas & 3:
            return
        self._ctrl_meas &= 0xFC
        if self._fault == self._world.FAULT_POWER_ON:
            self._power_up()
            return
        if self._ctrl_meas >> 5:
            self._raw_t = raw_temperature(self.T, self._temp_milli / 1000)
        if self._ctrl_hum:
            self._raw_h = raw_humidity(self.T, self.H, self._raw_t, self._humidity_milli / 1000)

    def _peek(self, register):
        if register == 0xD0:
            return 0x60
        if register in self._calibration:
            return self._calibration[register]
        if register == 0xF2:
            return self._ctrl_hum_next
        if register == 0xF3:
            measuring = self._ctrl_meas & 3 and not self._over()
            return (8 if measuring else 0) | (1 if self._updating else 0)
        if register == 0xF4:
            return self._ctrl_meas
        if register == 0xF5:
            return self._config
        data = (0x80, 0, 0, self._raw_t >> 12, self._raw_t >> 4 & 0xFF, (self._raw_t & 15) << 4)
        data += (self._raw_h >> 8, self._raw_h & 0xFF)
        return data[register - 0xF7] if 0xF7 <= register <= 0xFE else 0

    def read_into(self, buf):
        self._settle()
        for i in range(len(buf)):
            buf[i] = self._peek(self._pointer & 0xFF)
            self._pointer += 1
        return True


def fine_temperature(figures, raw):
    """t_fine in double precision (BST-BME280-DS002, appendix A)."""
    t1, t2, t3 = figures
    var1 = (raw / 16384 - t1 / 1024) * t2
    var2 = (raw / 131072 - t1 / 8192) * (raw / 131072 - t1 / 8192) * t3
    return var1 + var2


def relative_humidity(figures, raw, t_fine):
    """%RH in double precision (BST-BME280-DS002, appendix A)."""
    h1, h2, h3, h4, h5, h6 = figures
    var = t_fine - 76800
    var = (raw - (h4 * 64 + h5 / 16384 * var)) * (h2 / 65536 * (1 + h6 / 67108864 * var * (1 + h3 / 67108864 * var)))
    var = var * (1 - h1 * var / 524288)
    return min(max(var, 0.0), 100.0)


def raw_temperature(figures, temp):
    """The 20-bit word with the temperature nearest to `temp` degC, with the four low bits of oversampling x1 empty."""
    return _solve(lambda raw: fine_temperature(figures, raw << 4) / 5120, temp, 0xFFFF) << 4


def raw_humidity(temperature_figures, figures, raw_t, humidity):
    """The 16-bit word with the humidity nearest to `humidity` %RH."""
    t_fine = fine_temperature(temperature_figures, raw_t)
    return _solve(lambda raw: relative_humidity(figures, raw, t_fine), humidity, 0xFFFF)


def _solve(rising, wanted, highest):
    low = 0
    high = highest
    while low < high:
        middle = (low + high) >> 1
        if rising(middle) < wanted:
            low = middle + 1
        else:
            high = middle
    if low and wanted - rising(low - 1) < rising(low) - wanted:
        low -= 1
    return low


class Tmp(Registers):
    """16-bit registers behind a pointer register; a write of one byte only sets the pointer."""

    def write(self, data):
        self._pointer = data[0]
        if len(data) >= 3:
            self._set(self._pointer, data[1] << 8 | data[2])
        return len(data)

    def read_into(self, buf):
        value = self._get(self._pointer)
        for i in range(len(buf)):
            buf[i] = value >> 8 if i % 2 == 0 else value & 0xFF
        return True


class Tmp102(Tmp):
    """SBOS397: pointer, temperature and configuration registers; shutdown mode with one-shot conversions."""

    RESET_CONFIGURATION = 0x60A0
    CONVERSION_MS = 30  # 26 typically, 35 at most

    def __init__(self, world, clock, description):
        super().__init__(world, clock, description)
        self._power_up()

    def _power_up(self):
        self._configuration = self.RESET_CONFIGURATION
        self._raw = 0  # until the first conversion is over
        self._waiting = False

    def _set(self, register, value):
        if register != 1:
            return
        one_shot = value & 0x8000 and value & 0x0100
        self._configuration = value & 0x1FD0 | 0x6020
        if one_shot:
            self._feel(self.CONVERSION_MS)

    def _get(self, register):
        if self._waiting and self._over():
            if self._fault == self._world.FAULT_POWER_ON:
                self._power_up()
            else:
                self._raw = (self._temp_milli * 16 + 500) // 1000
        if register == 0:
            return (self._raw << 4) & 0xFFF0
        if register == 1:
            # OS reads 0 during a one-shot conversion and 1 after it
            return self._configuration | (0x8000 if self._configuration & 0x0100 and not self._waiting else 0)
        return 0x4B00 if register == 2 else 0x5000


class Tmp117(Tmp):
    """SNOSD82: register map with device id, one-shot mode with 8 averages, data-ready flag cleared by reading."""

    CONVERSION_MS = 124  # 8 of 15.5

    def __init__(self, world, clock, description):
        super().__init__(world, clock, description)
        self._identity = description.get("identity", 0x0117)
        self._power_up()

    def _power_up(self):
        self._configuration = 0x0220
        self._raw = 0x8000
        self._ready = False
        self._waiting = False

    def _set(self, register, value):
        if register != 1:
            return
        if value & 0x0002:
            self._power_up()
            return
        self._configuration = value & 0x0FFC
        self._ready = False
        if value & 0x0C00 == 0x0C00:
            self._feel(self.CONVERSION_MS)

    def _get(self, register):
        if self._waiting and self._over():
            if self._fault == self._world.FAULT_POWER_ON:
                self._power_up()
            else:
                self._configuration = self._configuration & ~0x0C00 | 0x0400  # back to shutdown
                self._raw = (self._temp_milli * 128 + 500) // 1000 & 0xFFFF
                self._ready = True
        if register == 0:
            self._ready = False
            return self._raw
        if register == 1:
            value = self._configuration | (0x2000 if self._ready else 0)
            self._ready = False
            return value
        return self._identity if register == 0x0F else 0


KINDS = {"sht3x": Sht3x, "sht4x": Sht4x, "bme280": Bme280, "tmp102": Tmp102, "tmp117": Tmp117}
