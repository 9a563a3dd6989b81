"""Which address a gateway is tried at that is configured by name: the last one known first, the name when that failed.

Loaded only when `gateway.host` is a name. Order of an attempt: the address that is known, as long as sessions come up
there; after a failure the name is asked for (isonode.resolver, never waiting), at most once in ASK_EVERY_MS unless a
session or the network was lost in between; what was known and `gateway.fallback` are tried in turn meanwhile. Knows no
sockets of the session and no MQTT.
"""

from micropython import const

from isonode import lazy
from isonode.errors import LinkError

_ASK_EVERY_MS = const(60000)


class Finder:
    """`asked`: how often the name was asked for; `error`: the LinkError of the last question, taken by the link."""

    def __init__(self, port, poll, host, fallback):
        """host: the name; fallback: an address, or ""."""
        self._port = port
        self._poll = poll
        self._host = host
        self._choices = [fallback] if fallback else []  # addresses; what the name stands for comes first
        self._known = ""
        self._failed = True  # nothing that works is known
        self._turn = 0
        self._ask_at = None  # ticks from which on the name may be asked for again; None: at any time
        self._resolver = None
        self.asked = 0
        self.error = None

    def begin(self, now):
        """An attempt begins. Opens the question for the name if it is due."""
        self.stop()
        if self._failed and (self._ask_at is None or self._port.ticks_diff(now, self._ask_at) >= 0):
            self._ask_at = self._port.ticks_add(now, _ASK_EVERY_MS)
            self.asked += 1
            from isonode.resolver import Resolver

            try:
                self._resolver = Resolver(self._port, self._poll, self._host)
            except LinkError as error:
                self.error = error
                self.stop()

    def step(self, now):
        """Address to connect to, None while the question is open (4 s at most). Raises LinkError when there is none."""
        if self._resolver is not None:
            try:
                found = self._resolver.step(now)
                if found is None:
                    return None
                self._take(found)
            except LinkError as error:
                self.error = error
            self.stop()
        if not self._choices:
            raise self.error or LinkError("resolve", self._host)
        return self._choices[self._turn % len(self._choices)]

    def _take(self, found):
        if found != self._known:
            if self._known:
                self._choices[0] = found
            else:
                self._choices.insert(0, found)
            self._known = found
        self._turn = 0

    def failed(self):
        """No session came up there: the other address is next, and the name may be asked for."""
        self._failed = True
        self._turn += 1

    def settled(self):
        """A session came up: this address is the first to be tried the next time."""
        self._failed = False
        self._ask_at = None

    def renewed(self):
        """Another network, perhaps: the name may be asked for at once."""
        self._ask_at = None

    def stop(self):
        """End an open question."""
        if self._resolver is not None:
            self._resolver.close()
            self._resolver = None
        lazy.forget("isonode.resolver")
