"""Who may use the broker beside this gateway: takes the fleet's signed word for it, keeps it, has the broker read it.

`AccessStage` does so in a thread of its own, one document at a time, the newest of those that wait.

A document (isocore/access.py) counts when the fleet's root signed it and its number is above the last one's. Then, in
this order, each file whole or not at all: the document itself, `crl.pem`, `acl`; then the broker is told. A cut between
any two is mended at the next start, which writes both files from the kept document again.

It knows no store and no broker's client: documents come by call, and what is to be said leaves by call. Signatures are
checked in pure Python (isocore/sign.py): some milliseconds, a few times a year.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gateway.config import Config
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from isocore import access, sign, topics
from isocore.errors import SignatureError, TrustError

log = logging.getLogger("isotherm.access")

_DOCUMENT = "access.isos"
_COMMAND_S = 20.0


class BrokerAccess:
    """The two files of one broker. `reload` has mosquitto read them; it may raise OSError."""

    def __init__(self, folder: Path, fleet: str, root_key: bytes, reload: Callable[[], None]) -> None:
        self._folder = folder
        self._fleet = fleet
        self._root_key = root_key
        self._reload = reload
        self.number = 0
        self.refused = 0
        self.reason = ""  # why the last document was refused, "" for one that was taken

    def open(self) -> None:
        """Put the kept document in force again. A missing or damaged one leaves the files as they are."""
        try:
            document = (self._folder / _DOCUMENT).read_bytes()
        except FileNotFoundError:
            return
        except OSError as exc:
            raise GatewayError(f"{self._folder / _DOCUMENT}: cannot be read: {exc.strerror}") from exc
        self.offer(document)

    def offer(self, document: bytes) -> bool:
        """A document came. True when it is in force now, or was already; False when it is refused, with `reason`."""
        try:
            payload = sign.open_container(document, sign.KIND_ACCESS, [self._root_key], access.BYTES_MAX)
            number, nodes, crl = access.parse(payload, self._fleet)
            if number < self.number:
                raise TrustError("number", f"{number} is not above {self.number}")
        except (SignatureError, TrustError) as exc:
            self.refused += 1
            self.reason = exc.reason if isinstance(exc, SignatureError) else exc.field
            log.error("a list of who may use the broker is refused: %s", exc)
            return False
        self.reason = ""
        if number == self.number:
            return True
        try:
            _write(self._folder / _DOCUMENT, document, 0o600)
            _write(self._folder / "crl.pem", crl.encode("ascii"), 0o644)
            _write(self._folder / "acl", access.acl(nodes).encode("ascii"), 0o600)
            self._reload()
        except OSError as exc:
            self.reason = "storage"
            log.error("who may use the broker could not be put in force: %s", exc)
            return False
        self.number = number
        log.warning("who may use the broker: list %d is in force, %d nodes", number, len(nodes))
        return True

    @property
    def state(self) -> bytes:
        """What is published: which list is in force, and why another was refused."""
        said: dict[str, Any] = {"number": self.number}
        if self.reason:
            said["refused"] = self.reason
        return json.dumps(said).encode("ascii")


class AccessStage:
    """Without a folder in [broker_access] it does nothing. `start`, then `stop`; `offer` from any thread, at once."""

    def __init__(self, config: Config, publish: Callable[[str, bytes], None], metrics: Metrics) -> None:
        told = config.broker_access
        self.subscriptions: tuple[str, ...] = ()
        if not told.folder:
            return
        self._access = BrokerAccess(
            config.beside(told.folder),
            told.fleet,
            bytes.fromhex(told.root_key),
            lambda: _tell(config.beside(told.pid_file) if told.pid_file else None, told.command),
        )
        self.subscriptions = (topics.topic(config.device_id, topics.ACCESS_SET),)
        self._state_topic = topics.topic(config.device_id, topics.ACCESS_STATE)
        self._publish = publish
        self._waiting: bytes | None = None
        self._come = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="access", daemon=True)
        metrics.gauge("broker_access_number", "The list of who may use the broker.", lambda: self._access.number)
        metrics.gauge("broker_access_refused", "Lists refused since the start.", lambda: self._access.refused)

    def start(self) -> None:
        """Put the kept document in force, then wait for others."""
        if self.subscriptions:
            self._thread.start()

    def offer(self, name: str, document: bytes) -> bool:
        """A message came. False when it is none for us; a document that still waits gives way to a new one."""
        if name not in self.subscriptions:
            return False
        with self._come:
            self._waiting = document
            self._come.notify()
        return True

    def stop(self, timeout_s: float) -> None:
        """Finish what is under way."""
        if not self.subscriptions:
            return
        with self._come:
            self._stopping = True
            self._come.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._access.open()
        except GatewayError as exc:
            log.error("%s; who may use the broker stays as its files say", exc)
        while True:
            with self._come:
                while self._waiting is None and not self._stopping:
                    self._come.wait()
                document, self._waiting = self._waiting, None
            if document is None:
                return
            self._access.offer(document)
            self._publish(self._state_topic, self._access.state)


def _tell(pid_file: Path | None, command: Sequence[str]) -> None:
    """Have the broker read its files anew. Raises OSError when it cannot be told."""
    if pid_file is not None:
        text = pid_file.read_text(encoding="ascii", errors="replace").strip()
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        if number < 2:  # kill(2): 0 and below stand for groups of processes, -1 for all of them; 1 is init
            raise OSError(errno.EINVAL, f"{pid_file} holds no process id")
        os.kill(number, signal.SIGHUP)
        return
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise OSError(errno.ETIMEDOUT, f"{command[0]} took longer than {_COMMAND_S:g} s") from exc
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-200:]
        raise OSError(errno.EIO, f"{command[0]} ended with {done.returncode}: {said}")


def _write(path: Path, data: bytes, mode: int) -> None:
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
