"""Words to the service manager: ready, reloading, stopping, and the watchdog's feed (sd_notify(3), by hand).

Silent where no NOTIFY_SOCKET is set. It judges no progress; it is told when to feed.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger("isotherm.notify")


class Notifier:
    """One datagram a word. `watchdog_s` is the manager's patience, or None when it does not watch."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self.watchdog_s = watchdog_s if address else None
        self._failed = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Notifier:
        """As the manager set it up: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID."""
        environ = os.environ if environ is None else environ
        usec = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_s = int(usec) / 1e6 if usec.isdigit() and int(usec) > 0 and mine else None
        return cls(environ.get("NOTIFY_SOCKET") or None, watchdog_s)

    def ready(self, status: str) -> None:
        """Started, or done with reloading."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The configuration is read anew; `ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def feed(self) -> None:
        """Progress was made."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
                manager.sendto(text.encode(), self._address)
            self._failed = False
        except OSError as exc:
            if not self._failed:
                log.warning("the service manager cannot be told %r: %s", text.partition("\n")[0], exc)
            self._failed = True
