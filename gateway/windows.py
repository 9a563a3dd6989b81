"""Windows of what channels report, made while the rows come in: isocore.aggregate between the store's rows and table.

Only channels whose policy sends windows are folded. A window is closed when it ended `grace_s` ago; what comes later
changes it, and it goes up again with a higher revision. What a step's rows made is kept in the transaction that moves
this follower's place, so a kill loses nothing and counts nothing twice. Bounds: the open windows of the channels that
are folded. It knows neither SQL nor who sends windows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gateway.errors import StoreUnusable
from gateway.messages import ChannelRecord, KeptWindow, Row
from gateway.metrics import Metrics
from gateway.policy import WINDOWS, Selector
from isocore.aggregate import KINDS, NOTHING, Channel, Window

FOLLOWER = "windows"
OPEN, CLOSING = 0, -1
_CLOSE_S = 60
_PLACE_ROWS = 2000  # rows without windows after which the place is kept all the same
_PRUNE_S = 3600
_DAY_S = 86400

Place = tuple[int, int]  # device, channel
Slot = tuple[int, int]  # length_s, start_s


class History(Protocol):
    """What is asked of the store: gateway.store.WindowReader."""

    def states(self) -> list[tuple[int, int, str]]: ...
    def open_windows(self) -> list[KeptWindow]: ...
    def window(self, device: int, channel: int, length_s: int, start_s: int) -> KeptWindow | None: ...
    def windows_from(self, device: int, channel: int, start_s: int) -> list[KeptWindow]: ...
    def opening_before(
        self, device: int, channel: int, length_s: int, start_s: int, key: tuple[int, int, int]
    ) -> KeptWindow | None: ...
    def channel_records(
        self, device: int, channel: int, after: tuple[int, int, int], last_row: int
    ) -> list[ChannelRecord]: ...


# (follower, next_row, windows, states) -> durable; (windows that ended before unix_s) -> how many are forgotten
Keep = Callable[[str, int, Sequence[KeptWindow], Sequence[tuple[int, int, str]]], bool]
Prune = Callable[[int], int]


class _Folding:
    """One channel: its folding, and the windows of it that are not closed or have changed since."""

    def __init__(self, lengths_s: tuple[int, ...], hold_s: int, fetch: Callable[[int, int], Window | None]) -> None:
        self._fetch = fetch
        self.channel = Channel(lengths_s, hold_s, self._find)
        self.open: dict[Slot, Window] = {}

    def _find(self, length_s: int, start_s: int) -> Window | None:
        return self.open.get((length_s, start_s)) or self._fetch(length_s, start_s)


class Windows:
    """Follows the store (gateway.follow). `select` says of which channels windows go up."""

    def __init__(
        self,
        lengths_s: tuple[int, ...],
        hold_s: int,
        grace_s: int,
        keep_days: int,
        select: Selector,
        history: History,
        keep: Keep,
        prune: Prune,
        metrics: Metrics,
        wall_s: Callable[[], float],
        on_closed: Callable[[], None],
    ) -> None:
        self._lengths_s = lengths_s
        self._hold_s = hold_s
        self._grace_ms = grace_s * 1000
        self._keep_days = keep_days
        self._select = select
        self._history = history
        self._keep = keep
        self._prune = prune
        self._metrics = metrics
        self._wall_s = wall_s
        self._on_closed = on_closed
        self._next_row = 0
        self._kept_row = 0
        self._closed_ms = 0
        self._settled_ms = 0
        self._pruned_s: int | None = None
        self._foldings: dict[Place, _Folding] = {}
        self._touched: set[Place] = set()
        self._late: dict[Place, dict[Slot, KeptWindow]] = {}  # windows as they were before they were folded anew

    def tune(self, select: Selector) -> None:
        """Other channels, from the next step on. What was folded of others stays as it is."""
        self._select = select

    def load(self, next_row: int) -> None:
        """Stand where the store says that folding stands."""
        self._next_row = self._kept_row = next_row
        self._foldings.clear()
        self._touched.clear()
        self._late.clear()
        self._closed_ms = 0
        for device, channel, text in self._history.states():
            state, reached_ms = json.loads(text)
            if len(reached_ms) == len(self._lengths_s):
                self._folding((device, channel)).channel.resume(state, reached_ms)
        for kept in self._history.open_windows():
            if kept.length_s in self._lengths_s:
                folding = self._folding((kept.device, kept.channel))
                folding.open[kept.length_s, kept.start_s] = _window(kept)

    @property
    def closed_ms(self) -> int:
        """Windows that ended by then are closed and kept; 0: not looked yet. Unix time."""
        return self._settled_ms

    # -- the follower's calls

    @property
    def wants_rows(self) -> bool:
        return self._select.any_windows

    def forget(self) -> None:
        self._select.forget()

    def take(self, rows: list[Row], next_row: int) -> None:
        for row in rows:
            if row.kind not in KINDS or WINDOWS not in self._select.send(row.device, row.channel):
                continue
            place = (row.device, row.channel)
            epoch = row.epoch_unix_ms or 0
            record = ChannelRecord(
                row.boot, row.seq, row.kind, row.value, row.trend, row.uptime_ms, epoch + row.uptime_ms
            )
            folding = self._folding(place)
            if not folding.channel.feed(*record):
                self._go_back(place, record, row.row)
            self._touched.add(place)
        self._next_row = next_row
        if self._touched or next_row - self._kept_row >= _PLACE_ROWS:
            self._save(None)

    def tick(self) -> None:
        # Not after every step: closing carries values on to now, and a backlog's next record would have to go back.
        limit_ms = int(self._wall_s() * 1000) - self._grace_ms
        every_ms = min(self._lengths_s[0], _CLOSE_S) * 1000
        if limit_ms // every_ms == self._closed_ms // every_ms:
            return
        self._closed_ms = limit_ms
        for place, folding in self._foldings.items():
            folding.channel.close(limit_ms)
            if folding.channel.windows or folding.open:
                self._touched.add(place)
        self._save(limit_ms)
        self._settled_ms = limit_ms
        now_s = limit_ms // 1000
        if self._pruned_s is None or abs(now_s - self._pruned_s) >= _PRUNE_S:
            self._pruned_s = now_s
            self._prune(now_s - self._keep_days * _DAY_S)

    # -- folding

    def _folding(self, place: Place) -> _Folding:
        folding = self._foldings.get(place)
        if folding is None:

            def fetch(length_s: int, start_s: int) -> Window | None:
                kept = self._history.window(*place, length_s, start_s)
                return _window(kept) if kept else None

            folding = self._foldings[place] = _Folding(self._lengths_s, self._hold_s, fetch)
        return folding

    def _go_back(self, place: Place, record: ChannelRecord, row: int) -> None:
        """A record inside what is folded: stand before it, and fold again what is behind."""
        self._metrics.add("windows_late_total", 1)
        self._save(None)  # what is open must be in the table, which is asked next
        longest_s = self._lengths_s[-1]
        key = (record.boot, record.uptime_ms, record.seq)
        start_s = record.unix_ms // 1000 // longest_s * longest_s
        before = self._history.opening_before(*place, longest_s, start_s, key)
        folding = self._folding(place)
        floor_s = before.start_s if before else 0
        folding.open = {slot: window for slot, window in folding.open.items() if slot[1] < floor_s}
        opening = _opening(before) if before else (NOTHING, 0)
        fresh = self._late.setdefault(place, {})
        for kept in self._history.windows_from(*place, floor_s):
            if kept.length_s in self._lengths_s:
                fresh.setdefault((kept.length_s, kept.start_s), kept)
        blank = _Folding(self._lengths_s, self._hold_s, lambda length_s, start_s: None)
        blank.channel.go_back(opening, floor_s if before else None)
        for other in self._history.channel_records(*place, opening[0][:3], row):
            blank.channel.take(*other)
        folding.channel.resume(blank.channel.state, blank.channel.reached())
        folding.channel.windows = blank.channel.windows
        for slot in fresh.keys() - blank.channel.windows.keys():
            if slot[1] >= floor_s:  # nothing is known of it any more
                folding.channel.windows[slot] = Window(*slot, (NOTHING, 0))

    # -- keeping

    def _save(self, limit_ms: int | None) -> None:
        """Keep what was touched; close what ended by `limit_ms` (None: nothing)."""
        kept: list[KeptWindow] = []
        states: list[tuple[int, int, str]] = []
        closed = 0
        for place in self._touched:
            folding = self._foldings[place]
            changed, folding.channel.windows = folding.channel.windows, {}
            folding.open.update(changed)
            before = self._late.get(place, {})
            for slot, window in list(folding.open.items()):
                revision = OPEN
                if limit_ms is not None and (slot[0] + slot[1]) * 1000 <= limit_ms:
                    del folding.open[slot]
                    known = before.get(slot)
                    same = known is not None and known.revision > 0 and _figures(_window(known)) == _figures(window)
                    revision = known.revision if same and known else CLOSING
                    closed += not same
                elif slot not in changed:
                    continue
                kept.append(_kept(place, window, revision))
            states.append((*place, json.dumps([folding.channel.state, folding.channel.reached()])))
        if not self._keep(FOLLOWER, self._next_row, kept, states):
            self.load(self._next_row)
            raise StoreUnusable("windows could not be kept; they are made again")
        self._kept_row = self._next_row
        self._touched.clear()
        if limit_ms is not None:
            self._late.clear()
        if closed:
            self._metrics.add("windows_closed_total", closed)
            self._on_closed()


def _opening(kept: KeptWindow) -> tuple[tuple[Any, ...], int]:
    state, unix_ms = json.loads(kept.opening)
    return tuple(state), unix_ms


def _window(kept: KeptWindow) -> Window:
    window = Window(kept.length_s, kept.start_s, _opening(kept))
    window.least, window.greatest, window.last = kept.least, kept.greatest, kept.last
    window.area, window.count = kept.area, kept.reports
    window.covered_ms, window.alarm_ms, window.fault_ms = kept.covered_ms, kept.alarm_ms, kept.fault_ms
    return window


def _figures(window: Window) -> tuple[Any, ...]:
    return (window.area, *window.figures())


def _kept(place: Place, window: Window, revision: int) -> KeptWindow:
    state = window.opening[0]
    return KeptWindow(
        *place,
        window.length_s,
        window.start_s,
        revision,
        window.least,
        window.greatest,
        window.last,
        window.area,
        window.count,
        window.covered_ms,
        window.alarm_ms,
        window.fault_ms,
        json.dumps(window.opening),
        None if state == NOTHING and window.opening[1] == 0 else tuple(state[:3]),
    )
