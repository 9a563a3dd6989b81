"""DS18B20 on a 1-Wire bus, several per bus by ROM code, with the image's own `onewire` and `ds18x20` drivers.

From the Maxim DS18B20 datasheet: a 12-bit conversion takes 750 ms (AC electrical characteristics), the temperature is
1/16 degC in two's complement (figure 4), and the scratchpad shows +85 degC (raw 0x0550) after power-on. A sensor that
really is at 85.0 degC has COUNT REMAIN, byte 6, at 0x10 - (0x0550 & 15) = 0x10, a fresh one has 0x0C: that is how the
two are told apart. A bus shorted to ground reads as zeros, whose CRC is right.

Conversions are started and fetched later; nothing here waits. `read` takes about 12 ms of bus time. A CRC error is
read again, the power-on value is converted again, each once; a sensor that is missing is searched for at each `start`.
"""

import ds18x20
import onewire

from isocore.record import FAULT_ALL_ZERO, FAULT_CRC, FAULT_MISSING, FAULT_POWER_ON

CONVERSION_MS = 750
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
        self._started = False
        self._asked = 0  # the `now` of the round that the conversion is for
        self._since = 0  # when the command was over: the 750 ms count from there

    def scan(self):
        """Look for sensors. One search is some 15 ms of bus time for each that is there."""
        try:
            found = [bytes(rom) for rom in self._driver.scan() if rom[0] in _FAMILIES]
        except (OSError, onewire.OneWireError):
            found = []
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
            self._bus.scan()
            self._claim()
        self._present = self._rom is not None and self._bus.convert(now)

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
            return self._failed(FAULT_MISSING)
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
        self.values[0] = raw * 125 >> 1
        self.faults[0] = 0
        self._missed = False
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
        self._missed = code == FAULT_MISSING
        return True
