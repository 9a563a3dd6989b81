"""Bosch BME280: temperature and humidity over I2C (its pressure is not measured, which saves power and time).

Source: Bosch "BME280 Combined humidity and pressure sensor, Data sheet", BST-BME280-DS002. Forced mode with
oversampling x1, the datasheet's setting for weather monitoring (section 3.5.1) without pressure. The chip has no
checksum on the wire: its calibration is read twice and must be the same, and each reading comes in one burst with the
control registers, which show whether the conversion was the one that was asked for.
"""

from micropython import const

from isocore.record import FAULT_ALL_ZERO, FAULT_CRC, FAULT_MISSING, FAULT_POWER_ON, FAULT_RANGE
from isonode.sensors.i2c import BUSY, PREPARED, I2cSensor, is_zero

# Registers, table 18 (memory map) and sections 5.4.1 to 5.4.8
_ID = const(0xD0)
_CHIP_BME280 = const(0x60)
_RESET = b"\xe0\xb6"
_RESET_MS = const(3)  # table 1: start-up time 2 ms
_CALIBRATION_1 = const(0x88)  # dig_T1 to dig_T3, each low byte first, ...
_CALIBRATION_H1 = const(0xA1)
_CALIBRATION_2 = const(0xE1)  # ... and dig_H2 to dig_H6
_CTRL_HUM_X1 = b"\xf2\x01"  # takes effect with the next write to ctrl_meas
_CTRL_MEAS_FORCED = b"\xf4\x21"  # osrs_t = 001, osrs_p = 000 (skipped), mode = 01
_CTRL_MEAS = const(0xF4)
_CTRL_MEAS_DONE = const(0x20)  # the chip itself goes back to sleep mode, 00
_BURST = const(0xF2)  # ctrl_hum, status, ctrl_meas, config, reserved, 3 of pressure, 3 of temperature, 2 of humidity
_STATUS = const(0xF3)
_STATUS_MEASURING = const(0x08)
_STATUS_IM_UPDATE = const(0x01)
_MEASURE_MS = const(7)  # appendix B: 1.25 + 2.3 (temperature) + 2.3 + 0.575 (humidity) = 6.425 ms at most
_SKIPPED_T = const(0x80000)  # what the data registers hold after a reset
_SKIPPED_H = const(0x8000)


class Bme280(I2cSensor):
    """One BME280."""

    TEMP_MIN_MILLI = -40000  # table 1: operating range
    TEMP_MAX_MILLI = 85000

    def __init__(self, setting, bus, hal):
        super().__init__(setting, bus, hal)
        self._buf = bytearray(13)
        self._one = bytearray(1)
        self._calibration = None

    def _prepare(self, stage):
        if stage == 0:
            self._bus.write(self._address, _RESET)
            return _RESET_MS
        one = self._one
        self._bus.registers_into(self._address, _ID, one)
        if one[0] != _CHIP_BME280:
            return self._refuse(FAULT_MISSING if one[0] else FAULT_ALL_ZERO)
        self._bus.registers_into(self._address, _STATUS, one)
        if one[0] & _STATUS_IM_UPDATE:  # it still copies its calibration
            return self._refuse(FAULT_MISSING)
        first = self._read_calibration()
        if first != self._read_calibration():
            return self._refuse(FAULT_CRC)
        if is_zero(first):
            return self._refuse(FAULT_ALL_ZERO)
        self._calibration = Calibration(first)
        self._bus.write(self._address, _CTRL_HUM_X1)
        return PREPARED

    def _read_calibration(self):
        """The 14 bytes that matter: 0x88..0x8D, 0xA1, 0xE1..0xE7."""
        temperature = bytearray(6)
        self._bus.registers_into(self._address, _CALIBRATION_1, temperature)
        h1 = bytearray(1)
        self._bus.registers_into(self._address, _CALIBRATION_H1, h1)
        humidity = bytearray(7)
        self._bus.registers_into(self._address, _CALIBRATION_2, humidity)
        return bytes(temperature + h1 + humidity)

    def _convert(self):
        self._bus.write(self._address, _CTRL_MEAS_FORCED)
        self._bus.registers_into(self._address, _CTRL_MEAS, self._one)
        if self._one[0] == _CTRL_MEAS_FORCED[1]:
            return _MEASURE_MS
        return -FAULT_MISSING if self._one[0] else -FAULT_ALL_ZERO  # it is idle: the command was lost

    def _fetch(self):
        buf = self._buf
        self._bus.registers_into(self._address, _BURST, buf)
        if is_zero(buf):
            return FAULT_ALL_ZERO
        if buf[0] & 7 != 1 or buf[2] & 0xFC != _CTRL_MEAS_DONE:
            return FAULT_POWER_ON  # not what was written: it has been reset since
        if buf[1] & _STATUS_MEASURING or buf[2] & 3:
            return BUSY
        self._converting = False
        raw_t = buf[8] << 12 | buf[9] << 4 | buf[10] >> 4
        raw_h = buf[11] << 8 | buf[12]
        if raw_t == _SKIPPED_T or raw_h == _SKIPPED_H:
            return FAULT_POWER_ON
        calibration = self._calibration
        fine = calibration.fine(raw_t)
        milli = (fine * 25 + 64) >> 7  # t_fine / 5120 degC
        if not self.TEMP_MIN_MILLI <= milli <= self.TEMP_MAX_MILLI:
            return FAULT_RANGE  # nor is the humidity worth anything, which depends on it
        return self._keep(milli, calibration.humidity_milli(raw_h, fine))


class Calibration:
    """The chip's own figures and the datasheet's integer formulas (section 4.2.3, 32-bit), cut to fit 31 bits.

    Where the datasheet multiplies and shifts, one factor is taken apart at the shift, so that the result is the same
    to the bit and no step leaves a small integer, whatever the figures are.
    """

    def __init__(self, data):
        """data: 14 bytes, 0x88..0x8D, 0xA1, 0xE1..0xE7 (table 16)."""
        self.t1 = data[0] | data[1] << 8
        self.t2 = _signed(data[2] | data[3] << 8, 16)
        self.t3 = _signed(data[4] | data[5] << 8, 16)
        self.h1 = data[6]
        self.h2 = _signed(data[7] | data[8] << 8, 16)
        self.h3 = data[9]
        self.h4 = _signed(data[10] << 4 | data[11] & 0x0F, 12)
        self.h5 = _signed(data[12] << 4 | data[11] >> 4, 12)
        self.h6 = _signed(data[13], 8)

    def fine(self, raw):
        """`t_fine`, in 1/5120 degC, of a 20-bit temperature; a far too large one is cut to 2^19 - 1 (102 degC)."""
        a = (raw >> 3) - (self.t1 << 1)
        fine = a * (self.t2 >> 11) + (a * (self.t2 & 2047) >> 11)
        b = (raw >> 4) - self.t1
        if -32768 < b < 32768:
            b = b * b >> 12
            fine += (b * (self.t3 >> 11) + (b * (self.t3 & 2047) >> 11)) >> 3
        return min(max(fine, -524287), 524287)

    def humidity_milli(self, raw, fine):
        """m%RH, 0..100000, of a 16-bit humidity at `fine`, which is within the operating range."""
        v = fine - 76800
        a = raw - (self.h4 << 6) + 1
        a = (a + (-(self.h5 * v) >> 14)) >> 1
        b = v * self.h6 >> 10
        c = (v * self.h3 >> 11) + 32768
        b = b * (c >> 10) + (b * (c & 1023) >> 10) + 2097152
        b = (b >> 14) * self.h2 + ((b & 16383) * self.h2 + 8192 >> 14)
        if a <= 0 or b <= 0:
            return 0
        if a > 0x3FFFFFFF // b:
            return 100000
        v = a * b
        c = v >> 15
        c = c * c >> 7
        v -= (c >> 4) * self.h1 + ((c & 15) * self.h1 >> 4)
        v = min(max(v, 0), 419430400) >> 12  # 100 %RH, in 2^-22 %RH; then 2^-10 %RH
        return (v * 1000 + 512) >> 10


def _signed(value, bits):
    return value - (1 << bits) if value >> (bits - 1) else value
