"""A Pico W's `network` module: the same air as in network.py, met by a CYW43's habits.

From MicroPython's extmod/network_cyw43.c: one try for each `connect`, which may be asked for again at any time; states
of its own, errors below zero; an address that is lost is noticed; power save is on again whenever the radio is
switched on. With which power save it joins is told by a `joined` event. Must not know sockets.
"""

from sim import host, network
from sim.network import country, hostname  # noqa: F401 - part of `network`

STA_IF = network.STA_IF
AP_IF = network.AP_IF
STAT_IDLE = 0  # cyw43.h: CYW43_LINK_DOWN, JOIN, NOIP, UP, FAIL, NONET, BADAUTH
STAT_CONNECTING = 1
_NO_ADDRESS = 2
STAT_GOT_IP = 3
STAT_CONNECT_FAIL = -1
STAT_NO_AP_FOUND = -2
STAT_WRONG_PASSWORD = -3

_STATUS = {  # of the last try, by network.py's reasons
    network.STAT_BEACON_TIMEOUT: STAT_IDLE,
    network.STAT_NO_AP_FOUND: STAT_NO_AP_FOUND,
    network.REASON_4WAY_HANDSHAKE_TIMEOUT: STAT_WRONG_PASSWORD,
    network.REASON_NO_COMPATIBLE_SECURITY: STAT_WRONG_PASSWORD,
}


class WLAN(network.WLAN):
    PM_NONE = 0x10
    PM_PERFORMANCE = 0xA11142
    PM_POWERSAVE = 0xA11C82

    def active(self, up=None):
        if up and not self._active:
            self._options = {"pm": self.PM_PERFORMANCE, "reconnects": 0}
        return network.WLAN.active(self, up)

    def connect(self, ssid=None, key=None, *, security=-1, bssid=None, channel=-1):
        self._settle()
        self._trying = False
        network.WLAN.connect(self, ssid, key)

    def isconnected(self):
        return self.status() == STAT_GOT_IP

    def status(self, what=None):
        self._settle()
        if what == "rssi":
            return network.RSSI_DBM
        if what is not None:
            raise ValueError("unknown status param")
        if self._joined:
            return _NO_ADDRESS if network._access == "lost" else STAT_GOT_IP
        return STAT_CONNECTING if self._trying else _STATUS.get(self._reason, STAT_IDLE)

    def _settle(self):
        was = self._joined
        network.WLAN._settle(self)
        if self._joined and not was:
            host.emit("joined", {"pm": self._options["pm"]})

    def config(self, name=None, **options):
        for option in options:
            if option not in ("pm", "channel", "ssid", "security", "key", "txpower", "hostname"):
                raise ValueError("unknown config param")
        if options and not self._active:
            raise OSError(1)  # EPERM: the chip is not up
        return network.WLAN.config(self, name, **options)
