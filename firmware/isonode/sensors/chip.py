"""The chip's own temperature sensor: coarse, and warm from the chip, but always there."""

from isocore.record import FAULT_MISSING


class Chip:
    """One channel, read at once."""

    def __init__(self, setting, hal):
        self.channels = (setting.channels["temperature"],)
        self.values = [0]
        self.faults = [0]
        self._hal = hal

    def start(self, now):
        """Nothing to start."""

    def wait_ms(self, now):
        """Always ready."""
        return 0

    def read(self, now):
        """Read it; a chip without the sensor is FAULT_MISSING."""
        value = self._hal.chip_temperature_milli()
        if value is None:
            self.faults[0] = FAULT_MISSING
        else:
            self.values[0] = value
            self.faults[0] = 0
        return True
