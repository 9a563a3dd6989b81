"""One thread for all virtual boards: starts their processes, reads their events, restarts them.

All processes are started by this thread, because each asks the kernel to end it with the thread that started it
(prctl PR_SET_PDEATHSIG). Must not know what the events mean: it hands bytes to the board.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from host_tools.virtual.errors import BoardError

_READ_BYTES = 65_536
CALL_TIMEOUT_S = 30.0

T = TypeVar("T")


class Reader(Protocol):
    """Whose output the thread reads."""

    def feed(self, data: bytes) -> None: ...

    def ended(self) -> None: ...


class VirtualFleet:
    """The thread behind any number of boards. A context manager; leaving it ends every process it started."""

    def __init__(self) -> None:
        self._selector: selectors.BaseSelector | None = None
        self._wake: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._closing = False
        self._owners: set[Closable] = set()
        self.first_error: BaseException | None = None

    def __enter__(self) -> VirtualFleet:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def adopt(self, owner: Closable) -> None:
        """Remember a board, to end it when the fleet closes."""
        self._owners.add(owner)

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in the fleet's thread and return its result."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._post(run)
        try:
            return future.result(CALL_TIMEOUT_S)
        except TimeoutError as error:
            raise BoardError(f"the thread of the virtual boards did not answer within {CALL_TIMEOUT_S:g} s") from error

    def after(self, delay_s: float, function: Callable[[], None]) -> None:
        """Run a function later; only from the fleet's thread."""
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._number), function))

    def watch(self, descriptor: int, reader: Reader) -> None:
        """Read a descriptor until its end; only from the fleet's thread."""
        assert self._selector is not None
        self._selector.register(descriptor, selectors.EVENT_READ, reader)

    def close(self) -> None:
        """End all boards at once and the thread after them. The first error of a callback is raised here."""
        with self._lock:
            if self._closing:
                return
            started = self._thread is not None
        for owner in list(self._owners):
            owner.close()
        with self._lock:
            self._closing = True
        if started and self._thread is not None and self._wake is not None:
            self._wake.send(b"x")
            self._thread.join(CALL_TIMEOUT_S)
            self._wake.close()
        if self.first_error is not None:
            raise self.first_error

    def _post(self, function: Callable[[], None]) -> None:
        with self._lock:
            if self._closing:
                raise BoardError("the fleet of virtual boards is closed: make a new one")
            if self._thread is None:
                self._begin()
            self._calls.append(function)
            assert self._wake is not None
            self._wake.send(b"x")

    def _begin(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, woken = socket.socketpair()
        woken.setblocking(False)
        self._selector.register(woken, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, args=(woken,), name="virtual-fleet", daemon=True)
        self._thread.start()

    def _run(self, woken: socket.socket) -> None:
        assert self._selector is not None
        try:
            while not self._closing:
                self._step(woken)
        finally:
            self._selector.close()
            woken.close()

    def _step(self, woken: socket.socket) -> None:
        assert self._selector is not None
        timeout_s = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                woken.recv(_READ_BYTES)
                continue
            reader: Reader = key.data
            data = os.read(key.fd, _READ_BYTES)
            if not data:
                self._selector.unregister(key.fd)
            self._guarded(functools.partial(reader.feed, data) if data else reader.ended)
        while self._timers and self._timers[0][0] <= time.monotonic():
            self._guarded(heapq.heappop(self._timers)[2])
        with self._lock:
            calls, self._calls = self._calls, []
        for function in calls:
            function()

    def _guarded(self, function: Callable[[], None]) -> None:
        """A callback that fails must not end the thread that keeps all boards: `close` raises its error."""
        try:
            function()
        except BaseException as error:
            if self.first_error is None:
                self.first_error = error


class Closable(Protocol):
    """What the fleet ends when it closes."""

    def close(self) -> None: ...
