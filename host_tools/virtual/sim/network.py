"""The board's `network` module: a Wi-Fi station, and an access point whose faults the supervisor chooses.

As ESP32's (ports/esp32/network_wlan.c of MicroPython, 1.23 on): the radio tries again by itself, without end unless
`reconnects` bounds it; until it has given up the status is "connecting" whatever the reason is; to connect meanwhile
is an OSError (MicroPython issue 17661); a board that lost its address goes on saying it is connected. One try takes
JOIN_MS of real time. Must not know sockets beyond telling them that the link came back.
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
REASON_4WAY_HANDSHAKE_TIMEOUT = 15  # esp_wifi_types.h; what WPA2 makes of a wrong key, with 202 and 204
REASON_NO_COMPATIBLE_SECURITY = 210  # a key is wanted, and none is there
AUTH_OPEN = 0
AUTH_WPA2_PSK = 3

JOIN_MS = 30
RSSI_DBM = -58

_ssid = None  # what the air offers; None takes any name and password
_password = None
_access = "on"
_mac = b"\x02\0\0\0\0\0"
_hostname = "mpy-esp32"


def start(link_up, ssid, password, mac):
    global _ssid, _password, _mac, _access
    clock.link_up = link_up
    _access = "on" if link_up else "off"
    _ssid = ssid
    _password = password
    _mac = mac
    host.commands["wifi"] = _wifi_command


def _wifi_command(words):
    """One word for the access point. off: it is gone; stuck: it answers nobody; lost: it took the address back;
    key: from now on it is `on` and takes the configured password."""
    global _access, _password
    was_up = clock.link_up
    for station in WLAN._interfaces.values():
        station._settle()
    _access = words[0]
    if _access == "key":
        _access = "on"
        _password = None
    clock.link_up = _access == "on"
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
        self._joined = False
        self._trying = False
        self._failures = 0  # since connect()
        self._reason = 0  # of the last failure, 0 for none
        self._since_ms = 0  # when the present try began
        self._options = {"pm": self.PM_PERFORMANCE, "reconnects": -1}

    def active(self, up=None):
        if up is None:
            return self._active
        if self._active and not up:
            self._wanted = None
            self._joined = self._trying = False
            host.emit("radio_off", {"reason": self._reason})
        self._active = bool(up)
        return self._active

    def connect(self, ssid=None, key=None, *, bssid=None):
        if not self._active:
            raise OSError("Wifi Not Started")
        self._settle()
        if self._trying:
            raise OSError("Wifi Internal Error")
        self._wanted = (ssid, key)
        self._joined = False
        self._trying = True
        self._failures = 0
        self._since_ms = clock.net_ticks_ms()

    def disconnect(self):
        self._wanted = None
        self._joined = self._trying = False

    def isconnected(self):
        self._settle()
        return self._joined

    def status(self, what=None):
        self._settle()
        if what == "rssi":
            return RSSI_DBM if self._joined else 0
        if self._joined:
            return STAT_GOT_IP
        if self._trying:
            return STAT_CONNECTING
        return self._reason or STAT_IDLE

    def _settle(self):
        """Give the tries that are over by now their outcome."""
        now = clock.net_ticks_ms()
        if self._joined and _access == "off":
            self._joined = False
            self._trying = True
            self._since_ms = now
            self._failed(STAT_BEACON_TIMEOUT, 1)
        tries = clock.ticks_diff(now, self._since_ms) // JOIN_MS
        if not self._trying or tries < 1 or _access in ("stuck", "lost"):
            return  # where nobody answers, or gives no address, a try does not end
        reason = self._refusal()
        if reason:
            self._since_ms = clock.ticks_add(self._since_ms, tries * JOIN_MS)
            self._failed(reason, tries)
        else:
            self._trying = False
            self._joined = True
            self._reason = 0

    def _failed(self, reason, tries):
        self._reason = reason
        self._failures += tries
        limit = self._options["reconnects"] + 1
        if limit and self._failures >= limit:
            self._trying = False

    def _refusal(self):
        if _access == "off" or (_ssid is not None and self._wanted[0] != _ssid):
            return STAT_NO_AP_FOUND
        if _password is None or self._wanted[1] == _password:
            return 0
        return REASON_4WAY_HANDSHAKE_TIMEOUT if self._wanted[1] else REASON_NO_COMPATIBLE_SECURITY

    def ifconfig(self, new=None):
        if self.isconnected() and _access != "lost":
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
