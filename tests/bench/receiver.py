"""A small HTTP/1.1 server in a process of its own: takes batches, answers after `--delay-ms`, and counts what came.

It keeps bodies and opens them only when it is asked for figures, so that it is no part of what is measured. It answers
as docs/uplink.md says and no more; it stores nothing. `Server` runs it from a benchmark.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.common import BenchError, until
from tests.support.daemon import ROOT, environment, read_body


class Receiver:
    """What came, by batch number. Times are of the monotonic clock, which all processes of a machine share."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self.bodies: dict[int, tuple[int, bytes]] = {}
        self.posts = 0
        self.bytes_up = 0
        self.first_ns = 0
        self.last_ns = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                request, *rest = head.decode("latin-1").split("\r\n")
                fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                came_ns = time.monotonic_ns()
                if request.startswith("POST"):
                    answer = await self._take(fields, len(head), body, came_ns)
                else:
                    answer = json.dumps(getattr(self, request.split()[1].strip("/"))()).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _take(self, fields: dict[str, str], head_bytes: int, body: bytes, came_ns: int) -> bytes:
        number = int(fields["isotherm-batch"])
        self.posts += 1
        self.bytes_up += head_bytes + len(body)
        self.first_ns = self.first_ns or came_ns
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        known = number in self.bodies
        self.bodies.setdefault(number, (came_ns, body))
        self.last_ns = time.monotonic_ns()
        status = "duplicate" if known else "stored"
        return json.dumps({"gateway": fields["isotherm-gateway"], "batch": number, "status": status}).encode()

    def stats(self) -> dict[str, Any]:
        """Everything, opened and counted."""
        identities = set()
        rows = 0
        alarms: dict[str, int] = {}
        for came_ns, body in self.bodies.values():
            document = read_body(body)
            at = 0
            for device, boot, count, _, _ in document["series"]:
                name = document["devices"][device]["id"]
                seq = 0
                for step in document["seq"][at : at + count]:
                    seq += step
                    identities.add((name, boot, seq))
                    if name == "bench-alarm":
                        alarms[f"{boot}/{seq}"] = came_ns
                at += count
                rows += count
        return {
            "posts": self.posts,
            "batches": len(self.bodies),
            "bytes_up": self.bytes_up,
            "rows": rows,
            "identities": len(identities),
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
            "alarms": alarms,
        }

    def reset(self) -> dict[str, Any]:
        """Forget all."""
        self.__init__(self._delay_s)  # type: ignore[misc]
        return {}


class Server:
    """The process."""

    def __init__(self, folder: Path, delay_ms: int = 0) -> None:
        self._port_file = folder / f"receiver-{delay_ms}.port"
        self._port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.bench.receiver", "--delay-ms", str(delay_ms)]
        self._process = subprocess.Popen([*command, "--port-file", str(self._port_file)], cwd=ROOT, env=environment())
        until(lambda: self._port_file.exists() or self._process.poll() is not None, "the receiver", step_s=0.02)
        if self._process.poll() is not None:
            raise BenchError("the receiver did not start")
        self._port = int(self._port_file.read_text(encoding="ascii"))
        self.url = f"http://127.0.0.1:{self._port}"

    def ask(self, what: str) -> dict[str, Any]:
        """`stats` or `reset`."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("GET", "/" + what)
            return dict(json.loads(connection.getresponse().read()))
        finally:
            connection.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)


async def _run(delay_s: float, port_file: Path) -> None:
    receiver = Receiver(delay_s)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, limit=1 << 20)
    partial = port_file.with_suffix(".partial")
    partial.write_text(str(server.sockets[0].getsockname()[1]), encoding="ascii")
    partial.replace(port_file)
    await server.serve_forever()


def main() -> None:
    """Read the arguments and serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay-ms", type=int, default=0)
    parser.add_argument("--port-file", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(_run(options.delay_ms / 1000, options.port_file))


if __name__ == "__main__":
    main()
