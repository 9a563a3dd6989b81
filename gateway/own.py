"""The gateway as a device: what it measures, decides or takes in for others becomes records like any board's.

Identity is (device, boot, seq) here too. `boot` counts the gateway's starts: in a file beside the store, so that it
goes on rising when the store is lost, and never below what the store holds. `seq` is given by the store in the
transaction that keeps the record (gateway/store/own.py), so no number is lost or comes twice. From there on the way is
a board's: commit, ledger, upload. Uptime counts from this process's start.

Two ways in, both from any thread:
    OwnDevice.offer  waits for room and says when there was none: for callers that can hold their source back
    OwnDevice.keep   never waits: for callers that must not. Up to KEPT_MAX records wait here for room; past that the
                     oldest report goes, then the oldest event, and a LOST record says how many went

It knows no database and no broker: items leave by call, and the callee says whether there was room.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gateway import durable
from gateway.describe import CHANNELS_MAX, Channels
from gateway.messages import EVENT_FIRST, EVENT_LAST, LOST, Made, MetaIn, NoteIn, OwnIn, Receipt
from isocore.frame import EPOCH_BASE_UNIX_S
from isocore.record import BOARD_CHANNEL, BOOT
from isocore.topics import is_device_id

log = logging.getLogger("isotherm.own")

Item = OwnIn | MetaIn | NoteIn
Put = Callable[[Item, int, bool, float], bool]

KEPT_MAX = 1000
BOOT_MAX = (1 << 30) - 1
_STEP_MS = 1000  # the wall clock moved when it left the uptime by more than this
_RESET_UNKNOWN = 0


def count_start(path: Path) -> int:
    """Count one more start and return its number; it is durable when this returns. Raises OSError.

    A file that is no number counts as none: the store's own numbers are the floor.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        text = ""
    number = min(int(text), BOOT_MAX - 1) + 1 if text.isdigit() else 1
    durable.replace(path, f"{number}\n".encode("ascii"))
    return number


def start_number(path: Path) -> int:
    """The same, but a disk that takes nothing is no reason not to start: the store's own numbers are floor enough."""
    try:
        return count_start(path)
    except OSError as exc:
        log.error("%s cannot be written (%s); the store alone counts the starts", exc.filename, exc.strerror)
        return 1


class Clock:
    """Uptime of this process, and the unix time at its uptime 0.

    A Pi has no clock of its own: until the network tells it, the time is wrong, and then it jumps. Before 2025 it
    counts as unknown; a jump moves the epoch of the records to come, smaller drift does not.
    """

    def __init__(self, wall_s: Callable[[], float] = time.time, monotonic_s: Callable[[], float] = time.monotonic):
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._start_s = monotonic_s()
        self._epoch_unix_ms: int | None = None

    def uptime_ms(self) -> int:
        return int((self._monotonic_s() - self._start_s) * 1000)

    def unix_ms(self) -> int:
        return int(self._wall_s() * 1000)

    def epoch_unix_ms(self) -> int | None:
        """Unix time in ms at uptime 0, or None while the clock is not to be believed."""
        now_unix_ms = self.unix_ms()
        if now_unix_ms < EPOCH_BASE_UNIX_S * 1000:
            return None
        found = now_unix_ms - self.uptime_ms()
        known = self._epoch_unix_ms
        if known is None or abs(found - known) > _STEP_MS:
            self._epoch_unix_ms = found
        return self._epoch_unix_ms


class Own:
    """All the devices that this gateway speaks for."""

    def __init__(self, put: Put, clock: Clock) -> None:
        """put: (item, rows, urgent, seconds to wait for room) -> False when there stayed none."""
        self.put = put
        self.clock = clock
        self.least_boot = 1
        self._lock = threading.Lock()
        self._devices: dict[str, OwnDevice] = {}
        self._known: dict[str, Channels] = {}

    def begin(self, least_boot: int, known: Mapping[str, Channels]) -> None:
        """Before the first record. least_boot: number of this start; known: channels of the devices that former
        starts spoke for: a channel keeps its number."""
        self.least_boot = least_boot
        self._known = dict(known)

    def speaks_for(self, name: str) -> bool:
        """True for a device of this gateway's, now or at a former start: nobody else may send in its name."""
        return name in self._devices or name in self._known

    def device(
        self, name: str, device_class: str, channels: Channels = (), more: Mapping[str, object] | None = None
    ) -> OwnDevice:
        """The device of that name, made when it is new; `more` goes into its meta. Raises ValueError for a bad name."""
        if not is_device_id(name) or not is_device_id(device_class):
            raise ValueError(f"a device's name and class must match [a-z0-9-]{{1,32}}, not {name!r}, {device_class!r}")
        with self._lock:
            found = self._devices.get(name)
            if found is None:
                found = OwnDevice(self, name, device_class, self._known.get(name, ()), more or {})
                self._devices[name] = found
            for channel, unit in channels:
                found.channel(channel, unit)
        return found

    def flush(self) -> None:
        """Hand on what waits, as far as there is room; never waits. Call it after each commit."""
        for device in list(self._devices.values()):
            device.flush()

    @property
    def kept(self) -> int:
        """Records that wait for room, for a gauge."""
        return sum(device.kept for device in list(self._devices.values()))


class OwnDevice:
    """One device: numbers its channels, and hands over what is made for it."""

    def __init__(self, own: Own, name: str, device_class: str, channels: Channels, more: Mapping[str, object]) -> None:
        self.name = name
        self._own = own
        self._class = device_class
        self._channels = list(channels)
        self._more = more
        self._lock = threading.Lock()
        self._waiting: list[tuple[Made, int | None, int]] = []  # record, epoch, when
        self._lost = 0
        self._edition = 1  # rises with each new channel
        self._described = 0  # the edition that the store has, or will have before any later record
        self.evicted = 0

    @property
    def channels(self) -> Channels:
        return tuple(self._channels)

    @property
    def kept(self) -> int:
        return len(self._waiting)

    def meta(self) -> str:
        """What it says of itself, as JSON."""
        channels = [{"name": name, "unit": unit} for name, unit in self.channels]
        return json.dumps({"v": 1, "class": self._class, **self._more, "own": True, "channels": channels or None})

    def channel(self, name: str, unit: str) -> int | None:
        """Number of a channel, given when it is new; None when there are CHANNELS_MAX."""
        with self._lock:
            for i, (known, held) in enumerate(self._channels):
                if known == name:
                    if held != unit:
                        self._channels[i] = (name, unit)
                        self._edition += 1
                    return i
            if len(self._channels) >= CHANNELS_MAX:
                return None
            self._channels.append((name, unit))
            self._edition += 1
            return len(self._channels) - 1

    def booted(self) -> None:
        """The first record: this device started with the gateway."""
        self.keep(BOOT, BOARD_CHANNEL, _RESET_UNKNOWN)

    def keep(self, kind: int, channel: int, value: int, trend: int = 0, uptime_ms: int | None = None) -> None:
        """Take a record, of this moment unless `uptime_ms` says otherwise. Never waits, never refuses."""
        clock = self._own.clock
        at_ms = clock.uptime_ms() if uptime_ms is None else uptime_ms
        with self._lock:
            self._waiting.append(((kind, channel, value, at_ms, trend), clock.epoch_unix_ms(), clock.unix_ms()))
            if len(self._waiting) > KEPT_MAX:
                self._evict()
            self._flush()

    def item(self, made: Sequence[Made]) -> OwnIn:
        """Records of this moment for somebody who stores them together with something else."""
        self._describe(0.0)  # without room it is said with the next record
        clock = self._own.clock
        return OwnIn(self.name, tuple(made), clock.epoch_unix_ms(), clock.unix_ms(), True, self._own.least_boot)

    @property
    def clock(self) -> Clock:
        return self._own.clock

    def offer(
        self,
        made: Sequence[Made],
        wait_s: float,
        *,
        epoch_unix_ms: int | None = None,
        receipt: Receipt | None = None,
    ) -> bool:
        """Hand over records together. False when there was no room within `wait_s`: then nothing was taken.

        epoch_unix_ms: unix time at uptime 0 of these records; without it this gateway's clock counts.
        """
        self.flush()
        # Waiting is done without the lock: the store's own thread comes by here after a commit.
        if not self._describe(wait_s):
            return False
        clock = self._own.clock
        epoch = clock.epoch_unix_ms() if epoch_unix_ms is None else epoch_unix_ms
        return self._put(tuple(made), epoch, clock.unix_ms(), wait_s, receipt)

    def note(self, column: str, text: str, wait_s: float = 0.0, fresh: bool = True) -> bool:
        """Keep a text of the device: status, model_state or health. False when there was no room.

        fresh: the device was heard just now.
        """
        when = self._own.clock.unix_ms() if fresh else 0
        return self._own.put(NoteIn(self.name, column, text, when), 1, False, wait_s)

    def flush(self) -> None:
        """Hand on what waits, as far as there is room."""
        if self._waiting and self._lock.acquire(blocking=False):
            try:
                self._flush()
            finally:
                self._lock.release()

    def _put(
        self, made: tuple[Made, ...], epoch: int | None, recv_unix_ms: int, wait_s: float, receipt: Receipt | None
    ) -> bool:
        urgent = any(EVENT_FIRST <= record[0] <= EVENT_LAST for record in made)
        item = OwnIn(self.name, made, epoch, recv_unix_ms, urgent, self._own.least_boot, receipt)
        return self._own.put(item, max(1, len(made)), urgent, wait_s)

    def _flush(self) -> None:
        while self._waiting:
            (first, epoch, recv_unix_ms), rest = self._waiting[0], self._waiting[1:]
            together = [first]
            if self._lost:
                together.insert(0, (LOST, BOARD_CHANNEL, self._lost, first[3], 0))
            for made, other, _ in rest:
                if other != epoch:
                    break
                together.append(made)
            if not self._describe(0.0) or not self._put(tuple(together), epoch, recv_unix_ms, 0.0, None):
                return
            del self._waiting[: len(together) - (1 if self._lost else 0)]
            self._lost = 0

    def _describe(self, wait_s: float) -> bool:
        edition = self._edition
        if self._described >= edition:
            return True
        now_unix_ms = self._own.clock.unix_ms()
        meta = MetaIn(self.name, self.meta(), self._class, None, None, None, now_unix_ms, own=True)
        if not self._own.put(meta, 1, True, wait_s):
            return False
        self._described = max(self._described, edition)
        return True

    def _evict(self) -> None:
        for i, (made, _, _) in enumerate(self._waiting):
            if not EVENT_FIRST <= made[0] <= EVENT_LAST:
                del self._waiting[i]
                break
        else:
            del self._waiting[0]
        self._lost += 1
        self.evicted += 1
        if self.evicted == 1:
            log.warning(
                "%s: the store takes nothing; the oldest of %d records go, and are counted", self.name, KEPT_MAX
            )
