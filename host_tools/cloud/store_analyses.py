"""Analyses in the receiver's store: what a batch asks for, what is still to be run, and results.

`take` works inside the writer's transaction: it only copies the windows that a request names, since later batches may
change them; the run itself is the analyst's, behind it. Rules: a result of newer windows replaces one of older; the
same windows must have the same bytes, and one that has not is counted and left out.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from host_tools.cloud import store_foreseen
from host_tools.cloud.analyses import Across, Print, Request, foreseen, run
from host_tools.errors import StoreError

_BUSY_S = 30.0
_KEY = "gateway = ? AND name = ? AND length_s = ? AND start_unix_s = ?"
_WINDOWS = """
    SELECT d.name || '/' || w.channel, w.start_unix_s, w.mean, w.revision, d.name, d.class, w.channel, c.name
    FROM window w JOIN device d ON d.id = w.device LEFT JOIN channel c ON c.device = w.device AND c.number = w.channel
    WHERE w.length_s = ? AND w.start_unix_s >= ? AND w.start_unix_s <= ?
"""


class Result(NamedTuple):
    """One result. `place`: gateway or cloud; `matching`: False when the gateway had other windows than were here."""

    gateway: str
    name: str
    length_s: int
    start_unix_s: int
    windows: Print
    place: str
    result: bytes
    foreseen: int
    matching: bool


def take(db: sqlite3.Connection, gateway: int, batch: int, requests: Sequence[Request]) -> dict[str, int]:
    """Keep results, and what has to be run. Returns what to count."""
    counts: dict[str, int] = {}
    for request in requests:
        input_ = None
        print_ = request.windows
        matching = True
        if request.result is None:
            input_, here = _copy(db, request)
            matching = request.windows in (None, here)
            print_ = here
        assert print_ is not None
        outcome = _keep(db, gateway, batch, request, print_, matching, input_)
        counts[outcome] = counts.get(outcome, 0) + 1
        if not matching:
            counts["analyses_other_windows"] = counts.get("analyses_other_windows", 0) + 1
    return counts


def _keep(
    db: sqlite3.Connection,
    gateway: int,
    batch: int,
    request: Request,
    print_: Print,
    matching: bool,
    input_: str | None,
) -> str:
    key = (gateway, request.name, request.length_s, request.start_s)
    known = db.execute(
        f"SELECT window_count, revisions, last_revision, result FROM analysis WHERE {_KEY}", key
    ).fetchone()
    result = None if request.result is None else request.result.encode()
    if known is not None:
        before, stored = Print(*known[:3]), known[3]
        if _age(before) > _age(print_):
            return "analyses_outdated"
        if before == print_:
            if result is None or stored == result:
                return "analyses_repeated"
            if stored is not None:
                return "analyses_conflicting"
    place = "cloud" if result is None else "gateway"
    ahead = 0 if result is None else foreseen(result)
    db.execute(
        "INSERT OR REPLACE INTO analysis VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*key, *print_, place, input_, result, ahead, int(matching), batch),
    )
    store_foreseen.note(db, key, result)
    if known is not None:
        return "analyses_renewed"
    return "analyses_requested" if result is None else "analyses_received"


def _age(print_: Print) -> tuple[int, int, int]:
    return print_.last_revision, print_.revisions, print_.windows


def _copy(db: sqlite3.Connection, request: Request) -> tuple[str, Print]:
    """What the run needs, as JSON, and the print of the windows that are here."""
    rows = db.execute(_WINDOWS, (request.length_s, request.first_s, request.start_s))
    wanted = None if request.sensors is None else {f"{device}/{channel}" for device, channel in request.sensors}
    means: dict[str, dict[int, int]] = {}
    windows = revisions = last_revision = 0
    for key, at_s, mean, revision, device, device_class, number, channel in rows:
        if wanted is not None:
            if key not in wanted:
                continue
        elif request.across is None or not request.across.fits(device, device_class, channel or str(number)):
            continue
        windows += 1
        revisions += revision
        last_revision = max(last_revision, revision)
        of_sensor = means.setdefault(key, {})
        if mean is not None:
            of_sensor[at_s] = mean
    text = json.dumps({"request": request, "means": means}, separators=(",", ":"))
    return text, Print(windows, revisions, last_revision)


class AnalysisStore:
    """A connection of its own, for the analyst. A context manager."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_S, check_same_thread=False)
            self._db.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            raise StoreError(f"{path}: cannot be opened: {error}") from error

    def __enter__(self) -> AnalysisStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def work_off(self, limit: int = 16) -> int:
        """Run what is due, oldest first, at most `limit` runs. Returns how many. Raises StoreError."""
        try:
            due = self._db.execute(
                "SELECT gateway, name, length_s, start_unix_s, batch, input FROM analysis WHERE input IS NOT NULL"
                " ORDER BY batch, name, start_unix_s LIMIT ?",
                (limit,),
            ).fetchall()
            for *key, batch, text in due:
                self._keep((key[0], key[1], key[2], key[3]), batch, run(*_input(text)))
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreError(f"analyses: {error}") from error
        return len(due)

    def _keep(self, key: tuple[int, str, int, int], batch: int, result: bytes) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        # Not one that was asked for anew meanwhile: that is due again.
        done = self._db.execute(
            f"UPDATE analysis SET input = NULL, result = ?, foreseen = ? WHERE {_KEY} AND batch = ?",
            (result, foreseen(result), *key, batch),
        )
        if done.rowcount:
            store_foreseen.note(self._db, key, result)
        self._db.execute("COMMIT")


def _input(text: str) -> tuple[Request, dict[str, dict[int, int]]]:
    body = json.loads(text)
    request = Request._make(body["request"])
    sensors, across, windows = request.sensors, request.across, request.windows
    request = request._replace(
        sensors=None if sensors is None else tuple((device, channel) for device, channel in sensors),
        across=None if across is None else Across(*across),
        windows=None if windows is None else Print(*windows),
    )
    return request, {key: {int(at): mean for at, mean in of.items()} for key, of in body["means"].items()}


def latest(
    db: sqlite3.Connection,
    gateway: str | None,
    name: str | None,
    only_foreseen: bool,
    limit: int,
    after: tuple[int, str, str, int] | None = None,
) -> list[Result]:
    """Results, the latest window first. after: start, gateway, name and length of the last one of the page before."""
    start_s, *place = after or (1 << 53, "", "", 0)
    rows = db.execute(
        "SELECT g.name, a.name, length_s, start_unix_s, window_count, revisions, last_revision, place, result,"
        " foreseen, matching FROM analysis a JOIN gateway g ON g.id = a.gateway WHERE result IS NOT NULL"
        " AND (?1 IS NULL OR g.name = ?1) AND (?2 IS NULL OR a.name = ?2) AND foreseen >= ?3"
        " AND (-start_unix_s, g.name, a.name, length_s) > (?4, ?5, ?6, ?7)"
        " ORDER BY start_unix_s DESC, g.name, a.name, length_s LIMIT ?8",
        (gateway, name, int(only_foreseen), -start_s, *place, limit),
    )
    return [Result._make((*row[:4], Print(*row[4:7]), *row[7:10], bool(row[10]))) for row in rows]


_FIELDS = (
    "sensor",
    "value_milli",
    "deviation_milli",
    "score_milli",
    "slope_milli_h",
    "limit_milli",
    "cross_s",
    "earliest_s",
    "latest_s",
)


def described(result: Result) -> dict[str, Any]:
    """A result for people and programs; `sensor` is device id and channel number."""
    rows = json.loads(result.result)[3]
    return {
        "gateway": result.gateway,
        "name": result.name,
        "length_s": result.length_s,
        "place": result.place,
        "matching": result.matching,
        "foreseen": result.foreseen,
        "sensors": [dict(zip(_FIELDS, row, strict=True)) for row in rows],
    }
