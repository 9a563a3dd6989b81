"""What a run is made of: which boards, what each measures, how fast time goes and when things happen.

Turns options into plain data. Starts nothing and writes nothing but the rows each board plays.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host_tools import rooms, traces
from host_tools.errors import InputError
from host_tools.sensing import DS18B20, Sensing, Source, write_rows

FLEET = "demo"
GATEWAY_ID = "demo-gateway"
BOARDS_DEFAULT = 9
BOARDS_MAX = 200
RUN_S_DEFAULT = 45.0  # of real time, before the drain
ROOM_SPEED_DEFAULT = 3600.0  # an hour each second
ROOM_PERIOD_S = 60.0
ROOM_SPAN_S_MAX = 60 * 86_400.0
LEAD_MS = 10_000  # from power-on to the first row: DHT22s want 2 s, the radio a moment
EPOCH_UNIX_S = 1_767_225_600  # 2026-01-01T00:00:00Z: what the boards' clocks say at row 0 of a trace without dates
DHT22_PIN = 4
DS18B20_PIN = 5
STROBE_PIN = 27
SPILL_AGE_S = 86_400  # of board time, which runs fast here: a batch to flash when it is full, not with every reading


@dataclass(frozen=True)
class Timeline:
    """When things happen, as shares of the run: of board time when traces are played."""

    receiver_down: float = 0.30
    gateway_killed: float = 0.36
    gateway_up: float = 0.40
    receiver_up: float = 0.46
    model_pushed: float = 0.55


@dataclass(frozen=True)
class BoardPlan:
    """One board of the run. channels: names in the order of their numbers on the board."""

    name: str
    device_class: str
    source: Source
    sensing: Sensing
    row_count: int
    duration_ms: int
    speed: float  # board seconds a second

    @property
    def period_ms(self) -> int:
        """Mean time between samples."""
        return max(1, self.duration_ms // max(1, self.row_count - 1))

    @property
    def channels(self) -> tuple[str, ...]:
        return ("temperature", "humidity") if self.sensing.humidity else ("temperature",)

    def sensors(self) -> list[dict[str, Any]]:
        """The `sensors` table of the board's configuration."""
        if self.sensing.temperature == DS18B20:
            out: list[dict[str, Any]] = [
                {"type": "ds18b20", "pin": DS18B20_PIN, "channels": {"temperature": "temperature"}}
            ]
            if self.sensing.humidity:
                out.append({"type": "dht22", "pin": DHT22_PIN, "channels": {"humidity": "humidity"}})
            return out
        return [{"type": "dht22", "pin": DHT22_PIN, "channels": {"temperature": "temperature", "humidity": "humidity"}}]

    def devices(self) -> list[dict[str, Any]]:
        """The chips on the simulated board's pins."""
        out: list[dict[str, Any]] = []
        if self.sensing.temperature == DS18B20:
            out.append({"type": "ds18b20", "pin": DS18B20_PIN})
        if self.sensing.temperature != DS18B20 or self.sensing.humidity:
            out.append({"type": "dht22", "pin": DHT22_PIN})
        return out

    def configuration(self) -> dict[str, Any]:
        """The board's /config.json but for its links (links.py)."""
        return {
            "device": self.name,
            "class": self.device_class,
            "fleet": FLEET,
            "board": "virtual",
            "wifi": {"ssid": "demo", "password": "demo-password"},
            "clock": "rtc",
            "sampling": {"strobe_pin": STROBE_PIN},
            "sensors": self.sensors(),
            "actuators": [],
            "link": {},
            "outbox": {"spill_age_s": SPILL_AGE_S},
        }

    def write_rows(self, path: Path) -> int:
        """Write what the board's sensors will see. Returns the count of rows."""
        with path.open("w", encoding="ascii") as out:
            return write_rows(self.source.rows(), out, LEAD_MS, self.row_count)


@dataclass(frozen=True)
class Plan:
    """A whole run. per_class: one model a class, otherwise one a board."""

    boards: tuple[BoardPlan, ...]
    timeline: Timeline
    faults: bool
    per_class: bool


def make_plan(
    *,
    boards: int | None = None,
    trace_paths: Sequence[Path] = (),
    speed: float | None = None,
    duration_s: float | None = None,
    faults: bool = True,
    seed: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> Plan:
    """The run for a set of options; None means the default. Raises InputError."""
    if boards is not None and not 1 <= boards <= BOARDS_MAX:
        raise InputError(f"--boards: {boards} is not between 1 and {BOARDS_MAX}")
    for option, value in (("--speed", speed), ("--duration", duration_s)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{option}: must be more than 0")
    if trace_paths:
        plans = _trace_boards(trace_paths, boards, speed, duration_s, say)
    else:
        plans = _room_boards(boards or BOARDS_DEFAULT, speed or ROOM_SPEED_DEFAULT, duration_s or RUN_S_DEFAULT, seed)
    return Plan(tuple(plans), Timeline(), faults, per_class=not trace_paths)


def _room_boards(boards: int, speed: float, duration_s: float, seed: int) -> list[BoardPlan]:
    span_s = speed * duration_s
    if span_s > ROOM_SPAN_S_MAX:
        raise InputError(
            f"--speed: {speed:g} for {duration_s:g} s is {span_s / 86400:.0f} days of simulated rooms, "
            f"at most {ROOM_SPAN_S_MAX / 86400:.0f} are run; choose a lower speed"
        )
    period_s = min(ROOM_PERIOD_S, max(2.0, span_s / 100))
    fleet = rooms.fleet(boards, seed=seed, duration_s=max(span_s, 2 * period_s), period_s=period_s)
    return [
        BoardPlan(room.board, room.kind, room, room.sensing, room.row_count, room.duration_ms, speed) for room in fleet
    ]


def _trace_boards(
    paths: Sequence[Path], boards: int | None, speed: float | None, duration_s: float | None, say: Callable[[str], None]
) -> list[BoardPlan]:
    """Without a speed, each board plays the whole of its trace in the same time; with one, as much as fits."""
    found = list(traces.load_traces(paths, say).values())
    wanted = boards or len(found)
    if wanted > BOARDS_MAX:
        raise InputError(
            f"--trace: {wanted} boards in the files, at most {BOARDS_MAX} run at once; choose with --boards"
        )
    if wanted < len(found):
        say(f"playing the first {wanted} of {len(found)} boards in the traces")
    elif wanted > len(found):
        say(f"{len(found)} boards in the traces play as {wanted}: each is repeated under names of its own")
    plans: list[BoardPlan] = []
    taken = {trace.board for trace in found}
    for number in range(wanted):
        trace = found[number % len(found)]
        name = trace.board
        copy = number // len(found)
        if copy:
            copy += 1
            name = _copy_name(trace.board, copy, taken)
        plans.append(_trace_board(name, trace, speed, duration_s))
    return plans


def _trace_board(name: str, trace: traces.Trace, speed: float | None, duration_s: float | None) -> BoardPlan:
    row_count = len(trace)
    if speed is None:
        speed = max(1.0, trace.duration_ms / 1000 / (duration_s or RUN_S_DEFAULT))
    elif duration_s is not None:
        row_count = max(1, bisect_right(trace.t_ms, speed * duration_s * 1000))
    return BoardPlan(name, "trace", trace, trace.sensing, row_count, trace.t_ms[row_count - 1], speed)


def _copy_name(board: str, copy: int, taken: set[str]) -> str:
    while True:
        tail = f"-x{copy}"
        name = board[: 32 - len(tail)].rstrip("-") + tail
        if name not in taken:
            taken.add(name)
            return name
        copy += 1
