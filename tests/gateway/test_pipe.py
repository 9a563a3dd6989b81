"""The bounded queue."""

from __future__ import annotations

import threading

from gateway.pipe import Pipe
from tests.support.board_client import wait_for


def test_order_and_groups() -> None:
    pipe: Pipe[int] = Pipe(100)
    for number in range(5):
        assert pipe.put(number, 10)
    assert pipe.rows == 50
    assert pipe.take(25, 0, 0) == [0, 1]
    assert pipe.take(1, 0, 0) == [2], "an item larger than the group still leaves"
    assert pipe.take(1000, 0, 0) == [3, 4]
    assert pipe.take(1000, 0, 0) == []


def test_full_refuses_and_room_lets_in() -> None:
    pipe: Pipe[int] = Pipe(10)
    assert pipe.put(1, 10)
    assert not pipe.put(2, 1, timeout_s=0)
    assert pipe.put(3, 1, force=True)
    result: list[bool] = []
    putter = threading.Thread(target=lambda: result.append(pipe.put(4, 5, timeout_s=10)))
    putter.start()
    got: list[int] = []
    while len(got) < 3:
        got += pipe.take(100, 1, 0)
    putter.join(10)
    assert got == [1, 3, 4]
    assert result == [True]


def test_an_oversized_item_passes_an_empty_pipe() -> None:
    pipe: Pipe[int] = Pipe(10)
    assert pipe.put(1, 50, timeout_s=0)


def test_urgent_ends_the_wait_for_more() -> None:
    pipe: Pipe[int] = Pipe(10)
    got: list[list[int]] = []
    taker = threading.Thread(target=lambda: got.append(pipe.take(100, 30, 30)))
    taker.start()
    pipe.put(1, 1)
    pipe.put(2, 1, urgent=True)
    taker.join(10)
    assert not taker.is_alive()
    assert [n for group in got for n in group] in ([1, 2], [1])


def test_the_taker_sleeps_on_until_it_has_enough() -> None:
    """One wake for the first item and one for the last that it waits for, none for those between."""
    pipe: Pipe[int] = Pipe(100)
    wakes = []
    notify = pipe._filled.notify
    pipe._filled.notify = lambda n=1: (wakes.append(n), notify(n))  # type: ignore[method-assign, assignment, misc]
    got: list[list[int]] = []
    taker = threading.Thread(target=lambda: got.append(pipe.take(20, 30, 30)))
    taker.start()
    wait_for(lambda: pipe._wake_rows == 0, what="the taker, who waits for a first item")
    assert pipe.put(0, 1)
    wait_for(lambda: pipe._wake_rows == 20, what="the taker, who waits for more")
    for number in range(1, 20):
        assert pipe.put(number, 1)
    taker.join(10)
    assert got == [list(range(20))]
    assert len(wakes) == 2


def test_one_who_finds_no_room_ends_the_wait_for_more() -> None:
    pipe: Pipe[int] = Pipe(10)
    got: list[list[int]] = []
    taker = threading.Thread(target=lambda: got.append(pipe.take(100, 30, 30)))
    taker.start()
    assert pipe.put(1, 10)
    assert pipe.put(2, 1, timeout_s=10)
    taker.join(10)
    assert got == [[1]]


def test_close_wakes_both_sides() -> None:
    pipe: Pipe[int] = Pipe(1)
    pipe.put(1, 1)
    results: list[object] = []
    putter = threading.Thread(target=lambda: results.append(pipe.put(2, 1, timeout_s=30)))
    putter.start()
    pipe.close()
    putter.join(10)
    assert results == [False]
    assert not pipe.finished
    assert pipe.take(1, 0, 0) == [1]
    assert pipe.finished
    assert pipe.take(1, 30, 30) == []
