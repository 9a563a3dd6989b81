"""The sensors on a virtual board's pins, at the level that their drivers see: frames and 1-Wire slots.

DHT22/AM2302: 16 bits of humidity and 16 of temperature in tenths, the temperature with a sign bit, and the sum of the
four bytes. DS18B20: the datasheet's ROM commands (table "ROM COMMANDS"), function commands and scratchpad, with its
power-on value 85 C. Must not know the drivers; it knows the clock (a conversion takes time) and the player's values.
"""

from sim import clock, player

# function and ROM commands of the DS18B20
_SEARCH_ROM, _READ_ROM, _MATCH_ROM, _SKIP_ROM, _ALARM_SEARCH = 0xF0, 0x33, 0x55, 0xCC, 0xEC
_CONVERT_T, _WRITE_SCRATCHPAD, _READ_SCRATCHPAD = 0x44, 0x4E, 0xBE
_COPY_SCRATCHPAD, _RECALL_E2, _READ_POWER = 0x48, 0xB8, 0xB4
# what a slave listens for next
_IDLE, _ROM, _MATCH, _SEARCH, _FUNCTION, _READ, _WRITE, _BUSY = 0, 1, 2, 3, 4, 5, 6, 7

_POWER_ON = b"\x50\x05\x4b\x46\x7f\xff\x0c\x10"  # 85 C, alarm registers, 12 bits, byte 6 = 0x0C until a conversion
_CONVERSION_MS = (94, 188, 375, 750)  # for 9, 10, 11, 12 bits
_NO_OUTPUT = b""
_ONES = b"\xff"
_CRC_OF_NIBBLE = b"\x00\x9d\x23\xbe\x46\xdb\x65\xf8\x8c\x11\xaf\x32\xca\x57\xe9\x74"

dht_at = {}  # pin -> Dht
bus_at = {}  # pin -> list of Ds18b20


def attach(description):
    """Solder one sensor of the spec to its pin."""
    kind = description["type"]
    if "scl" in description:
        from sim import i2c

        i2c.attach(description)
        return
    pin = description["pin"]
    if kind == "ds18b20":
        bus_at.setdefault(pin, []).append(
            Ds18b20(bytes.fromhex(description["rom"]), description.get("offset_milli", 0))
        )
    elif kind in ("dht22", "dht11"):
        dht_at[pin] = Dht(kind == "dht11")
    else:
        raise ValueError("spec: no simulated sensor of type " + kind)


def crc8(data):
    """Dallas/Maxim CRC of 1-Wire: x^8 + x^5 + x^4 + 1, least significant bit first, a nibble at a time."""
    crc = 0
    for byte in data:
        crc ^= byte
        crc = crc >> 4 ^ _CRC_OF_NIBBLE[crc & 15]
        crc = crc >> 4 ^ _CRC_OF_NIBBLE[crc & 15]
    return crc


class Dht:
    """A DHT22 (or DHT11) that answers a start signal with five bytes."""

    def __init__(self, is_dht11):
        self._is_dht11 = is_dht11

    def read_into(self, frame):
        """Fill the frame; False when no pulse came."""
        player.was_read()
        fault = player.fault
        if fault == player.FAULT_MISSING or fault == player.FAULT_SHORT:
            return False
        if fault == player.FAULT_ZERO:
            for i in range(5):
                frame[i] = 0
            return True
        humidity = (player.humidity_milli + 50) // 100
        temp = player.temp_milli
        negative = temp < 0
        temp = ((-temp if negative else temp) + 50) // 100
        if self._is_dht11:
            frame[0] = humidity // 10
            frame[1] = 0
            frame[2] = temp // 10
            frame[3] = temp % 10 | (0x80 if negative else 0)
        else:
            frame[0] = humidity >> 8
            frame[1] = humidity & 0xFF
            frame[2] = temp >> 8 | (0x80 if negative and temp else 0)
            frame[3] = temp & 0xFF
        frame[4] = (frame[0] + frame[1] + frame[2] + frame[3]) & 0xFF
        if fault == player.FAULT_CRC:
            frame[4] ^= 0x5A
        return True


class Ds18b20:
    """One slave on a 1-Wire bus: a state machine that hears bytes, or single bits while it is searched for."""

    def __init__(self, rom, offset_milli):
        self.rom = rom
        self.state = _IDLE
        self._offset_milli = offset_milli
        self._scratch = bytearray(9)
        self._scratch[:8] = _POWER_ON
        self._seal()
        self._sent = bytearray(9)  # what a READ SCRATCHPAD shows, faults included
        self._output = _NO_OUTPUT
        self._at = 0  # byte position in a match, read or write
        self._bit = 0  # bit position within a byte or within a search
        self._byte = 0
        self._phase = 0
        self._converting = False
        self._done_ticks_ms = 0
        self._raw = 0
        self._fault = player.FAULT_NONE

    def _seal(self):
        self._scratch[8] = crc8(memoryview(self._scratch)[:8])

    def reset(self):
        """A reset pulse; True when this slave answers with a presence pulse."""
        if player.fault == player.FAULT_MISSING:
            self.state = _IDLE
            player.was_read()
            return False
        self.state = _ROM
        self._output = _NO_OUTPUT
        self._bit = self._byte = 0
        return True

    def hear(self, byte):
        """A whole byte from the master."""
        state = self.state
        if state == _FUNCTION or (state == _READ and self._output is self.rom):
            self._function(byte)
        elif state == _ROM:
            self._rom_command(byte)
        elif state == _MATCH:
            if byte != self.rom[self._at]:
                self.state = _IDLE
            else:
                self._at += 1
                if self._at == 8:
                    self.state = _FUNCTION
        elif state == _WRITE:
            self._scratch[self._at] = byte
            self._at += 1
            if self._at == 5:
                self._scratch[4] = byte | 0x1F  # only R1 R0 of the configuration register can be set
                self._seal()
                self.state = _IDLE

    def _rom_command(self, byte):
        self._at = self._bit = self._phase = 0
        if byte == _SKIP_ROM:
            self.state = _FUNCTION
        elif byte == _MATCH_ROM:
            self.state = _MATCH
        elif byte == _SEARCH_ROM:
            self.state = _SEARCH
        elif byte == _READ_ROM:
            self._speak(self.rom)
        else:  # an alarm search finds nobody: the alarm registers are not simulated
            self.state = _IDLE

    def _function(self, byte):
        if byte == _CONVERT_T:
            self._convert()
        elif byte == _READ_SCRATCHPAD:
            self._speak(self._shown_scratchpad())
        elif byte == _WRITE_SCRATCHPAD:
            self.state = _WRITE
            self._at = 2
        elif byte in (_COPY_SCRATCHPAD, _RECALL_E2, _READ_POWER):
            self._speak(_ONES)
        else:
            self.state = _IDLE

    def _speak(self, data):
        self.state = _READ
        self._output = data
        self._at = self._bit = 0

    def _convert(self):
        """Latch what the sensor feels now; the scratchpad shows it when the conversion is over."""
        player.was_read()
        bits = self._scratch[4] >> 5 & 3
        raw = ((player.temp_milli + self._offset_milli) * 16 + 500) // 1000
        self._raw = raw & ~((1 << (3 - bits)) - 1)
        self._fault = player.fault
        self._converting = True
        self._done_ticks_ms = clock.ticks_add(clock.ticks_ms(), _CONVERSION_MS[bits])
        self.state = _BUSY

    def _finished(self):
        if self._converting and clock.ticks_diff(clock.ticks_ms(), self._done_ticks_ms) >= 0:
            self._converting = False
            if self._fault == player.FAULT_POWER_ON:  # it lost its power meanwhile
                self._scratch[:8] = _POWER_ON
            else:
                self._scratch[0] = self._raw & 0xFF
                self._scratch[1] = self._raw >> 8 & 0xFF
                self._scratch[6] = 0x10 - (self._raw & 0x0F)
            self._seal()
        return not self._converting

    def _shown_scratchpad(self):
        self._finished()
        shown = self._sent
        if self._fault == player.FAULT_ZERO:
            for i in range(9):
                shown[i] = 0
        else:
            shown[:] = self._scratch
            if self._fault == player.FAULT_CRC:
                shown[8] ^= 0x5A
        return shown

    def say(self):
        """A whole byte to the master; the idle bus reads as ones."""
        if self.state == _BUSY:
            return 0xFF if self._finished() else 0
        if self.state != _READ or self._at >= len(self._output):
            return 0xFF
        byte = self._output[self._at]
        self._at += 1
        return byte

    def hear_bit(self, bit):
        if self.state == _SEARCH:
            # third slot of a triplet: slaves whose bit differs drop out until the next reset
            if bit != self.rom[self._bit >> 3] >> (self._bit & 7) & 1:
                self.state = _IDLE
            self._bit += 1
            self._phase = 0
            if self._bit == 64 and self.state == _SEARCH:
                self.state = _FUNCTION
                self._bit = 0
            return
        self._byte |= bit << self._bit
        self._bit += 1
        if self._bit == 8:
            byte = self._byte
            self._bit = self._byte = 0
            self.hear(byte)

    def say_bit(self):
        if self.state == _SEARCH:
            bit = self.rom[self._bit >> 3] >> (self._bit & 7) & 1
            bit ^= self._phase
            self._phase = 1
            return bit
        if self.state == _BUSY:
            return 1 if self._finished() else 0
        if self.state != _READ or self._at >= len(self._output):
            return 1
        bit = self._output[self._at] >> self._bit & 1
        self._bit += 1
        if self._bit == 8:
            self._bit = 0
            self._at += 1
        return bit

    @property
    def searching(self):
        return self.state == _SEARCH
