"""Driver for DHT11 and DHT22: one frame of five bytes, checked by its sum.

Same surface as the driver in a board's image: `measure()`, `temperature()`, `humidity()`, `buf`. A sensor that does
not answer is OSError(ETIMEDOUT) from `dht_readinto`; a wrong sum is Exception("checksum error").
"""

from machine import dht_readinto


class DHTBase:
    def __init__(self, pin):
        self.pin = pin
        self.buf = bytearray(5)

    def measure(self):
        frame = self.buf
        dht_readinto(self.pin, frame)
        if (frame[0] + frame[1] + frame[2] + frame[3]) & 0xFF != frame[4]:
            raise Exception("checksum error")


class DHT11(DHTBase):
    def humidity(self):
        return self.buf[0]

    def temperature(self):
        return self.buf[2]


class DHT22(DHTBase):
    def humidity(self):
        return ((self.buf[0] << 8) + self.buf[1]) * 0.1

    def temperature(self):
        tenths = ((self.buf[2] & 0x7F) << 8) + self.buf[3]
        return (-tenths if self.buf[2] & 0x80 else tenths) * 0.1
