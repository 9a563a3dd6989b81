"""Driver for DS18B20, DS1822 and DS18S20 on a 1-Wire bus: start conversions, read scratchpads.

Same surface as the driver in a board's image: `scan`, `convert_temp`, `read_scratch`, `write_scratch`, `read_temp`.
A scratchpad that fails its CRC is Exception("CRC error").
"""

from micropython import const

_CONVERT = const(0x44)
_READ_SCRATCH = const(0xBE)
_WRITE_SCRATCH = const(0x4E)


class DS18X20:
    def __init__(self, onewire):
        self.ow = onewire
        self.buf = bytearray(9)

    def scan(self):
        return [rom for rom in self.ow.scan() if rom[0] in (0x10, 0x22, 0x28)]

    def convert_temp(self):
        self.ow.reset(True)
        self.ow.writebyte(self.ow.SKIP_ROM)
        self.ow.writebyte(_CONVERT)

    def read_scratch(self, rom):
        self.ow.reset(True)
        self.ow.select_rom(rom)
        self.ow.writebyte(_READ_SCRATCH)
        self.ow.readinto(self.buf)
        if self.ow.crc8(self.buf):
            raise Exception("CRC error")
        return self.buf

    def write_scratch(self, rom, buf):
        self.ow.reset(True)
        self.ow.select_rom(rom)
        self.ow.writebyte(_WRITE_SCRATCH)
        self.ow.write(buf)

    def read_temp(self, rom):
        scratch = self.read_scratch(rom)
        raw = scratch[1] << 8 | scratch[0]
        if raw & 0x8000:
            raw -= 0x10000
        if rom[0] == 0x10:  # DS18S20: half degrees, refined by COUNT REMAIN of 16 counts
            if scratch[7] == 0:
                return None
            return (raw >> 1) - 0.25 + (scratch[7] - scratch[6]) / scratch[7]
        return raw / 16
