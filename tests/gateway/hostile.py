"""Hostile messages for the gateway: real frames and payloads, bent by a seeded generator in every way a wire allows.

A message is (topic, payload, QoS, retained). The same seed gives the same messages. Topics are such as mosquitto passes
on: it hangs up on control characters and invalid UTF-8 in them. It must not know what the gateway refuses.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import NamedTuple

from isocore import frame as frames
from isocore.record import HIGH_ON, LOST
from tests.support.board_client import samples


class Message(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retained: bool


_FRAMES = [
    frames.encode(1, 5, 6, samples(1, 30)),
    frames.encode(1, 0, 0, [(9, LOST, 255, 3, 0, 7)], b"k" * 32),
    frames.encode(7, 9, 0, [(2, HIGH_ON, 0, 31_000, 60_000, 0), *samples(3, 9)]),
]
_DOCUMENTS = {
    "iso/1/evil/meta": {
        "v": 1,
        "class": "fridge",
        "boot": 3,
        "floor": [2, 9],
        "uptime_s": 7,
        "channels": [{"name": "temperature", "unit": "degC"}],
    },
    "iso/1/evil/model/state": {"sequence": 3, "state": "trial", "id": "ab"},
    "iso/1/evil/health": {"rssi_dbm": -60, "free_heap_bytes": 90_000, "a": {"b": [1, 2, 3]}},
    "tele/evil-plug/SENSOR": {
        "Time": "2026-11-25T12:00:00",
        "DS18B20-1": {"Id": "01131B2C3D4E", "Temperature": 21.4},
        "AM2301": {"Temperature": 20.9, "Humidity": 51.2},
        "TempUnit": "F",
    },
    "zigbee2mqtt/evil": {"temperature": 21.37, "humidity": 55.2, "last_seen": "2026-11-25T12:00:00Z"},
}
_PLAIN = {
    "iso/1/evil/status": b"online",
    "evil/sensor/evil_temperature/state": b"21.5",
    "tele/evil-plug/LWT": b"Online",
    "zigbee2mqtt/evil/availability": b'{"state":"online"}',
    "iso/1/gw-test/model/set": b"ISOS" + bytes(range(160)),
}
_LEVELS = [
    "evil",
    "EVIL",
    "",
    " ",
    "..",
    "é",
    "💡",
    "gw-test",
    "x" * 200,
    "-",
    "a.b",
    "'; drop table readings;--",
]
_VALUES = [None, True, -1, 0, 1 << 31, 1 << 64, -(1 << 63), 10**300, 0.1, "", "x" * 3000, "\u0000", "\ud800", [], {}]
_RAW = [b"NaN", b"-Infinity", b"1e999", b"1e-99999", b"9" * 5000, b"[" * 60, b'{"a":' * 50, b"\xff\xfe", b"\0", b"null"]


def messages(seed: int, count: int) -> Iterator[Message]:
    """`count` of them."""
    rng = random.Random(seed)
    for _ in range(count):
        topic, payload = rng.choice([_frame, _document, _plain])(rng)
        if rng.random() < 0.15:
            levels = topic.split("/")
            levels[rng.randrange(len(levels))] = rng.choice(_LEVELS)
            topic = "/".join(levels)
        yield Message(topic or "evil", payload, rng.randint(0, 1), rng.random() < 0.03)


def _frame(rng: random.Random) -> tuple[str, bytes]:
    data = bytearray(rng.choice(_FRAMES))
    what = rng.randrange(7)
    if what == 0:
        return "iso/1/evil/up", bytes(data)  # as it is: a replay
    if what == 1:
        data[0] = rng.randrange(2, 256)  # a version of another time
    elif what == 2:
        data *= rng.randint(2, 300)
    elif what == 3:
        return "iso/1/evil/up", rng.randbytes(rng.randrange(400))
    elif what == 4:
        records = [(seq, rng.randrange(20), 0, rng.randrange(1 << 29), 5, 0) for seq in (1, 2)]
        try:
            return "iso/1/evil/up", frames.encode(1, 0, 0, records)
        except Exception:
            del data[9:]
    else:
        _bend(rng, data)
    return f"iso/1/{rng.choice(['evil', 'evil-2', 'gw-test', 'evil-plug'])}/up", bytes(data)


def _document(rng: random.Random) -> tuple[str, bytes]:
    topic, document = rng.choice(sorted(_DOCUMENTS.items(), key=lambda item: item[0]))
    copied = json.loads(json.dumps(document))
    what = rng.randrange(5)
    if what == 0:
        _replace_somewhere(rng, copied, rng.choice(_VALUES))
        return topic, json.dumps(copied).encode()
    if what == 1:
        text = json.dumps(copied).encode()
        at = text.index(b":") + 1
        return topic, text[:at] + rng.choice(_RAW) + text[at:].partition(b",")[2]
    if what == 2:
        copied["padding"] = "x" * rng.randrange(20_000)
        return topic, json.dumps(copied).encode()
    data = bytearray(json.dumps(copied).encode())
    _bend(rng, data)
    return topic, bytes(data)


def _plain(rng: random.Random) -> tuple[str, bytes]:
    topic, payload = rng.choice(sorted(_PLAIN.items()))
    data = bytearray(rng.choice([payload, *_RAW]))
    _bend(rng, data)
    return topic, bytes(data)


def _replace_somewhere(rng: random.Random, document: object, value: object) -> None:
    if isinstance(document, dict) and document:
        key = rng.choice(sorted(document))
        if isinstance(document[key], dict | list) and document[key] and rng.random() < 0.6:
            _replace_somewhere(rng, document[key], value)
        else:
            document[key] = value
    elif isinstance(document, list) and document:
        document[rng.randrange(len(document))] = value


def _bend(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        what = rng.randrange(4)
        if what == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif what == 1:
            del data[at:]
        elif what == 2:
            data[at:at] = rng.randbytes(rng.randint(1, 50))
        else:
            data[at:at] = data[: rng.randint(0, 2000)]
