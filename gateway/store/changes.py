"""What others may ask of the writer: each call is one change, made within its next transaction.

It knows no queue and no thread: `_ask` takes the change there, and the ticket tells what became of it.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from gateway.messages import Alarm, Batch, KeptWindow, Notice, OwnIn, Run, Unsent
from gateway.store import aggregates, analyses, batches, sinks
from gateway.store import alarms as alarm_table
from gateway.store.ticket import Ticket

_ALL_SENT = Unsent()


class Changes(ABC):
    """The store's, for batchers, followers, rules and people."""

    _wall_s: Callable[[], float]

    @abstractmethod
    def _ask(self, change: Callable[[sqlite3.Connection], object], alone: bool = False, urgent: bool = True) -> Ticket:
        """Queue a change; never waits."""

    @abstractmethod
    def _apply_own(self, own: OwnIn) -> None:
        """Inside a change: store records of the gateway's own."""

    @abstractmethod
    def _head_row(self) -> int:
        """Inside a change: the last row id given out."""

    def reserve_batches(self, count: int) -> int | None:
        """The first of `count` new batch numbers, durable; None when the store is stopping."""
        ticket = self._ask(lambda c: batches.reserve(c, count))
        if not ticket.wait():
            return None
        assert isinstance(ticket.result, int)
        return ticket.result

    def freeze(self, batch: Batch, next_row: int, cuts: int | None = None, unsent: Unsent = _ALL_SENT) -> bool:
        """Keep a batch and move its lane; True when durable. `cuts`: the reader's, when it read the rows.

        unsent: what lay between and does not go up.
        """
        now_unix_ms = int(self._wall_s() * 1000)
        return self._ask(lambda c: batches.freeze(c, batch, next_row, cuts, unsent, now_unix_ms)).done

    def advance(self, sink: str, lane: str, next_row: int) -> bool:
        """Move a lane's cursor over rows that are not its own."""
        return self._ask(lambda c: batches.advance(c, sink, lane, next_row)).wait()

    def leave_out(self, sink: str, lane: str, next_row: int, cuts: int | None, unsent: Unsent) -> bool:
        """Move a lane's cursor over rows that do not go up; True when durable. `cuts` as for `freeze`."""
        return self._ask(lambda c: batches.leave_out(c, sink, lane, next_row, cuts, unsent)).done

    def begin_follower(self, follower: str, next_row: int) -> None:
        """Keep where a new follower begins, before any change asked for later; never waits.

        Else a kill before its first step would leave it behind rows that went up, or were counted into windows.
        """
        self._ask(lambda c: aggregates.begin(c, follower, next_row))

    def keep_windows(
        self, follower: str, next_row: int, windows: Sequence[KeptWindow], states: Sequence[tuple[int, int, str]]
    ) -> bool:
        """Keep what a follower made of the rows before `next_row`; True when durable. No commit hurries for it."""
        now_unix_ms = int(self._wall_s() * 1000)
        change = lambda c: aggregates.save(c, follower, next_row, windows, states, now_unix_ms)  # noqa: E731
        return self._ask(change, urgent=False).wait()

    def keep_alarms(
        self, follower: str, next_row: int, alarms: Sequence[Alarm], notices: Sequence[Notice], own: OwnIn | None
    ) -> Ticket:
        """Keep alarms, what is to be told of them, and the records that tell the cloud: all of it or nothing."""

        def change(connection: sqlite3.Connection) -> None:
            alarm_table.save(connection, follower, next_row, alarms, notices)
            if own is not None:
                self._apply_own(own)

        return self._ask(change)

    def told(self, notice: int) -> None:
        """A notice needs no more telling; never waits: told once more after a kill, it has the same id."""
        self._ask(lambda c: alarm_table.told(c, notice))

    def keep_run(self, run: Run, before_s: int) -> bool:
        """Keep where an analysis runs, or what it found, and forget runs of windows before `before_s`; True when
        durable. No commit hurries for it."""
        return self._ask(lambda c: analyses.save(c, run, before_s), urgent=False).wait()

    def runs_sent(self, runs: Sequence[Run]) -> None:
        """They are in a frozen batch; never waits: sent once more after a kill, they are the same runs."""
        self._ask(lambda c: analyses.sent(c, runs), urgent=False)

    def prune_windows(self, before_s: int, sinks: Sequence[str]) -> int:
        """Forget old windows that every one of `sinks` has frozen. Returns how many."""
        ticket = self._ask(lambda c: aggregates.prune(c, before_s, sinks))
        return ticket.result if ticket.wait() and isinstance(ticket.result, int) else 0

    def leave_behind(self, sink: str, first_row: int, last_row: int) -> bool:
        """Hand a range from the live lane to the backfill lane."""
        return self._ask(lambda c: batches.leave_behind(c, sink, first_row, last_row)).wait()

    def uploaded(self, sink: str, batch: int) -> bool:
        """A batch has arrived; True when that is durable."""
        return self._ask(lambda c: batches.uploaded(c, sink, batch)).wait()

    def quarantine(self, sink: str, batch: int, reason: str) -> bool:
        """A batch is refused for good; True when that is durable."""
        return self._ask(lambda c: batches.quarantine(c, sink, batch, reason)).wait()

    def replace(self, sink: str, number: int, new: Sequence[Batch]) -> bool:
        """New batches in the place of a pending one; True when that is durable."""
        now_unix_ms = int(self._wall_s() * 1000)
        ticket = self._ask(lambda c: batches.replace(c, sink, number, new, now_unix_ms))
        return ticket.wait() and ticket.result is True

    def retry(self, sink: str, batch: int) -> Batch | None:
        """Take a batch out of quarantine; the batch when that is durable, None when there is none such."""
        ticket = self._ask(lambda c: batches.retry(c, sink, batch))
        return ticket.result if ticket.wait() and isinstance(ticket.result, Batch) else None

    def drop(self, sink: str, batch: int) -> bool:
        """Give up a batch in quarantine; True when that is durable, False when there is none such."""
        ticket = self._ask(lambda c: batches.drop(c, sink, batch))
        return ticket.wait() and ticket.result is True

    def enrol(self, starts: Mapping[str, str], timeout_s: float) -> list[str] | None:
        """Say which sinks are configured, and where each begins if it is new ("oldest" or "newest").

        Returns the new ones once that is durable. None when it is not within the time: it will be, unless this ends.
        """
        now_unix_ms = int(self._wall_s() * 1000)
        ticket = self._ask(lambda c: sinks.enrol(c, starts, self._head_row(), now_unix_ms))
        return ticket.result if ticket.wait(timeout_s) and isinstance(ticket.result, list) else None
