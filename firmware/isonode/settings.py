"""What one board is configured to be, as values. Must not know the file they come from (config.py)."""


class Channel:
    """One measured quantity: name, kind ("temperature", "humidity"), unit. Its number is its place in the list."""

    def __init__(self, name, kind, unit):
        self.name = name
        self.kind = kind
        self.unit = unit


class Sensor:
    """kind, channels: {"temperature": number, ...}, and where it is: pin and, for 1-Wire, rom (8 bytes, or None for
    any); or scl, sda and address. What does not apply is None."""

    def __init__(self, kind, pin, rom, channels):
        self.kind = kind
        self.pin = pin
        self.rom = rom
        self.channels = channels
        self.scl = None
        self.sda = None
        self.address = None


class Actuator:
    """kind, pin, channel (number), on (names of ALARMS), active (level when on), safe (0 or 1: on while in fault).

    latching: it stays on until it is released; release_pin: number of an input or None, pressed at release_level;
    blink_ms: half a period of blinking or beeping, 0 for steady.
    """

    def __init__(self, kind, pin, channel, on, active, safe):
        self.kind = kind
        self.pin = pin
        self.channel = channel
        self.on = on
        self.active = active
        self.safe = safe
        self.latching = False
        self.release_pin = None
        self.release_level = 0
        self.blink_ms = 0


class Tls:
    """ca, cert, key: paths of DER files on flash; host: the name that the broker's certificate must be for."""

    def __init__(self, ca, cert, key, host):
        self.ca = ca
        self.cert = cert
        self.key = key
        self.host = host


class Settings:
    """The settings of one board; attributes are set by config.parse, one for each entry of the file."""
