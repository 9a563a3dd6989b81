"""The seam between the receiver and what keeps its readings: a store that takes batches, and one that answers.

Today both are one SQLite file (`store.py`, `store_query.py`). A server database slots in by implementing these two and
passing tests/contract/test_store.py; nothing above this seam knows SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from host_tools.cloud.answers import Ack, Acked, Alarm, DeviceState, GatewayInfo, Latest, Place, Point
from host_tools.cloud.resample import Figures, Record
from host_tools.cloud.store_analyses import Result
from host_tools.cloud.store_models import DeviceModel
from host_tools.cloud.store_read import StoredAlarm, StoredReading, StoredWindow
from host_tools.cloud.wire import Batch

if TYPE_CHECKING:
    from host_tools.cloud.store import Stored


class BatchStore(Protocol):
    """Takes batches, each once, and says so when they are durable."""

    @property
    def waiting(self) -> int:
        """Batches that wait to be stored."""

    @property
    def trouble(self) -> str | None:
        """Why the last commit failed; None when it did not."""

    def submit(self, batch: Batch, request_bytes: int) -> Future[Stored]:
        """Queue a batch. The future ends after the commit of its rows together with its number and digest, or with
        DigestConflict, QuotaSpent or StoreError, when nothing of it is stored. Raises BusyError when too many wait."""

    def question(self) -> AbstractContextManager[Answers]:
        """Answers one question in bounded time, while batches come in. Raises TooLong at its end otherwise."""

    def look(self) -> Future[None]:
        """Look who is silent now, after what waits already. Raises BusyError."""

    def acknowledge(self, ack: Ack) -> Future[list[Acked]]:
        """Note that a person looked at identity alarms, after what waits already; durable when the future ends. An
        empty list: there is no such alarm. Raises BusyError."""

    def close(self) -> None:
        """Commit what waits, and stop."""


class Answers(Protocol):
    """What is asked of a store, in one state of it. Pages go on after the last name, identity or place."""

    def counters(self) -> dict[str, int]: ...
    def bytes_per_gateway(self) -> dict[str, int]: ...
    def frames_waiting(self) -> int: ...
    def silent(self) -> dict[str, int]: ...
    def identity_alarms(self) -> dict[str, int]: ...
    def alarms(self) -> list[StoredAlarm]: ...
    def gateways(self, now_unix_ms: int, after: str, limit: int) -> list[GatewayInfo]: ...
    def device_states(self, after: str, limit: int, only: str | None = None) -> list[DeviceState]: ...
    def latest(self, device: int, channels: set[int]) -> list[Latest]: ...
    def analyses(
        self,
        gateway: str | None,
        name: str | None,
        only_foreseen: bool,
        after: tuple[int, str, str, int] | None,
        limit: int,
    ) -> list[Result]: ...
    def models(self, device: str | None, state: str | None, after: str, limit: int) -> list[DeviceModel]: ...
    def model_changes(
        self, device: str | None, state: str | None, after: tuple[str, int, str] | None, limit: int
    ) -> list[DeviceModel]: ...
    def models_by_state(self) -> dict[str, int]: ...
    def standing(self, device: int, channel: int) -> list[Alarm]: ...
    def alarm_page(
        self, only_open: bool, section: int, after: Place, limit: int, now_unix_ms: int
    ) -> tuple[list[Alarm], tuple[int, Place] | None]: ...
    def page(
        self,
        device: str,
        channel: int | None,
        from_unix_ms: int | None,
        to_unix_ms: int | None,
        after: tuple[int, int],
        limit: int,
    ) -> list[StoredReading]: ...
    def points(
        self, device: int, channel: int, span_unix_ms: tuple[int, int], after: tuple[int, int, int], limit: int
    ) -> list[Point]: ...
    def windows(
        self,
        device: str,
        channel: int | None,
        length_s: int | None,
        from_unix_s: int,
        to_unix_s: int,
        limit: int,
        after: tuple[int, int, int] = (-1, -1, -1),
    ) -> list[StoredWindow]: ...
    def records(self, device: int, channel: int, span_unix_ms: tuple[int, int], limit: int) -> list[Record]: ...
    def events_before(self, device: int, channel: int, boot: int, seq: int) -> list[Record]: ...
    def first_unix_ms(self, device: int, channel: int) -> int | None: ...
    def longest_s(self, device: int, channel: int, divisor_of_s: int) -> int | None: ...
    def figures(self, device: int, channel: int, length_s: int, span_unix_s: tuple[int, int]) -> list[Figures]: ...


Ask = Callable[[], AbstractContextManager[Answers]]
