"""`python -m tests.support.pinned SOCKET run --config ...`: the gateway's program on gpiozero's mock pins.

SOCKET answers one line a connection: `level N` says the pin's level, 0 or 1, `low N` and `high N` drive it from outside
as a button would. The factory is gpiozero's own choice: GPIOZERO_PIN_FACTORY=mock in the environment.
"""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

from gpiozero import Device
from gpiozero.pins.mock import MockFactory


def ask(path: Path, line: str) -> str:
    """From a test: one line there, one line back. Raises OSError while the gateway does not run."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(line.encode("ascii") + b"\n")
        return client.makefile("r", encoding="ascii").readline().strip()


def _answer(factory: MockFactory, line: str) -> str:
    verb, _, number = line.strip().partition(" ")
    pin = factory.pin(int(number))
    if verb != "level":
        pin.drive_low() if verb == "low" else pin.drive_high()
    return str(int(pin.state > 0))


def _serve(listener: socket.socket, factory: MockFactory) -> None:
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rw", encoding="ascii") as stream:
            stream.write(_answer(factory, stream.readline()) + "\n")


def main() -> None:
    """Listen, then be the gateway."""
    path = sys.argv.pop(1)
    Device.ensure_pin_factory()
    assert isinstance(Device.pin_factory, MockFactory), "GPIOZERO_PIN_FACTORY must be mock"
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    threading.Thread(target=_serve, args=(listener, Device.pin_factory), daemon=True).start()
    from gateway.cli import main as gateway

    gateway()


if __name__ == "__main__":
    main()
