"""Sensirion SHT3x-DIS (SHT30, 31, 35) and SHT4x (SHT40, 41, 45): temperature and humidity over I2C.

Sources: Sensirion "Datasheet SHT3x-DIS", version 5, and "Datasheet SHT4x". Both give two 16-bit words, each followed by
its CRC-8, after one command; while they convert they do not acknowledge a read. Highest repeatability, no clock
stretching. The heaters are never switched on, and the reset that prepares a chip ends whatever another firmware left
running: heater, periodic mode, alert mode.
"""

from micropython import const

from isocore.record import FAULT_ALL_ZERO, FAULT_CRC
from isonode.sensors.i2c import PREPARED, I2cSensor, is_zero

_RESET_MS = const(2)  # SHT3x table 4 (soft reset 1 ms), SHT4x timing table (soft reset 1 ms)

# SHT3x-DIS: break (table 13), soft reset (table 14), measurement with high repeatability, no stretching (table 9)
_SHT3X_BREAK = b"\x30\x93"
_SHT3X_RESET = b"\x30\xa2"
_SHT3X_MEASURE = b"\x24\x00"
_SHT3X_MEASURE_MS = const(16)  # table 4: 15 ms at most; 15.5 in the newer table for low supply voltage

# SHT4x, command table: soft reset, measurement with high precision
_SHT4X_RESET = b"\x94"
_SHT4X_MEASURE = b"\xfd"
_SHT4X_MEASURE_MS = const(9)  # timing table: 8.3 ms at most


def crc8(buf, start, end):
    """Sensirion's CRC-8 of buf[start:end]: polynomial 0x31, initial value 0xFF (SHT3x table 20). Allocates nothing."""
    crc = 0xFF
    for i in range(start, end):
        crc ^= buf[i]
        for _ in range(8):
            crc = (crc << 1 ^ 0x31) & 0xFF if crc & 0x80 else crc << 1
    return crc


def scaled(raw, fortieth):
    """raw * 40 * fortieth / 65535, rounded, for raw up to 65535 and fortieth up to 4375, in 31 bits.

    65535 is 5 * 13107, so it is raw * fortieth * 8 / 13107; the product stays below 2^29.
    """
    product = raw * fortieth
    whole = product // 13107
    return whole * 8 + ((product - whole * 13107) * 8 + 6553) // 13107


class Sht(I2cSensor):
    """Either family, by the settings' kind."""

    def __init__(self, setting, bus, hal):
        super().__init__(setting, bus, hal)
        self._is_sht4x = setting.kind == "sht4x"
        self._buf = bytearray(6)

    def _prepare(self, stage):
        if self._is_sht4x:
            if stage == 0:
                self._bus.write(self._address, _SHT4X_RESET)
                return _RESET_MS
            return PREPARED
        if stage == 0:
            try:
                self._bus.write(self._address, _SHT3X_BREAK)
            except OSError:
                pass  # it was idle, or is not there: the reset will tell
            return _RESET_MS
        if stage == 1:
            self._bus.write(self._address, _SHT3X_RESET)
            return _RESET_MS
        return PREPARED

    def _convert(self):
        if self._is_sht4x:
            self._bus.write(self._address, _SHT4X_MEASURE)
            return _SHT4X_MEASURE_MS
        self._bus.write(self._address, _SHT3X_MEASURE)
        return _SHT3X_MEASURE_MS

    def _fetch(self):
        buf = self._buf
        self._bus.read_into(self._address, buf)
        self._converting = False
        if is_zero(buf):
            return FAULT_ALL_ZERO
        if crc8(buf, 0, 2) != buf[2] or crc8(buf, 3, 5) != buf[5]:
            return FAULT_CRC
        # T = -45 + 175 * S / 65535 in both datasheets; RH = 100 * S / 65535 (SHT3x), -6 + 125 * S / 65535 (SHT4x),
        # the latter to be cut to 0..100 %RH
        temperature = scaled(buf[0] << 8 | buf[1], 4375) - 45000
        raw = buf[3] << 8 | buf[4]
        humidity = min(max(scaled(raw, 3125) - 6000, 0), 100000) if self._is_sht4x else scaled(raw, 2500)
        return self._keep(temperature, humidity)
