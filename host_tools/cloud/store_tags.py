"""Checks boards' tags: makes each tagged frame again from stored rows, and gives every row its verdict.

Runs inside the store's transaction, on its connection. A frame's rows may come in several batches, lanes or gateways
and in any order: a frame that lacks rows waits. Proof is stronger than order of arrival: a row that proved true
replaces one under its identity that did not, and only a clone's proof takes back a "verified". It knows no HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from host_tools.cloud import verdict
from host_tools.cloud.frames import Content, TaggedFrame
from host_tools.cloud.keyfile import Keys
from host_tools.cloud.wire import Batch, Reading
from isocore.errors import FrameError
from isocore.frame import EPOCH_BASE_UNIX_S, TAG_BYTES, encode
from isocore.record import LOST, SMALL_INT_MAX

WAIT_MS_MAX = 3_600_000  # a frame that lacks rows for so long is incomplete
FRAMES_WAITING_MAX = 100_000  # more, and the oldest count as incomplete at once
CONTESTED_MAX = 10_000  # rows kept that contradict stored ones; more are only counted
_GENERATIONS_BACK = 8
_OTHER_BOARDS_MAX = 256  # whose keys are tried, to say whose tag it is
_SOFT = (verdict.UNVERIFIED, verdict.WAITING)  # verdicts that a failed frame may replace
_ROWS = """
    SELECT seq, kind, channel, value, uptime_ms, trend, verdict FROM reading
    WHERE device = ? AND boot = ? AND seq BETWEEN ? AND ?
"""
_CONTESTED = """
    SELECT seq, kind, channel, value, uptime_ms, trend FROM contested
    WHERE device = ? AND boot = ? AND seq BETWEEN ? AND ? AND gateway = ?
"""
Count = Callable[..., None]


class Row(NamedTuple):
    """A stored row as far as a frame is made of it."""

    content: Content
    verdict: int


class Arrival(NamedTuple):
    """A batch as the store has it: ids of its gateway, of itself and of its devices, and when it came."""

    gateway: int
    batch: int
    devices: Sequence[int]
    unix_ms: int


class Frame(NamedTuple):
    """A tagged frame of a device of the store. number: of its row in `frame`, 0 while it is not kept."""

    number: int
    gateway: int
    device: int
    name: str
    boot: int
    epoch_unix_ms: int | None
    seqs: Sequence[int]
    other: dict[int, Content]
    tag: bytes


class TagCheck:
    """The check of one receiver. `count` adds to its running totals by name."""

    def __init__(self, db: sqlite3.Connection, count: Count) -> None:
        self._db = db
        self._count = count
        self.forget()

    def forget(self) -> None:
        """A transaction was rolled back."""
        self._contested = int(self._db.execute("SELECT count(*) FROM contested").fetchone()[0])
        self._waiting = int(self._db.execute("SELECT count(*) FROM frame").fetchone()[0])

    def first_verdicts(self, keys: Keys | None, batch: Batch) -> list[int]:
        """What rows of each of the batch's devices are before any frame is looked at."""
        return [_first(keys, device.id) for device in batch.devices]

    def contest(self, gateway: int, device: int, row: Reading) -> None:
        """Keep a row whose identity is stored with other content: a frame may prove it."""
        if self._contested >= CONTESTED_MAX:  # at most so many: counted anew only here, for a clone may bring thousands
            (self._contested,) = self._db.execute("SELECT count(*) FROM contested").fetchone()
        if self._contested >= CONTESTED_MAX:  # hints, and no reading is lost with them
            self._db.execute("DELETE FROM contested")
            self._count(rows_contested_dropped=self._contested)
            self._contested = 0
        self._contested += 1
        self._db.execute(
            "INSERT OR IGNORE INTO contested VALUES (?,?,?,?,?,?,?,?,?)",
            (device, row.boot, row.seq, gateway, row.kind, row.channel, row.value, row.trend, row.uptime_ms),
        )

    def conflict(self, gateway: int, device: int, row: Reading, now_unix_ms: int) -> None:
        """Two contents under one identity, and no tag to tell which is true."""
        self._alarm("conflict", gateway, device, row.boot, row.seq, now_unix_ms)

    def apply(self, keys: Keys, arrival: Arrival, batch: Batch) -> None:
        """Look at what a stored batch brought: its frames, frames that waited for its rows, rows without a tag."""
        gateway, devices, now_unix_ms = arrival.gateway, arrival.devices, arrival.unix_ms
        for sent in batch.frames:
            self._take(keys, gateway, devices[sent.device], batch.devices[sent.device].id, sent, now_unix_ms)
        for (place, boot), (first, last) in _spans(batch.readings).items():
            name, device = batch.devices[place].id, devices[place]
            if name in keys.revoked:
                self._count(rows_revoked=sum(row.device == place and row.boot == boot for row in batch.readings))
                self._alarm("revoked", gateway, device, boot, last, now_unix_ms)
            if name not in keys.boards:
                continue
            if self._waiting:
                where = "device = ? AND boot = ? AND last_seq >= ? AND first_seq <= ?"
                for frame in self._kept(where, device, boot, first, last):
                    self._check(keys, frame._replace(name=name), now_unix_ms)
            self._untagged(arrival, device, boot, (first, last))

    def expire(self, now_unix_ms: int) -> None:
        """Frames whose rows never came: what did come of them is told to be incomplete."""
        if not self._waiting:
            return
        for frame in self._kept("recv_unix_ms < ? ORDER BY recv_unix_ms LIMIT 1000", now_unix_ms - WAIT_MS_MAX):
            self._give_up(frame, now_unix_ms)
        if self._waiting > FRAMES_WAITING_MAX:
            for frame in self._kept("1 ORDER BY recv_unix_ms LIMIT ?", self._waiting - FRAMES_WAITING_MAX):
                self._give_up(frame, now_unix_ms)

    # -- one frame

    def _take(self, keys: Keys, gateway: int, device: int, name: str, sent: TaggedFrame, now_unix_ms: int) -> None:
        seqs = sent.seqs
        if name in keys.revoked or name in keys.untagged:
            return  # its rows' verdict says so
        if sent.tag is None:
            self._judge(device, sent.boot, seqs, verdict.THINNED, gateway, _SOFT)
            return
        frame = Frame(0, gateway, device, name, sent.boot, sent.epoch_unix_ms, seqs, sent.other, sent.tag)
        if name not in keys.boards:
            self._flag(frame, verdict.FORGED, now_unix_ms, (verdict.UNLISTED,))
            return
        self._check(keys, frame, now_unix_ms)

    def _check(self, keys: Keys, frame: Frame, now_unix_ms: int) -> None:
        ends = (frame.device, frame.boot, frame.seqs[0], frame.seqs[-1])
        rows = {row[0]: Row(row[1:6], row[6]) for row in self._db.execute(_ROWS, ends)}
        said = {row[0]: row[1:] for row in self._db.execute(_CONTESTED, (*ends, frame.gateway))}
        said.update(frame.other)
        missing = [seq for seq in frame.seqs if seq not in said and seq not in rows]
        if missing:
            self._wait(frame, now_unix_ms)
            return
        self._drop(frame)
        contents = {seq: said[seq] if seq in said else rows[seq].content for seq in frame.seqs}
        body = _body(frame, contents)
        if body is None or not _matches(keys.key(frame.name, keys.boards[frame.name]), body, frame.tag):
            self._flag(frame, self._why(keys, frame, body), now_unix_ms, _SOFT)
            return
        self._prove(frame, rows, contents, now_unix_ms)

    def _prove(self, frame: Frame, rows: dict[int, Row], contents: dict[int, Content], now_unix_ms: int) -> None:
        """The tag matches: every content is the board's word."""
        key = (frame.device, frame.boot)
        self._db.execute("INSERT OR IGNORE INTO proven VALUES (?,?,?,?)", (frame.tag, *key, frame.seqs[0]))
        fresh = 0
        for seq, content in contents.items():
            row = rows.get(seq)
            if row is None:
                continue  # gone at the gateway before it went up
            if row.content == content:
                if row.verdict not in (verdict.VERIFIED, verdict.CLONED):
                    fresh += 1
                    self._confirm(frame, seq)
            elif LOST in (row.content[0], content[0]):
                continue  # evicted on the board while it was under way: either is true
            elif row.verdict in (verdict.VERIFIED, verdict.CLONED):
                self._judge(*key, (seq,), verdict.CLONED, None, (verdict.VERIFIED,))
                self._alarm("cloned", frame.gateway, frame.device, frame.boot, seq, now_unix_ms)
                self._count(rows_cloned=int(row.verdict == verdict.VERIFIED))
            else:
                fresh += 1
                self._db.execute(
                    "UPDATE reading SET kind = ?, channel = ?, value = ?, uptime_ms = ?, trend = ?"
                    " WHERE device = ? AND boot = ? AND seq = ?",
                    (*content, *key, seq),
                )
                self._confirm(frame, seq)
                self._count(rows_restored=1)
        self._settle(frame)
        self._count(frames_verified=1, rows_verified=fresh)

    def _settle(self, frame: Frame) -> None:
        """Rows that were kept to prove this frame are needed no more."""
        self._db.execute(
            "DELETE FROM contested WHERE device = ? AND boot = ? AND seq BETWEEN ? AND ? AND gateway = ?",
            (frame.device, frame.boot, frame.seqs[0], frame.seqs[-1], frame.gateway),
        )

    def _confirm(self, frame: Frame, seq: int) -> None:
        """A row's content is proven; its time is the board's own where the frame had one, else a guess."""
        self._db.execute(
            "UPDATE reading SET verdict = ?1, epoch_unix_ms = coalesce(?2, epoch_unix_ms), trusted = ?2 IS NOT NULL"
            " WHERE device = ?3 AND boot = ?4 AND seq = ?5",
            (verdict.VERIFIED, frame.epoch_unix_ms, frame.device, frame.boot, seq),
        )

    def _why(self, keys: Keys, frame: Frame, body: bytes | None) -> int:
        """The most that can be said of a tag that does not match."""
        if body is not None:
            newest = keys.boards[frame.name]
            former = range(newest - 1, max(0, newest - 1 - _GENERATIONS_BACK), -1)
            if any(_matches(keys.key(frame.name, generation), body, frame.tag) for generation in former):
                return verdict.GENERATION
        known = self._db.execute("SELECT device, boot, first_seq FROM proven WHERE tag = ?", (frame.tag,)).fetchone()
        if known is not None and known[0] != frame.device:
            return verdict.SWAPPED
        if known is not None and known[1:] != (frame.boot, frame.seqs[0]):
            return verdict.REPLAYED
        if body is not None:
            others = list(keys.boards.items())[:_OTHER_BOARDS_MAX]
            if any(name != frame.name and _matches(keys.key(name, g), body, frame.tag) for name, g in others):
                return verdict.SWAPPED
        return verdict.ALTERED

    def _flag(self, frame: Frame, why: int, now_unix_ms: int, soft: Sequence[int]) -> None:
        """Give the frame's rows a verdict, as far as this gateway brought them, and raise the alarm."""
        changed = self._judge(frame.device, frame.boot, frame.seqs, why, frame.gateway, soft)
        name = verdict.NAMES[why]
        self._alarm(name, frame.gateway, frame.device, frame.boot, frame.seqs[0], now_unix_ms)
        self._count(**{f"frames_{name}": 1, f"rows_{name}": changed})
        self._settle(frame)

    def _judge(
        self, device: int, boot: int, seqs: Sequence[int], new: int, gateway: int | None, soft: Sequence[int]
    ) -> int:
        """Set the verdict of rows that have one of `soft`; of one gateway's only, where it is given."""
        marks = ",".join(map(str, soft))
        cursor = self._db.executemany(
            f"UPDATE reading SET verdict = ?1 WHERE device = ?2 AND boot = ?3 AND seq = ?4 AND verdict IN ({marks})"
            " AND (?5 IS NULL OR (SELECT gateway FROM batch WHERE id = reading.batch) = ?5)",
            [(new, device, boot, seq, gateway) for seq in seqs],
        )
        return cursor.rowcount  # of rows judged; `total_changes` counts what a trigger notes as well

    # -- frames that wait

    def _wait(self, frame: Frame, now_unix_ms: int) -> None:
        self._judge(frame.device, frame.boot, frame.seqs, verdict.WAITING, frame.gateway, (verdict.UNVERIFIED,))
        if frame.number:
            return
        content = json.dumps([frame.epoch_unix_ms, [b - a for a, b in pairwise(frame.seqs)], list(frame.other.items())])
        ends = (frame.seqs[0], frame.seqs[-1])
        before = self._db.total_changes
        self._db.execute(
            "INSERT OR IGNORE INTO frame (gateway, device, boot, first_seq, last_seq, content, tag, recv_unix_ms)"
            " VALUES (?,?,?,?,?,?,?,?)",
            (frame.gateway, frame.device, frame.boot, *ends, content, frame.tag, now_unix_ms),
        )
        self._waiting += self._db.total_changes - before

    def _kept(self, where: str, *values: int) -> list[Frame]:
        found = []
        for number, gateway, device, boot, first, content, tag in self._db.execute(
            f"SELECT id, gateway, device, boot, first_seq, content, tag FROM frame WHERE {where}", values
        ).fetchall():
            epoch, steps, other = json.loads(content)
            seqs = tuple(accumulate(steps, initial=first))
            said: dict[int, Content] = {seq: tuple(record) for seq, record in other}
            found.append(Frame(number, gateway, device, "", boot, epoch, seqs, said, tag))
        return found

    def _drop(self, frame: Frame) -> None:
        """The same frame may wait although it came again with the rows that it lacked."""
        before = self._db.total_changes
        self._db.execute(
            "DELETE FROM frame WHERE device = ? AND boot = ? AND last_seq = ? AND first_seq = ? AND tag = ?"
            " AND gateway = ?",
            (frame.device, frame.boot, frame.seqs[-1], frame.seqs[0], frame.tag, frame.gateway),
        )
        self._waiting -= self._db.total_changes - before

    def _give_up(self, frame: Frame, now_unix_ms: int) -> None:
        self._drop(frame)
        self._flag(frame, verdict.INCOMPLETE, now_unix_ms, _SOFT)

    # -- what is told

    def _untagged(self, arrival: Arrival, device: int, boot: int, ends: tuple[int, int]) -> None:
        """Rows of a board that tags which came in this batch without a tag."""
        (rows, latest) = self._db.execute(
            "SELECT count(*), max(seq) FROM reading WHERE device = ? AND boot = ? AND seq BETWEEN ? AND ?"
            " AND verdict = ? AND batch = ?",
            (device, boot, *ends, verdict.UNVERIFIED, arrival.batch),
        ).fetchone()
        if rows:
            self._count(rows_unverified=rows)
            self._alarm("unverified", arrival.gateway, device, boot, latest, arrival.unix_ms)

    def _alarm(self, reason: str, gateway: int, device: int, boot: int, seq: int, now_unix_ms: int) -> None:
        self._db.execute(
            "INSERT INTO alarm (device, reason, gateway, count, boot, seq, first_unix_ms, last_unix_ms)"
            " SELECT d.name, ?1, g.name, 1, ?2, ?3, ?4, ?4 FROM device d, gateway g WHERE d.id = ?5 AND g.id = ?6"
            " ON CONFLICT (device, reason, gateway) DO UPDATE SET count = count + 1, boot = excluded.boot,"
            " seq = excluded.seq, last_unix_ms = excluded.last_unix_ms,"
            " again_unix_ms = CASE WHEN count = acked THEN excluded.last_unix_ms ELSE again_unix_ms END",
            (reason, boot, seq, now_unix_ms, device, gateway),
        )


def _spans(readings: Iterable[Reading]) -> dict[tuple[int, int], tuple[int, int]]:
    """(device, boot) -> lowest and highest seq."""
    spans: dict[tuple[int, int], tuple[int, int]] = {}
    for row in readings:
        low, high = spans.get((row.device, row.boot), (row.seq, row.seq))
        spans[row.device, row.boot] = (min(low, row.seq), max(high, row.seq))
    return spans


def _first(keys: Keys | None, name: str) -> int:
    if keys is None:
        return verdict.UNCHECKED
    if name in keys.boards:
        return verdict.UNVERIFIED
    if name in keys.revoked:
        return verdict.REVOKED
    return verdict.OFF if name in keys.untagged else verdict.UNLISTED


def _matches(key: bytes, body: bytes, tag: bytes) -> bool:
    return hmac.compare_digest(hmac.digest(key, body, hashlib.sha256)[:TAG_BYTES], tag)


def _body(frame: Frame, contents: dict[int, Content]) -> bytes | None:
    """The bytes that the board tagged: its one encoding of these records. None when no board can have sent them."""
    epoch_s = epoch_ms = 0
    if frame.epoch_unix_ms is not None:
        epoch_s, epoch_ms = divmod(frame.epoch_unix_ms, 1000)
        epoch_s -= EPOCH_BASE_UNIX_S
        if not 1 <= epoch_s <= SMALL_INT_MAX:
            return None
    records = [(seq, *contents[seq]) for seq in frame.seqs]
    try:
        return bytes(encode(frame.boot, epoch_s, epoch_ms, records, b"")[:-TAG_BYTES])
    except FrameError:
        return None
