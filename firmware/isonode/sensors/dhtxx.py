"""DHT22 (AM2302) and DHT11: temperature and humidity over one wire, with the image's own `dht` driver.

From the Aosong AM2302 datasheet: 40 bits of humidity and temperature in tenths, sign in bit 15 of the temperature,
last byte the sum of the other four; two seconds between readings, and not before it has settled after power-up; -40 to
80 degC. From Aosong's DHT11 datasheet: the same frame as whole and tenths of either quantity, sign in bit 7 of the
tenths of the temperature; the sensor is asked no more often than a DHT22, which it needs not.
A frame of zeros passes that sum, so it is refused by name. `read` blocks about 5 ms, the length of the frame, and 18 ms
more for a DHT11, whose start signal is longer.
"""

import dht

from isocore.record import FAULT_ALL_ZERO, FAULT_CRC, FAULT_MISSING, FAULT_RANGE

SPACING_MS = 2000
TRIES = 2


class Dht:
    """One or two channels; either may be left out of the settings."""

    def __init__(self, setting, hal):
        self._hal = hal
        self._is_dht11 = setting.kind == "dht11"
        pin = hal.pin_open(setting.pin)
        self._driver = dht.DHT11(pin) if self._is_dht11 else dht.DHT22(pin)
        self.channels = tuple(sorted(setting.channels.values()))
        self.values = [0] * len(self.channels)
        self.faults = [0] * len(self.channels)
        temperature = setting.channels.get("temperature")
        humidity = setting.channels.get("humidity")
        self._temperature_at = -1 if temperature is None else self.channels.index(temperature)
        self._humidity_at = -1 if humidity is None else self.channels.index(humidity)
        self._last = hal.ticks_ms()  # counts as a reading: the sensor needs as long after power-up
        self._tries = 0

    def start(self, now):
        """Allow TRIES tries."""
        self._tries = TRIES

    def wait_ms(self, now):
        """Until two seconds after the last try."""
        left = SPACING_MS - self._hal.ticks_diff(now, self._last)
        return left if left > 0 else 0

    def read(self, now):
        """One try; False when it failed and another one is left."""
        self._tries -= 1
        try:
            self._measure()
        except OSError:
            return self._failed(FAULT_MISSING)
        except Exception:  # the driver's checksum error has no type of its own
            return self._failed(FAULT_CRC)
        buf = self._driver.buf
        if not (buf[0] | buf[1] | buf[2] | buf[3]):
            return self._failed(FAULT_ALL_ZERO)
        if self._is_dht11:
            humidity = buf[0] * 1000 + buf[1] * 100
            temperature = buf[2] * 1000 + (buf[3] & 0x7F) * 100
            negative = buf[3] & 0x80
            within = temperature <= (20000 if negative else 60000)
        else:
            humidity = (buf[0] << 8 | buf[1]) * 100
            temperature = ((buf[2] & 0x7F) << 8 | buf[3]) * 100
            negative = buf[2] & 0x80
            within = temperature <= (40000 if negative else 80000)
        if not within or humidity > 100000:
            return self._failed(FAULT_RANGE)  # a frame that is wrong in two places may pass its sum
        at = self._humidity_at
        if at >= 0:
            self.values[at] = humidity
            self.faults[at] = 0
        at = self._temperature_at
        if at >= 0:
            self.values[at] = -temperature if negative else temperature
            self.faults[at] = 0
        return True

    def _measure(self):
        try:
            self._driver.measure()
        finally:
            self._last = self._hal.ticks_ms()

    def _failed(self, code):
        for i in range(len(self.faults)):
            self.faults[i] = code
        return self._tries <= 0
