"""Runs on MicroPython: readings of the I2C sensors with the heap locked, over a bus that answers from a table.

Argument: folder of the firmware. Prints for each kind how many readings were taken; an allocation raises MemoryError.
"""

# MicroPython: the path comes before the imports, and there is no contextlib.
# ruff: noqa: I001, UP031

import gc
import sys

sys.path.insert(0, sys.argv[1])

import micropython
from isonode import sensors
from isonode.sensors import sht
from isonode.settings import Sensor


class I2c:
    """Registers and a stream; `answers` by register, None for a plain read."""

    def __init__(self):
        self.answers = {}
        self.stream = bytearray(6)
        self.reads = 0
        self.started = None  # a TMP102's configuration right after the command

    def writeto(self, address, data):
        return len(data)

    def readfrom_into(self, address, buf):
        for i in range(len(buf)):
            buf[i] = self.stream[i]

    def readfrom_mem_into(self, address, register, buf):
        self.reads += 1
        answer = self.started if register == 1 and self.reads % 3 == 1 and self.started else self.answers[register]
        for i in range(len(buf)):
            buf[i] = answer[i]


class Hal:
    def __init__(self):
        self.i2c = I2c()

    def i2c_open(self, scl, sda):
        return self.i2c

    def ticks_ms(self):
        return 1000000000

    def ticks_diff(self, end, start):
        return 1000000000


def whole_reading(sensor):
    sensor.start(5)
    while not sensor.read(5):
        pass


def words(hal, raw):
    """Let the bus say `raw` in the format of every chip."""
    stream = hal.i2c.stream
    stream[0] = stream[3] = raw >> 8
    stream[1] = stream[4] = raw & 0xFF
    stream[2] = sht.crc8(stream, 0, 2)
    stream[5] = sht.crc8(stream, 3, 5)
    word = bytes((raw >> 8, raw & 0xFF))
    hal.i2c.answers[0] = word
    # BME280: ctrl_hum, status, ctrl_meas, config, reserved, pressure, temperature, humidity
    hal.i2c.answers[0xF2] = bytes((1, 0, 0x20, 0, 0, 0x80, 0, 0, raw >> 8, raw & 0xFF, 0, raw >> 8, raw & 0xFF))


# what is out of a BME280's range is measured again, after a preparation that allocates
RAW = {"bme280": (0x7000, 0x6000, 0x4D00, 0xAC00, 0x9000)}
CALIBRATION = bytes((0x70, 0x6B, 0x43, 0x67, 0x18, 0xFC))
for kind in ("bme280", "sht3x", "sht4x", "tmp102", "tmp117"):
    hal = Hal()
    answers = hal.i2c.answers
    answers[0x88] = CALIBRATION
    answers[0xA1] = bytes((255,))
    answers[0xE1] = bytes((0xFF, 0x7F, 0xFF, 0x7F, 0xFF, 0x7F, 0x7F))
    answers[0xD0] = bytes((0x60,))
    answers[0xF4] = bytes((0x21,))
    answers[0xF3] = bytes((0,))
    answers[0x0F] = bytes((0x01, 0x17))
    answers[1] = bytes((0xE1, 0xA0)) if kind == "tmp102" else bytes((0x24, 0x20))
    if kind == "tmp102":
        hal.i2c.started = bytes((0x61, 0xA0))
    setting = Sensor(kind, None, None, {"temperature": 0, "humidity": 1})
    setting.scl, setting.sda, setting.address = 22, 21, 0x44
    sensor = sensors.make([setting], hal)[0]
    words(hal, 0x7000 if kind == "bme280" else 0x1000)
    whole_reading(sensor)  # prepares the chip, which may allocate
    assert sensor.faults[0] == 0, (kind, sensor.faults)
    taken = 0
    for raw in RAW.get(kind, (0x7000, 0x8001, 0x0001, 0x7FFF, 0xFFFF)):
        words(hal, raw)
        gc.collect()
        micropython.heap_lock()
        whole_reading(sensor)
        micropython.heap_unlock()
        taken += 1
    print("%s=%d" % (kind, taken))
