"""Batches as a gateway sends them, and a receiver to send them to: the real program on a free port.

Encodes for itself, in the plainest way, so that decoding is not checked against its own mirror.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import zstandard

ROOT = Path(__file__).resolve().parents[2]
CONTENT_TYPE = "application/vnd.isotherm.batch+json"
START_S = 60.0  # a bound: dozens of boards may share its processor


def document(
    number: int, seqs: list[int], device: str = "fridge-1", gateway: str = "gw-1", **other: Any
) -> dict[str, Any]:
    """A batch of one series: reports of one channel, consecutive seqs, one a minute, value 4000 + seq."""
    steps = [b - a for a, b in zip([0, *seqs], seqs, strict=False)]
    count = len(seqs)
    uptimes = [seq * 60000 for seq in seqs]
    differences = [b - a for a, b in pairwise(uptimes)]
    return {
        "v": 1,
        "gateway": gateway,
        "batch": number,
        "lane": "live",
        "first_row": seqs[0],
        "last_row": seqs[-1],
        "rows": count,
        "devices": [{"id": device, "class": "fridge", "channels": [{"name": "temperature", "unit": "degC"}]}],
        "series": [[0, 1, count, 1767225600000, 1]],
        "seq": steps,
        "uptime_ms": [
            uptimes[0],
            *differences[:1],
            *(b - a for a, b in pairwise(differences)),
        ],
        "kind": [2] * count,
        "channel": [0] * count,
        "value": [4000 + seqs[0], *steps[1:]],
    } | other


def pack(data: Any, encoding: str = "zstd") -> bytes:
    """Compressed JSON; bytes are taken as they are."""
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return zstandard.ZstdCompressor().compress(text) if encoding == "zstd" else gzip.compress(text, mtime=0)


def headers(number: int, body: bytes, gateway: str = "gw-1", encoding: str = "zstd") -> dict[str, str]:
    """The headers of a batch."""
    return {
        "Content-Type": CONTENT_TYPE,
        "Content-Encoding": encoding,
        "Isotherm-Gateway": gateway,
        "Isotherm-Batch": str(number),
        "Isotherm-Digest": "sha-256=" + hashlib.sha256(body).hexdigest(),
    }


class ReceiverProcess:
    """`isotherm cloud serve` on a folder. `kill` is -9; `start` again takes a new port."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self._port_file = folder / "port"
        self.log_path = folder / "receiver.log"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> ReceiverProcess:
        """Start it and wait until it answers."""
        self._port_file.unlink(missing_ok=True)
        paths = os.pathsep.join((str(ROOT), str(ROOT / "firmware")))
        command = [sys.executable, "-m", "host_tools.cli", "cloud", "serve", "--data", str(self.data), "--port", "0"]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port-file", str(self._port_file), *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": paths},
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if self._port_file.exists():
                self.port = int(self._port_file.read_text())
                return self
            time.sleep(0.01)
        self.kill()
        raise RuntimeError("the receiver did not start: " + self.log_path.read_text(errors="replace"))

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """End it in order; returns its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=20)

    def post(self, number: int, body: bytes, **other: str) -> tuple[int, dict[str, Any]]:
        """Send one batch over a connection of its own. Raises OSError or HTTPException when it breaks."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/v1/batches", body, headers(number, body) | other)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def __enter__(self) -> ReceiverProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
