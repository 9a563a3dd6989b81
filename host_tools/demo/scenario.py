"""What happens in a run, and when: outages, a kill, a model; then the drain, and the books.

Drives a Stack along a Timeline and looks at it four times a second. Shows what it sees through a Display.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from host_tools.demo import books, learning
from host_tools.demo.plan import LEAD_MS, BoardPlan, Plan
from host_tools.demo.reconcile import Outcome, reconcile
from host_tools.demo.stack import Stack
from host_tools.demo.table import BoardView, Display, RunView
from host_tools.errors import HostError

TICK_S = 0.25
STALL_S = 90.0  # no board got on, or the drain got nowhere, for this long: something is wrong
PUSH_TIMEOUT_S = 60.0
OUTBOX_CALM_RECORDS = 50  # what a board may hold when nothing is held up: at this pace something always is under way
ARRIVAL_S_MAX = 15.0  # training begins with what is there by then
_DAY_MS = 86_400_000


class StalledError(HostError):
    """The run got nowhere for STALL_S."""


@dataclass
class _Step:
    """Something that happens once the run has come to `at`, a share of it."""

    at: float
    phase: str
    action: Callable[[], None]


@dataclass
class _Rates:
    """Reports a sensor-day of one board before and after its trained model took over."""

    sent_at_switch: int = 0
    run_ms_at_switch: int = 0
    per_day_before: float | None = None


@dataclass
class _Watch:
    """Notices when nothing moves any more."""

    figure: object = None
    since_s: float = field(default_factory=time.monotonic)

    def check(self, figure: object, what: str) -> None:
        """Raises StalledError when `figure` has stood still for STALL_S."""
        now_s = time.monotonic()
        if figure != self.figure:
            self.figure, self.since_s = figure, now_s
        elif now_s - self.since_s > STALL_S:
            raise StalledError(f"{what} for {STALL_S:.0f} s; the logs are kept")


class Scenario:
    """One run from power-on to the reconciled books."""

    def __init__(self, plan: Plan, stack: Stack, display: Display) -> None:
        self._plan = plan
        self._stack = stack
        self._display = display
        self._phase = "boards boot and send; every reading is on its way"
        self._rates = {board.name: _Rates() for board in plan.boards}
        self._outages: list[tuple[int, int]] = []
        self._outage_since_ms: int | None = None
        self._gateway_up = self._receiver_up = True
        self._view = RunView(self._phase, 0.0, [], True, True)
        self._train_by_s: float | None = None
        self._training: Future[learning.Rollout] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="trainer")
        self._error_milli = learning.BUILT_IN_ERROR_MILLI
        self.notes: list[str] = []

    def run(self) -> Outcome:
        """Run it all. Raises HostError when a part fails; whoever made the Stack stops it."""
        try:
            self._stack.start_boards()
            self._play()
            self._finish_training()
            self._drain()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._phase = "switching off and counting"
        self._look(1.0)
        return self._count()

    # ---- the timeline

    def _steps(self) -> list[_Step]:
        when = self._plan.timeline
        train = _Step(when.model_pushed, "training a threshold model on what was collected", self._pause)
        if not self._plan.faults:
            return [train]
        return [
            _Step(when.receiver_down, "the receiver is stopped: the gateway keeps everything", self._stop_receiver),
            _Step(when.gateway_killed, "the gateway is killed (-9): the boards keep everything", self._kill_gateway),
            _Step(when.gateway_up, "the gateway is back and asks for what it missed", self._start_gateway),
            _Step(when.receiver_up, "the receiver is back: the backlog goes up", self._start_receiver),
            train,
        ]

    def _play(self) -> None:
        steps = self._steps()
        watch = _Watch()
        while True:
            done, figures = self._progress()
            if steps and done >= steps[0].at:  # one a look, so that each is seen and lasts, however late it comes
                step = steps.pop(0)
                self._phase = step.phase
                step.action()
            self._tend_training()
            self._tend_outage()
            self._look(done)
            self._stack.check_alive(gateway=self._gateway_up, receiver=self._receiver_up)
            watch.check(figures, "no board got on")
            if not steps and all(board.trace_done for board in self._stack.boards.values()):
                return
            time.sleep(TICK_S)

    def _progress(self) -> tuple[float, tuple[int, ...]]:
        """Share of the run that lies behind, and every board's own clock."""
        run_ms = tuple(int(self._stack.boards[board.name].counters.get("run_ms", 0)) for board in self._plan.boards)
        if all(board.trace_done for board in self._stack.boards.values()):
            return 1.0, run_ms
        shares = (now / (plan.duration_ms + LEAD_MS) for now, plan in zip(run_ms, self._plan.boards, strict=True))
        return min(0.99, max(shares)), run_ms

    # ---- faults

    def _stop_receiver(self) -> None:
        self._outage_since_ms = _unix_ms()
        self._receiver_up = False
        self._stack.receiver.stop()

    def _kill_gateway(self) -> None:
        self._outage_since_ms = self._outage_since_ms or _unix_ms()
        self._gateway_up = False
        self._stack.gateway.kill()

    def _start_gateway(self) -> None:
        self._stack.start_gateway()
        self._gateway_up = True

    def _start_receiver(self) -> None:
        self._stack.start_receiver()
        self._receiver_up = True

    def _tend_outage(self) -> None:
        """An outage ends when what it held back has gone up."""
        if self._outage_since_ms is None or not (self._gateway_up and self._receiver_up):
            return
        calm = all(int(b.counters.get("outbox", 0)) < OUTBOX_CALM_RECORDS for b in self._stack.boards.values())
        if self._view.backlog == 0 and calm:
            self._outages.append((self._outage_since_ms, _unix_ms()))
            self._outage_since_ms = None

    def _waiting(self) -> int:
        """Records that boards hold and no gateway has acknowledged."""
        return self._sum("outbox")

    def _sum(self, *counters: str) -> int:
        """Some of the firmware's counters over all boards."""
        return sum(int(board.counters.get(name, 0)) for board in self._stack.boards.values() for name in counters)

    # ---- the model

    def _pause(self) -> None:
        """Let the world wait, so that what was measured arrives and training takes none of its time."""
        for board in self._stack.boards.values():
            board.set_speed(1.0)
        self._train_by_s = time.monotonic() + ARRIVAL_S_MAX

    def _begin_training(self) -> None:
        self._train_by_s = None
        for board in self._plan.boards:
            rates = self._rates[board.name]
            rates.sent_at_switch, rates.run_ms_at_switch = _sent_and_time(self._stack.boards[board.name].counters)
            rates.per_day_before = _per_day(rates.sent_at_switch, rates.run_ms_at_switch, len(board.channels))
        self._training = self._pool.submit(
            learning.train_and_push,
            self._plan,
            self._stack.cloud_dir,
            self._stack.links,
            self._stack.broker_port,
            PUSH_TIMEOUT_S,
            self._resume,
        )

    def _resume(self) -> None:
        for board in self._plan.boards:
            self._stack.boards[board.name].set_speed(board.speed)

    def _tend_training(self) -> None:
        if self._train_by_s is not None:
            all_arrived = self._view.backlog == 0 and self._waiting() == 0
            if all_arrived or time.monotonic() > self._train_by_s:
                self._begin_training()
        if self._training is not None and self._training.done():
            result = self._training.result()
            self._training = None
            self.notes += result.notes
            self._error_milli = max(self._error_milli, result.error_milli)
            self._phase = result.headline

    def _finish_training(self) -> None:
        deadline_s = time.monotonic() + PUSH_TIMEOUT_S
        while (self._training or self._train_by_s) and time.monotonic() < deadline_s:
            self._tend_training()
            self._look(1.0)
            time.sleep(TICK_S)

    # ---- the end

    def _drain(self) -> None:
        """Wait until nothing waits anywhere any more."""
        self._phase = "the day is over: waiting until everything has arrived"
        watch = _Watch()
        calm = 0
        while calm < 2:
            self._look(1.0)
            self._tend_outage()
            self._stack.check_alive(gateway=True, receiver=True)
            waiting = self._waiting()
            kept = self._sum("sent", "events_sent") - self._sum("evicted", "events_evicted")
            settled = waiting == 0 and self._view.stored >= kept and self._view.cloud_rows >= self._view.stored
            calm = calm + 1 if settled else 0
            watch.check(
                (waiting, self._view.stored, self._view.cloud_rows), "records are still under way and nothing moved"
            )
            time.sleep(TICK_S)

    def _count(self) -> Outcome:
        if self._outage_since_ms is not None:
            self._outages.append((self._outage_since_ms, _unix_ms()))
        for board in self._stack.boards.values():
            board.stop()
        self._stack.gateway.stop()
        self._stack.receiver.stop()
        all_books = books.gather(self._plan, self._stack)
        return reconcile(all_books, self._outages, self._error_milli)

    # ---- looking

    def _look(self, done: float) -> None:
        status = self._stack.gateway_status() if self._gateway_up else None
        cloud = books.cloud_counters(self._stack.cloud_dir)
        if status is not None:
            self._view.stored, self._view.backlog = books.stored_and_backlog(status)
        self._view.cloud_rows, self._view.uploads = cloud
        self._view.phase = self._phase
        self._view.done = done
        self._view.gateway_up, self._view.receiver_up = self._gateway_up, self._receiver_up
        self._view.boards = [self._board_view(board) for board in self._plan.boards]
        self._display.show(self._view)

    def _board_view(self, board: BoardPlan) -> BoardView:
        counters = self._stack.boards[board.name].counters
        rates = self._rates[board.name]
        sent, run_ms = _sent_and_time(counters)
        now = _per_day(sent - rates.sent_at_switch, run_ms - rates.run_ms_at_switch, len(board.channels))
        return BoardView(board.name, board.device_class, counters, rates.per_day_before, now)


def _sent_and_time(counters: books.Counters) -> tuple[int, int]:
    return int(counters.get("sent", 0)), int(counters.get("run_ms", 0))


def _per_day(reports: int, run_ms: int, channels: int) -> float | None:
    return reports * _DAY_MS / run_ms / channels if run_ms > 0 else None


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
