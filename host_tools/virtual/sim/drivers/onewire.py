"""1-Wire bus master over `_onewire`: reset, bytes, ROM selection and the ROM search.

Same surface as the driver in a board's image. The search follows the triplets of Maxim's application note 187
("1-Wire Search Algorithm"): read a bit, read its complement, write the way to go.
"""

import _onewire


class OneWireError(Exception):
    pass


class OneWire:
    SEARCH_ROM = 0xF0
    MATCH_ROM = 0x55
    SKIP_ROM = 0xCC

    def __init__(self, pin):
        self.pin = pin
        pin.init(pin.OPEN_DRAIN, pin.PULL_UP)

    def reset(self, required=False):
        present = _onewire.reset(self.pin)
        if required and not present:
            raise OneWireError
        return present

    def readbit(self):
        return _onewire.readbit(self.pin)

    def readbyte(self):
        return _onewire.readbyte(self.pin)

    def readinto(self, buf):
        for i in range(len(buf)):
            buf[i] = _onewire.readbyte(self.pin)

    def writebit(self, value):
        return _onewire.writebit(self.pin, value)

    def writebyte(self, value):
        return _onewire.writebyte(self.pin, value)

    def write(self, buf):
        for byte in buf:
            _onewire.writebyte(self.pin, byte)

    def select_rom(self, rom):
        self.reset()
        self.writebyte(self.MATCH_ROM)
        self.write(rom)

    def crc8(self, data):
        return _onewire.crc8(data)

    def scan(self):
        """All ROM codes on the bus, each a bytearray of eight."""
        found = []
        fork = -1  # highest bit at which the last pass took 0 although 1 was there too
        rom = bytearray(8)
        while True:
            rom, fork = self._pass(rom, fork)
            if rom is None:
                break
            found.append(rom)
            if fork < 0 or len(found) == 64:
                break
        return found

    def _pass(self, before, turn_at):
        """One walk down the tree: as before up to `turn_at`, 1 there, 0 at every later fork."""
        if not self.reset():
            return None, -1
        self.writebyte(self.SEARCH_ROM)
        rom = bytearray(8)
        fork = -1
        for at in range(64):
            bit = self.readbit()
            complement = self.readbit()
            if bit and complement:
                return None, -1  # nobody answers any more
            if not bit and not complement:
                bit = before[at >> 3] >> (at & 7) & 1 if at < turn_at else int(at == turn_at)
                if not bit:
                    fork = at
            self.writebit(bit)
            rom[at >> 3] |= bit << (at & 7)
        return rom, fork
