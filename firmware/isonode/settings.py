"""What one board is configured to be, as values. Must not know the file they come from (config.py)."""


class Channel:
    """One measured quantity: name, kind ("temperature", "humidity"), unit. Its number is its place in the list."""

    def __init__(self, name, kind, unit):
        self.name = name
        self.kind = kind
        self.unit = unit


class Sensor:
    """kind, pin, rom (8 bytes or None), channels: {"temperature": number, ...}."""

    def __init__(self, kind, pin, rom, channels):
        self.kind = kind
        self.pin = pin
        self.rom = rom
        self.channels = channels


class Actuator:
    """kind, pin, channel (number), on (names of ALARMS), active (level when on), safe (0 or 1: on while in fault)."""

    def __init__(self, kind, pin, channel, on, active, safe):
        self.kind = kind
        self.pin = pin
        self.channel = channel
        self.on = on
        self.active = active
        self.safe = safe


class Settings:
    """The settings of one board; attributes are set by config.parse, one for each entry of the file."""
