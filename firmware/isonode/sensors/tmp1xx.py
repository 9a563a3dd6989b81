"""Texas Instruments TMP102 (and TMP112, which has the same registers) and TMP117: temperature over I2C.

Sources: "TMP102 Low-Power Digital Temperature Sensor" (SBOS397) and "TMP117 High-Accuracy, Low-Power, Digital
Temperature Sensor" (SNOSD82). Registers of 16 bits, high byte first: 0 the temperature, 1 the configuration, and 0x0F
the identity of a TMP117. Between readings the chip sleeps; each reading is a one-shot conversion, so the chip does not
warm itself. Neither has a checksum: the configuration is read along with the temperature, and has bits that must stand,
so that a silent bus or a chip that lost its power in between is not taken for 0 degC. Alert limits are not used.
"""

from micropython import const

from isocore.record import FAULT_ALL_ZERO, FAULT_MISSING, FAULT_POWER_ON
from isonode.sensors.i2c import BUSY, PREPARED, I2cSensor, is_zero

_TEMPERATURE = const(0)
_CONFIGURATION = const(1)

# TMP102, configuration register: OS in bit 15, R1 R0 (always ones) 14:13, SD in bit 8; CR1 CR0 7:6 = 10 as after reset
_TMP102_SLEEP = b"\x01\x61\xa0"
_TMP102_ONE_SHOT = b"\x01\xe1\xa0"
_TMP102_OS = const(0x80)  # in its high byte; reads 0 during a conversion, 1 when it is over
_TMP102_STANDS = const(0x61)  # R1 R0 and SD, in its high byte
_TMP102_MS = const(35)  # electrical characteristics: conversion time 26 ms, at most 35

# TMP117, configuration register: Data_Ready in bit 13, MOD 11:10 (01 shutdown, 11 one-shot), AVG 6:5 (01: 8 averages),
# Soft_Reset in bit 1
_TMP117_RESET = b"\x01\x00\x02"
_TMP117_ONE_SHOT = b"\x01\x0c\x20"
_TMP117_READY = const(0x20)  # in its high byte
_TMP117_MOD = const(0x0C)
_TMP117_RESET_MS = const(3)  # soft reset takes 2 ms
_TMP117_MS = const(140)  # 8 conversions of 17.5 ms at most
_IDENTITY = const(0x0F)
_DEVICE_117 = const(0x117)  # DID, bits 11:0; the rest is the revision
_NOTHING_YET = const(0x8000)  # a TMP117's temperature, -256 degC, until its first conversion


class Tmp1xx(I2cSensor):
    """Either chip, by the settings' kind."""

    TEMP_MIN_MILLI = -55000
    TEMP_MAX_MILLI = 150000

    def __init__(self, setting, bus, hal):
        super().__init__(setting, bus, hal)
        self._is_tmp117 = setting.kind == "tmp117"
        self._buf = bytearray(2)

    def _prepare(self, stage):
        if not self._is_tmp117:
            self._bus.write(self._address, _TMP102_SLEEP)
            return PREPARED
        if stage:
            return PREPARED
        buf = self._buf
        self._bus.registers_into(self._address, _IDENTITY, buf)
        if is_zero(buf):
            return self._refuse(FAULT_ALL_ZERO)
        if (buf[0] << 8 | buf[1]) & 0x0FFF != _DEVICE_117:
            return self._refuse(FAULT_MISSING)
        self._bus.write(self._address, _TMP117_RESET)
        return _TMP117_RESET_MS

    def _convert(self):
        if self._is_tmp117:
            self._bus.write(self._address, _TMP117_ONE_SHOT)
            return _TMP117_MS
        self._bus.write(self._address, _TMP102_ONE_SHOT)
        buf = self._buf
        self._bus.registers_into(self._address, _CONFIGURATION, buf)
        if is_zero(buf):
            return -FAULT_ALL_ZERO
        return -FAULT_MISSING if buf[0] & _TMP102_OS else _TMP102_MS  # set: it is idle, the command was lost

    def _fetch(self):
        buf = self._buf
        self._bus.registers_into(self._address, _CONFIGURATION, buf)
        if is_zero(buf):
            return FAULT_ALL_ZERO
        if self._is_tmp117:
            if not buf[0] & _TMP117_MOD:
                return FAULT_POWER_ON  # it converts continuously, as after power-up
            if not buf[0] & _TMP117_READY:
                return BUSY
        else:
            if buf[0] & _TMP102_STANDS != _TMP102_STANDS:
                return FAULT_POWER_ON
            if not buf[0] & _TMP102_OS:
                return BUSY
        self._bus.registers_into(self._address, _TEMPERATURE, buf)
        self._converting = False
        raw = buf[0] << 8 | buf[1]
        if self._is_tmp117 and raw == _NOTHING_YET:
            return FAULT_POWER_ON
        if raw & 0x8000:
            raw -= 0x10000
        # 7.8125 m degC a bit; 62.5 m degC a bit, left-justified
        return self._keep(raw * 125 >> 4 if self._is_tmp117 else (raw >> 4) * 125 >> 1, 0)
