"""A receiver written from docs/uplink.md alone, with the standard library only: how little one takes.

`Receiver(path)` serves on a free loopback port until `close`; its readings are rows of one SQLite table.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BODY_BYTES_MAX, TEXT_BYTES_MAX = 1 << 20, 16 << 20
SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (gateway, batch, digest, PRIMARY KEY (gateway, batch));
CREATE TABLE IF NOT EXISTS readings (device, boot, seq, kind, channel, value, unix_ms, trusted,
                                     PRIMARY KEY (device, boot, seq));
"""


class Refused(Exception):
    """(status, text)"""


def unpack(body: bytes) -> dict[str, Any]:
    inflate = zlib.decompressobj(wbits=31)
    text = inflate.decompress(body, TEXT_BYTES_MAX)
    if inflate.unconsumed_tail or not inflate.eof:
        raise Refused(413, "too large, or cut short")
    return dict(json.loads(text))


def rows_of(batch: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The columns of docs/uplink.md as rows."""
    columns = [batch[name] for name in ("seq", "uptime_ms", "kind", "channel", "value")]
    if {len(column) for column in columns} != {batch["rows"]} or sum(s[2] for s in batch["series"]) != batch["rows"]:
        raise Refused(422, "columns and series do not add up")
    steps = zip(*columns, strict=True)
    rows: list[tuple[Any, ...]] = []
    for device, boot, count, epoch_unix_ms, trusted in batch["series"]:
        name = batch["devices"][device]["id"]
        seq = uptime_ms = step_ms = 0
        values: dict[int, int] = {}
        for nth in range(count):
            seq_step, uptime_step, kind, channel, value_step = next(steps)
            seq += seq_step
            step_ms = uptime_step if nth < 2 else step_ms + uptime_step
            uptime_ms += step_ms
            values[channel] = values.get(channel, 0) + value_step
            unix_ms = None if epoch_unix_ms is None else epoch_unix_ms + uptime_ms
            rows.append((name, boot, seq, kind, channel, values[channel], unix_ms, trusted))
    return rows


class Receiver:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with sqlite3.connect(path) as db:
            db.executescript(SCHEMA)
        db.close()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(min(int(self.headers["Content-Length"]), BODY_BYTES_MAX + 1))
                try:
                    status, answer = 200, outer.take(self.headers, body)
                except Refused as refusal:
                    status, answer = refusal.args[0], {"error": refusal.args[1]}
                except (ValueError, LookupError, TypeError, zlib.error, StopIteration) as error:
                    status, answer = 400, {"error": f"no batch: {error!r}"}
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Accept-Encoding", "gzip")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, headers: Any, body: bytes) -> dict[str, Any]:
        if headers["Content-Encoding"] != "gzip":
            raise Refused(415, "gzip only")
        if len(body) > BODY_BYTES_MAX:
            raise Refused(413, f"at most {BODY_BYTES_MAX} bytes")
        digest = hashlib.sha256(body).hexdigest()
        if headers["Isotherm-Digest"] != f"sha-256={digest}":
            raise Refused(400, "digest does not match")
        batch = unpack(body)
        gateway, number = headers["Isotherm-Gateway"], int(headers["Isotherm-Batch"])
        if (batch["v"], batch["gateway"], batch["batch"]) != (1, gateway, number):
            raise Refused(400, "headers and body differ")
        rows = rows_of(batch)
        with self._lock, sqlite3.connect(self.path) as db:  # one transaction: the batch's name and its rows
            known = db.execute("SELECT digest FROM batches WHERE gateway=? AND batch=?", (gateway, number)).fetchone()
            if known is not None and known[0] != digest:
                raise Refused(409, "another batch had this number")
            if known is None:
                db.execute("INSERT INTO batches VALUES (?,?,?)", (gateway, number, digest))
                db.executemany("INSERT OR IGNORE INTO readings VALUES (?,?,?,?,?,?,?,?)", rows)
        db.close()
        return {"gateway": gateway, "batch": number, "status": "stored" if known is None else "duplicate"}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
