"""The board's `network` module: a Wi-Fi station whose access point the supervisor can switch off.

States and numbers as on ESP32. Joining takes JOIN_MS of real time; a lost access point is joined again by itself, as
the IDF does. Must not know sockets beyond telling them that the link came back.
"""

from sim import clock, host, sockets

STA_IF = 0
AP_IF = 1
STAT_IDLE = 1000
STAT_CONNECTING = 1001
STAT_GOT_IP = 1010
STAT_NO_AP_FOUND = 201
STAT_WRONG_PASSWORD = 202
STAT_BEACON_TIMEOUT = 200
STAT_ASSOC_FAIL = 203
STAT_HANDSHAKE_TIMEOUT = 204
AUTH_OPEN = 0
AUTH_WPA2_PSK = 3

JOIN_MS = 30
RSSI_DBM = -58

_ssid = None  # what the air offers; None takes any name and password
_password = None
_mac = b"\x02\0\0\0\0\0"
_hostname = "mpy-esp32"


def start(link_up, ssid, password, mac):
    global _ssid, _password, _mac
    clock.link_up = link_up
    _ssid = ssid
    _password = password
    _mac = mac
    host.commands["wifi"] = _wifi_command


def _wifi_command(words):
    was_up = clock.link_up
    clock.link_up = words[0] == "on"
    if clock.link_up and not was_up:
        for station in WLAN._interfaces.values():
            station._since_ms = clock.net_ticks_ms()
        sockets.link_is_back()


class WLAN:
    IF_STA = STA_IF
    IF_AP = AP_IF
    PM_NONE = 0
    PM_PERFORMANCE = 1
    PM_POWERSAVE = 2

    _interfaces = {}

    def __new__(cls, interface=STA_IF):
        if interface not in cls._interfaces:
            cls._interfaces[interface] = object.__new__(cls)
            cls._interfaces[interface]._reset()
        return cls._interfaces[interface]

    def __init__(self, interface=STA_IF):
        pass

    def _reset(self):
        self._active = False
        self._wanted = None  # (ssid, key) of connect()
        self._since_ms = 0
        self._options = {"pm": self.PM_PERFORMANCE, "reconnects": -1}

    def active(self, up=None):
        if up is None:
            return self._active
        self._active = bool(up)
        if not up:
            self._wanted = None
        return self._active

    def connect(self, ssid=None, key=None, *, bssid=None):
        if not self._active:
            raise OSError("Wifi Not Started")
        self._wanted = (ssid, key)
        self._since_ms = clock.net_ticks_ms()

    def disconnect(self):
        self._wanted = None

    def isconnected(self):
        return self.status() == STAT_GOT_IP

    def status(self, what=None):
        if what == "rssi":
            return RSSI_DBM if self.isconnected() else 0
        if self._wanted is None:
            return STAT_IDLE
        if clock.ticks_diff(clock.net_ticks_ms(), self._since_ms) < JOIN_MS:
            return STAT_CONNECTING
        if not clock.link_up or (_ssid is not None and self._wanted[0] != _ssid):
            return STAT_NO_AP_FOUND
        if _password is not None and self._wanted[1] != _password:
            return STAT_WRONG_PASSWORD
        return STAT_GOT_IP

    def ifconfig(self, new=None):
        if self.isconnected():
            return ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")
        return ("0.0.0.0", "0.0.0.0", "0.0.0.0", "0.0.0.0")

    def config(self, name=None, **options):
        if name is None:
            self._options.update(options)
            return None
        if name == "mac":
            return _mac
        if name in ("ssid", "essid"):
            return self._wanted[0] if self._wanted else ""
        return self._options[name]


def hostname(name=None):
    global _hostname
    if name is None:
        return _hostname
    _hostname = name
    return None


def country(code=None):
    return "XX"
