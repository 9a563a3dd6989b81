"""The part of app.py for what hangs off the store's commits: windows here, rules and outputs in app_alarms.py.

Who follows the store reads it with a connection of its own and never holds the writer up (gateway.follow).
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.config import Config
from gateway.follow import Follower
from gateway.messages import Committed, DeviceInfo
from gateway.metrics import Metrics
from gateway.policy import Selector, UploadPolicy
from gateway.store import Reader, Store, WindowReader
from gateway.windows import FOLLOWER, Windows


def policies(config: Config) -> tuple[UploadPolicy, ...]:
    """What of which channels goes up."""
    return tuple(upload.policy() for upload in config.upload.values())


class Watch:
    """`open` once the store is open, `start` once it works; `committed` in the writer's thread."""

    def __init__(self, config: Config, store: Store, metrics: Metrics, wall_s: Callable[[], float]) -> None:
        self._config = config
        self._store = store
        self._metrics = metrics
        self._wall_s = wall_s
        self._on_closed: Callable[[], None] = lambda: None
        self._rows: Reader
        self._history: WindowReader
        self._windows: Windows
        self._follower: Follower | None = None

    def open(self, head_row: int, on_closed: Callable[[], None]) -> None:
        """Load where each follower stands. on_closed: windows wait to be sent."""
        config = self._config
        self._rows = Reader(config.store_path)
        self._history = WindowReader(config.store_path)
        self._windows = Windows(
            config.windows.lengths_s,
            config.windows.hold_s,
            config.windows.grace_s,
            config.windows.keep_days,
            self._selector(config),
            self._history,
            self._store.keep_windows,
            lambda before_s: self._store.prune_windows(before_s, tuple(config.sinks)),
            self._metrics,
            self._wall_s,
            on_closed,
        )
        # What no sink has frozen yet may still be meant for windows; what was before is not gone through again.
        cursors = [self._rows.cursor(sink, lane) for sink in config.sinks for lane in ("live",)]
        place = self._history.follower(FOLLOWER)
        start_row = place if place is not None else min([*cursors, head_row + 1])
        if place is None:
            self._store.begin_follower(FOLLOWER, start_row)
        self._windows.load(start_row)
        self._follower = Follower(FOLLOWER, self._rows, self._windows, start_row, head_row)
        self._metrics.gauge(
            "follower_behind_rows",
            "Rows stored and not worked in yet, by follower.",
            lambda: self._follower.behind_rows if self._follower else 0,
            follower=FOLLOWER,
        )

    def start(self) -> None:
        if self._follower is not None:
            self._follower.start()

    def stop(self, timeout_s: float) -> None:
        """End after the step under way; call it while the store still commits."""
        if self._follower is not None:
            self._follower.stop(timeout_s)

    def close(self) -> None:
        if self._follower is not None:
            self._rows.close()
            self._history.close()

    @property
    def alive(self) -> bool:
        return self._follower is None or self._follower.alive

    @property
    def closed_ms(self) -> int:
        """Windows that ended by then are closed; unix time."""
        return self._windows.closed_ms

    def committed(self, news: Committed) -> None:
        """Returns at once."""
        if self._follower is not None:
            self._follower.committed(news)

    def tune(self, config: Config) -> None:
        """What a reload changes at once."""
        self._config = config
        self._windows.tune(self._selector(config))

    def _selector(self, config: Config) -> Selector:
        return Selector(policies(config), self._info)

    def _info(self, device: int) -> DeviceInfo | None:
        return self._rows.device_infos({device}).get(device)
