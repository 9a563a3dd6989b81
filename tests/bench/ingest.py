"""Durable ingest: readings a second from a client process through mosquitto into the daemon, every one acknowledged.

Beside it, on the same machine: what `mosquitto_sub` receives of the same stream without storing anything, and what a
bare SQLite loop stores without receiving anything.
"""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

from gateway.store import db
from tests.bench.common import BenchError, Result, Settings, child_json, cpu_s, until
from tests.bench.load import BOARDS, WINDOW
from tests.bench.receiver import Server
from tests.bench.stack import broker, burst, check_stored, daemon, pid_of
from tests.support.mosquitto import Mosquitto

READINGS = {1: 60_000, 10: 300_000}  # some seconds each
NAMES = {1: "durable ingest, 1 reading a frame", 10: "durable ingest, 10 readings a frame"}
AIMS = {1: "10x the peer: 10,000 and more", 10: "50,000"}
_ROW = "INSERT INTO readings VALUES (?,?,1,?,1,0,21000,0,?,0,1,0) ON CONFLICT DO NOTHING"
_UP = "iso/1/+/up"
_FLOOR_S = 1.0


def run(settings: Settings) -> list[Result]:
    """All of it."""
    folder = settings.workdir("ingest")
    ceiling = {size: _mosquitto_sub(settings, folder, size) for size in READINGS}
    results = []
    with broker(folder) as mqtt, Server(folder) as cloud:
        for uploading in (False, True):
            for size in READINGS:
                url = cloud.url if uploading else None
                rates, costs_us, repeats = _through_the_daemon(settings, folder, mqtt, size, url)
                results.append(
                    Result(
                        NAMES[size] + (", uploading meanwhile" if uploading else ""),
                        "readings/s",
                        rates,
                        note=f"{BOARDS} boards, {WINDOW} frames in flight each" + f"; frames repeated: {repeats}",
                        beside_name="mosquitto_sub, same stream, stores nothing",
                        beside=ceiling[size],
                        aim=AIMS[size],
                    )
                )
                name = f"gateway's processor time, {NAMES[size]}" + (", uploading meanwhile" if uploading else "")
                note = "to the last acknowledgement; a busy machine makes it rise, though less than it makes rates fall"
                results.append(Result(name, "µs a reading", costs_us, note=note, digits=1))
    for rows in (1, 2000):
        floor = [_sqlite_loop(folder / f"floor-{rows}-{n}.db", rows) for n in range(settings.runs)]
        results.append(Result(f"bare SQLite loop, {rows} rows a commit, same table and index", "rows/s", floor))
    return results


def _through_the_daemon(
    settings: Settings, folder: Path, mqtt: Mosquitto, size: int, url: str | None
) -> tuple[list[float], list[float], int]:
    """Rates, processor time a reading in µs, and how many frames had to be sent again."""
    rates, costs_us = [], []
    stored = repeats = 0
    with daemon(folder / f"gateway-{size}{'-up' if url else ''}", mqtt.port, url) as gateway:
        for number in range(settings.runs):
            before_s = cpu_s(pid_of(gateway))
            done = burst(mqtt.port, number + 1, size, READINGS[size])
            costs_us.append((cpu_s(pid_of(gateway)) - before_s) / done["readings"] * 1e6)
            stored += done["readings"]
            repeats += done["repeats"]
            rates.append(done["readings"] / done["seconds"])
            settings.say(f"  {NAMES[size]}: {rates[-1]:,.0f}/s, {done['repeats']} frames repeated")
        check_stored(gateway, stored)
    return rates, costs_us, repeats


def _mosquitto_sub(settings: Settings, folder: Path, size: int) -> list[float]:
    """The ceiling: the broker keeps everything it cannot yet deliver, so that the client need not wait."""
    messages = READINGS[size] // size
    rates = []
    with broker(folder / f"ceiling-{size}", "max_queued_messages 0\nlog_type subscribe\n") as mqtt:
        for number in range(settings.runs):
            ended = _Listener(mqtt, messages, number + 1)
            sent = child_json(
                "tests.bench.load", "blast", "--port", mqtt.port, "--size", size, "--readings", READINGS[size]
            )
            rates.append(messages * size / ((ended.wait_ns() - sent["started_ns"]) / 1e9))
    return rates


class _Listener:
    """A `mosquitto_sub` that ends with the last message, and the moment it did."""

    def __init__(self, mqtt: Mosquitto, messages: int, subscribed: int) -> None:
        command = ["mosquitto_sub", "-p", str(mqtt.port), "-t", _UP, "-F", "%l", "-C", str(messages)]
        try:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        except FileNotFoundError:
            raise BenchError("mosquitto_sub is not installed (Debian: mosquitto-clients)") from None
        self._ended_ns = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        until(lambda: mqtt.log_path.read_text(encoding="utf-8").count(_UP) >= subscribed, "mosquitto_sub")

    def _watch(self) -> None:
        self._process.wait()
        self._ended_ns = time.monotonic_ns()

    def wait_ns(self) -> int:
        self._thread.join(30)
        if not self._ended_ns or self._process.returncode:
            self._process.kill()
            raise BenchError("mosquitto_sub did not get all messages")
        return self._ended_ns


def _sqlite_loop(path: Path, rows_a_commit: int) -> float:
    """Rows a second of a loop that does nothing but insert and commit durably, with the store's own settings."""
    connection, _ = db.open_writer(path, 500, time.time)
    seq = 0
    started_s = time.monotonic()
    while time.monotonic() - started_s < _FLOOR_S:
        connection.execute("BEGIN IMMEDIATE")
        rows = [(seq + i + 1, seq % 50, seq + i, i * 1000) for i in range(rows_a_commit)]
        connection.executemany(_ROW, rows)
        connection.execute("COMMIT")
        seq += rows_a_commit
    rate = seq / (time.monotonic() - started_s)
    connection.close()
    return rate
