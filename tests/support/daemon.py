"""The gateway's daemon as a real process, and a scriptable receiver for it to talk to.

The receiver decodes nothing but what it needs to answer; it records every request, so that a test can compare bytes. It
must not be cleverer than docs/uplink.md.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.board_client import wait_for

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """What a child needs to import the tree."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "firmware")))}


class Daemon:
    """`isotherm-gateway run` with a configuration of its own in `workdir`."""

    def __init__(
        self,
        workdir: Path,
        broker_port: int,
        url: str | None = None,
        extra: str = "",
        sink: str = "",
        read_timeout_s: float = 1.0,
        mqtt: str = "",
        name: str = "gw-test",
    ) -> None:
        """extra, sink, mqtt: more lines for the file, for its end and those two tables."""
        self.workdir = workdir
        workdir.mkdir(parents=True, exist_ok=True)
        self.config = workdir / "gateway.toml"
        self.log = workdir / "gateway.log"
        text = (
            f'[gateway]\nid = "{name}"\ndata_dir = "data"\n[mqtt]\nport = {broker_port}\nbackoff_max_s = 0.3\n{mqtt}\n'
            f'[metrics]\nlisten = "127.0.0.1:0"\n{extra}\n'
        )
        if url:
            text += (
                f'[sinks.cloud]\nurl = "{url}"\nlive_age_s = 0.05\nbackoff_base_s = 0.02\nbackoff_max_s = 0.2\n'
                f"read_timeout_s = {read_timeout_s}\n{sink}\n"
            )
        self.config.write_text(text, encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None
        self.program = ["gateway.cli"]  # a module and what precedes the command
        self.environment: dict[str, str] = {}  # more than a child needs anyway

    def start(self, wait: bool = True) -> Daemon:
        """Start; with `wait`, until its status page answers and the broker has it."""
        (self.workdir / "data" / "status.address").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.program, "run", "--config", str(self.config)],
                env=environment() | self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if wait:
            wait_for(lambda: self.status().get("broker", {}).get("connected"), what="the gateway at the broker")
        return self

    def kill(self) -> None:
        """As a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    @property
    def dead(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def kill_now(self) -> None:
        """The same without waiting for its end; once is enough."""
        if self.process is not None:
            self.process.kill()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def hang_up(self) -> None:
        """SIGHUP: read the configuration again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def logged(self, part: str) -> int:
        """How often a text is in its log."""
        return self.log.read_text(encoding="utf-8").count(part)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the program on the same configuration."""
        return subprocess.run(
            [sys.executable, "-m", "gateway.cli", *arguments, "--config", str(self.config)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def figure(self, name: str) -> float:
        """One sample of /metrics by name and labels, without the common prefix; 0 when it is not there.

        Looking for a text in the page instead would find it in a line of help as well.
        """
        for line in self.get("/metrics").splitlines():
            key, _, value = line.rpartition(" ")
            if key == f"isotherm_gateway_{name}":
                return float(value)
        return 0.0

    def get(self, path: str) -> str:
        """A page of the daemon's own server; empty when it does not answer."""
        import http.client

        address = self.workdir / "data" / "status.address"
        if not address.exists():
            return ""
        connection = http.client.HTTPConnection(address.read_text(encoding="ascii").strip() or "127.0.0.1:1", timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        text = self.get("/status")
        return dict(json.loads(text)) if text else {}

    def ledger(self) -> dict[str, Any]:
        """`isotherm-gateway ledger --json`; works while it is down."""
        done = self.cli("ledger", "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class Seen(NamedTuple):
    """One request as received."""

    batch: int
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, dict[str, str], bytes] | None


class FakeCloud:
    """A receiver that answers as `script` says and records what came.

    script(seen) -> (status, headers, body); None: close the connection without a word. By default it stores
    by batch number.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.stored: dict[int, bytes] = {}
        self.script: Callable[[Seen], Answer] = self.store
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                try:
                    body = self.rfile.read(length)
                except ConnectionResetError:
                    body = b""
                if len(body) < length or "Isotherm-Batch" not in self.headers:  # cut off: nothing was received
                    self.close_connection = True
                    return
                seen = Seen(int(self.headers["Isotherm-Batch"]), dict(self.headers.items()), body)
                with outer.lock:
                    outer.seen.append(seen)
                answer = outer.script(seen)
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, data = answer
                lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(data)}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                try:  # at once, so that a proxy can say a whole reply twice
                    self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + data)
                except OSError:
                    self.close_connection = True  # the gateway gave up waiting: that is what some tests are about

            def log_message(self, format: str, *args: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                if not isinstance(sys.exc_info()[1], ConnectionError):  # a gateway that is killed hangs up anywhere
                    super().handle_error(request, client_address)

            request_queue_size = 64  # several threads connect at once

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def store(self, seen: Seen) -> Answer:
        """Store and say so."""
        with self.lock:
            duplicate = seen.batch in self.stored
            self.stored[seen.batch] = seen.body
        return 200, {}, reply(seen, "duplicate" if duplicate else "stored")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> FakeCloud:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def rows(self) -> list[tuple[str, int, int]]:
        """Identities (device, boot, seq) in what is stored, duplicates included."""
        out = []
        with self.lock:
            bodies = list(self.stored.values())
        for body in bodies:
            document = read_body(body)
            at = 0
            for device, boot, count, _, _ in document["series"]:
                seq = 0
                for step in document["seq"][at : at + count]:
                    seq += step
                    out.append((document["devices"][device]["id"], boot, seq))
                at += count
        return out


def reply(seen: Seen, status: str) -> bytes:
    return json.dumps({"gateway": seen.headers["Isotherm-Gateway"], "batch": seen.batch, "status": status}).encode()


def read_body(body: bytes) -> dict[str, Any]:
    """A batch's document."""
    if body[:2] == b"\x1f\x8b":
        import gzip

        return dict(json.loads(gzip.decompress(body)))
    import zstandard

    return dict(json.loads(zstandard.ZstdDecompressor().decompress(body)))
