"""What a receiver's reply means for a batch: one table for every sink that gets replies (docs/uplink.md, "Replies").

Pure: it trusts nothing in a reply, and knows no transport.
"""

from __future__ import annotations

import json
from typing import Any

from gateway.errors import BatchRejected, BatchUnfit, SinkUnavailable
from gateway.messages import Batch
from gateway.sinks.base import Stored
from gateway.wire import ENCODINGS

REPLY_BYTES_MAX = 65536
RETRY_AFTER_MAX_S = 3600.0
_OPENINGS_MAX = 500  # of brackets: far from the interpreter's stack, whoever else stands on it
_ERROR_CHARACTERS_MAX = 200
_ENCODING_CHARACTERS_MAX = 1000
# The fault is not the batch's: credentials, address or version of the other side, or of a proxy. Held and tried again,
# so that a wrong token does not put every batch into quarantine.
_HELD = {401: "denied", 403: "denied", 404: "not_found", 405: "not_found", 407: "denied", 408: "timeout",
         421: "not_found", 425: "busy", 426: "not_found", 429: "busy", 431: "not_found", 451: "denied"}  # fmt: skip


def parse(data: bytes) -> dict[str, Any]:
    """A reply's JSON object; empty when it is none, or too long."""
    if len(data) > REPLY_BYTES_MAX or data.count(b"[") + data.count(b"{") > _OPENINGS_MAX:
        return {}
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return reply if isinstance(reply, dict) else {}


def judge(
    where: str,
    gateway: str,
    batch: Batch,
    status: int,
    reply: dict[str, Any],
    retry_after_s: float | None,
    accepts: frozenset[str] | None,
) -> Stored:
    """Stored, or what `send` raises. `status` is HTTP's; `accepts` what the other side said that it takes."""
    if status == 200:
        named = reply.get("gateway") == gateway and type(reply.get("batch")) is int and reply["batch"] == batch.batch
        if named and reply.get("status") in ("stored", "duplicate"):
            new = reply.get("new")
            return Stored(reply["status"] == "duplicate", new if type(new) is int else None)
        raise SinkUnavailable("unnamed", f"reply of {where} does not name batch {batch.batch} as stored")
    text = f"{where} answered {status}"
    if isinstance(reply.get("error"), str):
        text += f": {_printable(reply['error'])}"
    if status in _HELD or status < 400 or status >= 500:
        raise SinkUnavailable(_HELD.get(status, f"http_{status // 100}xx"), text, retry_after_s)
    if retry_after_s is not None:  # RFC 9110 section 10.2.3: come again later; section 15.5.14 for 413
        raise SinkUnavailable("busy", text, retry_after_s)
    if status == 413 and batch.rows > 1:
        raise BatchUnfit("too_large", text)
    if status == 415 and accepts is not None and batch.encoding not in accepts and accepts & set(ENCODINGS):
        raise BatchUnfit("encoding", text)
    raise BatchRejected(f"http_{status}", text)


def accepted(field: str | None) -> frozenset[str] | None:
    """The codings of an Accept-Encoding field (RFC 9110 section 12.5.3) that we know; None without one."""
    if field is None or len(field) > _ENCODING_CHARACTERS_MAX:
        return None
    found = set()
    for part in field.split(","):
        coding, _, weight = part.partition(";")
        name = coding.strip().lower()
        if weight.replace(" ", "").lower() in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            continue
        found |= {"zstd", "gzip"} if name == "*" else {name}
    return frozenset(found & {"zstd", "gzip"})


def _printable(text: str) -> str:
    """What a receiver said, safe for a log line and a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text[:_ERROR_CHARACTERS_MAX])
