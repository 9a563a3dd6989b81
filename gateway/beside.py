"""What goes up in batches without readings: windows, with runs of analyses beside them, and states of models.

Each lane of such batches has a source, which makes what the next one holds; who sends them knows when one is due.
Its cursor is a revision, and moves in the transaction that freezes the batch: so a kill neither loses nor repeats. What
changes while a batch is on its way has a higher revision, and goes with the next. It knows neither slots nor sinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from gateway import wire
from gateway.messages import LANE_MODELS, LANE_WINDOWS, DeviceInfo, ModelState, Run, WindowRow

_MODELS_MAX = 1000  # in one batch


class Infos(Protocol):
    """Where devices are described: gateway.store.Reader."""

    def device_infos(self, devices: set[int]) -> dict[int, DeviceInfo]: ...


class ClosedWindows(Protocol):
    """Where windows are read: gateway.store.WindowReader."""

    def cursor(self, sink: str) -> int: ...
    def closed(self, first_revision: int, limit: int) -> list[WindowRow]: ...


class Analyses(Protocol):
    """What goes beside windows: gateway.analyses.Outgoing."""

    def ready(self, last_revision: int) -> tuple[list[dict[str, Any]], list[Run]]: ...
    @property
    def sent(self) -> Callable[[Sequence[Run]], None]: ...


class Models(Infos, Protocol):
    """Where states of models are read: gateway.store.Reader."""

    def unfrozen_models(self, sink: str, limit: int) -> list[ModelState]: ...


class Made(NamedTuple):
    """What a batch will hold: how much, whether that is all the limit lets, where the lane's cursor stands then, its
    document by its number, and whom to tell once it is durable."""

    size: int
    more: bool
    next_revision: int
    document: Callable[[int], dict[str, Any]]
    frozen: Callable[[], None]


class Source(Protocol):
    """Of one lane and one sink."""

    lane: str

    def make(self, limit: int) -> Made | None:
        """What the next batch holds; None: nothing now."""


class WindowSource:
    """Windows once closed, and again when late records changed them; runs of analyses beside them."""

    lane = LANE_WINDOWS

    def __init__(
        self, sink: str, gateway: str, infos: Infos, windows: ClosedWindows, analyses: Analyses | None = None
    ) -> None:
        self._sink = sink
        self._gateway = gateway
        self._infos = infos
        self._windows = windows
        self._analyses = analyses

    def make(self, limit: int) -> Made | None:
        cursor = self._windows.cursor(self._sink)
        windows = self._windows.closed(cursor, limit)
        next_revision = windows[-1].revision + 1 if windows else cursor
        documents, runs = self._analyses.ready(next_revision - 1) if self._analyses else ([], [])
        if not windows and not runs:
            return None
        infos = self._infos.device_infos({window.device for window in windows})

        def document(number: int) -> dict[str, Any]:
            return wire.window_document(self._gateway, number, windows, infos, documents)

        def frozen() -> None:
            if self._analyses and runs:
                self._analyses.sent(runs)

        return Made(len(windows), len(windows) == limit, next_revision, document, frozen)


class ModelSource:
    """What devices say of their models."""

    lane = LANE_MODELS

    def __init__(self, sink: str, gateway: str, models: Models) -> None:
        self._sink = sink
        self._gateway = gateway
        self._models = models

    def make(self, limit: int) -> Made | None:
        limit = min(limit, _MODELS_MAX)
        states = self._models.unfrozen_models(self._sink, limit)
        if not states:
            return None
        infos = self._models.device_infos({state.device for state in states})

        def document(number: int) -> dict[str, Any]:
            return wire.model_document(self._gateway, number, states, infos)

        return Made(len(states), len(states) == limit, states[-1].revision + 1, document, lambda: None)
