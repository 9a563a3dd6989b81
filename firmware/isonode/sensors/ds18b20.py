"""DS18B20 on a 1-Wire bus, several per bus by ROM code, with the image's own `onewire` and `ds18x20` drivers.

From the Maxim DS18B20 datasheet: a 12-bit conversion takes 750 ms (AC electrical characteristics), the temperature is
1/16 degC in two's complement (figure 4), and the scratchpad shows +85 degC (raw 0x0550) after power-on. A sensor that
really is at 85.0 degC has COUNT REMAIN, byte 6, at 0x10 - (0x0550 & 15) = 0x10, a fresh one has 0x0C: that is how the
two are told apart. A bus shorted to ground reads as zeros, whose CRC is right; it is not searched, for the search would
find 2^64 sensors there, one after the other. Three wires: parasite power needs a strong pull-up that no image drives.

Conversions are started and fetched later; nothing here waits. `read` takes about 12 ms of bus time. A CRC error is
read again, the power-on value is converted again, each once; a sensor that is missing is searched for at each `start`.
"""

import ds18x20
import onewire

from isocore.record import FAULT_ALL_ZERO, FAULT_CRC, FAULT_MISSING, FAULT_POWER_ON, FAULT_RANGE

CONVERSION_MS = 750
TEMP_MIN_MILLI = -55000  # the operating range, on the datasheet's first page
TEMP_MAX_MILLI = 125000
_RAW_85 = 0x0550
_FRESH = 0x0C
_FAMILIES = (0x22, 0x28)  # DS1822, DS18B20: the same scratchpad


class Bus:
    """One pin with its sensors; a conversion is started for all of them together (SKIP ROM)."""

    def __init__(self, pin, hal):
        self._hal = hal
        self._driver = ds18x20.DS18X20(onewire.OneWire(hal.pin_open(pin)))
        self.roms = ()
        self.taken = []
        self.shorted = False  # seen at the last scan
        self._scanned = False
        self._scanned_at = 0  # the `now` of the round that was scanned for
        self._started = False
        self._asked = 0  # the `now` of the round that the conversion is for
        self._since = 0  # when the command was over: the 750 ms count from there

    def scan(self, now):
        """Look for sensors, once a round. One search is some 15 ms of bus time for each that is there."""
        if self._scanned and self._scanned_at == now:
            return
        self._scanned = True
        self._scanned_at = now
        found = []
        self.shorted = False
        try:
            wire = self._driver.ow
            if wire.reset():
                self.shorted = not wire.readbit()  # nobody was asked anything, so the pull-up alone should speak
                if not self.shorted:
                    found = [bytes(rom) for rom in self._driver.scan() if rom[0] in _FAMILIES]
        except (OSError, onewire.OneWireError):
            pass
        self.roms = tuple(sorted(found))

    def convert(self, now, again=False):
        """Start a conversion of all sensors, unless one was started at this very moment. False: nobody is there."""
        if self._started and not again and self._asked == now:
            return True
        try:
            self._driver.convert_temp()
        except (OSError, onewire.OneWireError):
            self._started = False
            return False
        self._started = True
        self._asked = now
        self._since = self._hal.ticks_ms()
        return True

    def wait_ms(self, now):
        """Until the conversion is over."""
        if not self._started:
            return 0
        left = CONVERSION_MS - self._hal.ticks_diff(now, self._since)
        return left if left > 0 else 0

    def scratchpad(self, rom):
        """The nine bytes of one sensor. Raises OSError, OneWireError or, for the CRC, Exception, as the driver does."""
        return self._driver.read_scratch(rom)


class Ds18b20:
    """One channel."""

    def __init__(self, setting, bus, hal):
        self.channels = (setting.channels["temperature"],)
        self.values = [0]
        self.faults = [0]
        self._bus = bus
        self._wanted = setting.rom
        self._rom = setting.rom
        self._present = False
        self._missed = True
        self._reads = 0
        self._conversions = 0
        if setting.rom is not None:
            bus.taken.append(setting.rom)

    def start(self, now):
        """Start converting; search first when the sensor was missing."""
        self._reads = 2
        self._conversions = 2
        if self._missed:
            self._bus.scan(now)
            self._claim()
        self._present = self._rom is not None and not (self._missed and self._bus.shorted) and self._bus.convert(now)

    def _claim(self):
        if self._wanted is not None or self._rom is not None:
            return
        for rom in self._bus.roms:
            if rom not in self._bus.taken:
                self._bus.taken.append(rom)
                self._rom = rom
                return

    def wait_ms(self, now):
        """Until the conversion is over."""
        return self._bus.wait_ms(now) if self._present else 0

    def read(self, now):
        """Fetch the scratchpad; False when it must be fetched or converted once more."""
        if not self._present:
            return self._failed(FAULT_ALL_ZERO if self._bus.shorted else FAULT_MISSING)
        self._reads -= 1
        try:
            scratch = self._bus.scratchpad(self._rom)
        except (OSError, onewire.OneWireError):
            return self._failed(FAULT_MISSING)
        except Exception:  # the driver's CRC error has no type of its own
            self.faults[0] = FAULT_CRC
            return self._reads <= 0
        for i in range(9):
            if scratch[i]:
                break
        else:
            return self._failed(FAULT_ALL_ZERO)
        raw = scratch[1] << 8 | scratch[0]
        if raw == _RAW_85 and scratch[6] == _FRESH:
            return self._convert_again(now)
        if raw & 0x8000:
            raw -= 0x10000
        raw &= -1 << (3 - (scratch[4] >> 5 & 3))  # table 2: bits below the sensor's resolution are undefined
        milli = raw * 125 >> 1
        self._missed = False
        if not TEMP_MIN_MILLI <= milli <= TEMP_MAX_MILLI:
            return self._failed(FAULT_RANGE)
        self.values[0] = milli
        self.faults[0] = 0
        return True

    def _convert_again(self, now):
        self.faults[0] = FAULT_POWER_ON
        self._conversions -= 1
        if self._conversions <= 0:
            return True
        self._reads = 2
        self._present = self._bus.convert(now, True)
        return False

    def _failed(self, code):
        self.faults[0] = code
        self._missed = code == FAULT_MISSING or self._bus.shorted
        return True
