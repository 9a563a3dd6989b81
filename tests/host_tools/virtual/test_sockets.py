"""Sockets with a board's habits: time-outs, error numbers, bounds, and an access point that goes away."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from .conftest import DEADLINE_S, SAY, Bench

pytestmark = pytest.mark.micropython


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A listening socket; what connects may be accepted by the test or left waiting."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        yield listener


def _port(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return _port(listener)


def test_setblocking_clears_the_time_out_for_ever(bench: Bench, server: socket.socket) -> None:
    """DESIGN section 7: this is what hangs umqtt on boards, so it must hang here as well."""
    script = f"""
import socket, time
s = socket.socket()
s.connect(("127.0.0.1", {_port(server)}))
s.settimeout(0.05)
try:
    s.recv(1)
except OSError as error:
    print("timed out", error.errno)
s.setblocking(True)
print("waiting")
say(s.recv(1).decode())
"""
    board = bench.board(SAY + script)
    board.start()
    connection, _ = server.accept()
    with connection:
        assert board.wait_for(lambda: "waiting" in board.log, DEADLINE_S)
        assert "timed out 116" in board.log
        seen = board.event_counts["counters"]
        # two status events: several times the former time-out, told by the board itself while it hangs
        assert board.wait_for(lambda: board.event_counts["counters"] >= seen + 2, DEADLINE_S)
        assert not [line for line in board.log if line.startswith("result")]
        connection.sendall(b"x")
        assert bench.result(board) == "x"
    board.power_cut()


def test_settimeout_after_setblocking_is_honoured(bench: Bench, server: socket.socket) -> None:
    script = f"""
import socket
import errno as numbers  # under its own name the compiler folds in the host's numbers
s = socket.socket()
s.connect(("127.0.0.1", {_port(server)}))
s.setblocking(True)
s.settimeout(0.02)
try:
    s.read(1)
except OSError as error:
    say([error.errno, numbers.ETIMEDOUT])
"""
    assert bench.run(script) == [116, 116]


def test_non_blocking_connect_goes_by_poll(bench: Bench, server: socket.socket) -> None:
    script = f"""
import socket, select
s = socket.socket()
s.setblocking(False)
address = socket.getaddrinfo("127.0.0.1", {_port(server)})[0][-1]
try:
    s.connect(address)
    number = 0
except OSError as error:
    number = error.errno
poller = select.poll()
poller.register(s, select.POLLOUT)
events = [event for obj, event in poller.ipoll(5000) if obj is s]
poller.modify(s, select.POLLIN)
try:
    s.recv(1)
except OSError as error:
    empty = error.errno
say([number, events, empty, s.read(1), s.write(b"hello"), list(address)])
"""
    number, events, empty, read, written, address = bench.run(script)
    assert number == 119  # EINPROGRESS in newlib
    assert events == [4]
    assert (empty, read, written) == (11, None, 5)
    assert address == ["127.0.0.1", _port(server)]


def test_refused_connections(bench: Bench) -> None:
    script = f"""
import socket, select
address = ("127.0.0.1", {_closed_port()})
s = socket.socket()
try:
    s.connect(address)
except OSError as error:
    blocking = error.errno
s.close()
s = socket.socket()
s.setblocking(False)
try:
    s.connect(address)
except OSError as error:
    pass
poller = select.poll()
poller.register(s, select.POLLOUT)
events = 0
for obj, event in poller.ipoll(5000):
    events |= event
try:
    s.send(b"x")
except OSError as error:
    say([blocking, events & (select.POLLERR | select.POLLHUP) != 0, error.errno])
"""
    assert bench.run(script) == [111, True, 111]


def test_streams_read_and_write_as_on_a_board(bench: Bench, server: socket.socket) -> None:
    script = f"""
import socket
s = socket.socket()
s.connect(("127.0.0.1", {_port(server)}))
buf = bytearray(4)
say([s.read(5).decode(), s.readinto(buf), bytes(buf).decode(), s.readline().decode(), s.write(b"0123456789", 4),
     s.sendall(b"abc"), s.recv(10).decode(), s.read(3).decode()])
s.close()
"""
    board = bench.board(SAY + script)
    board.start()
    connection, _ = server.accept()
    with connection:
        connection.settimeout(DEADLINE_S)
        connection.sendall(b"helloworld, again\n")
        got = b""
        while len(got) < 7:
            got += connection.recv(100)
        assert got == b"0123abc"
        connection.shutdown(socket.SHUT_WR)
        assert bench.result(board) == ["hello", 4, "worl", "d, again\n", 4, None, "", ""]
    board.power_cut()


def test_number_of_sockets_is_bounded_and_close_frees_one(bench: Bench) -> None:
    script = """
import socket
held = []
try:
    while True:
        held.append(socket.socket())
except OSError as error:
    number = error.errno
count = len(held)
held.pop().close()
held.append(socket.socket())
say([count, number])
"""
    assert bench.run(script) == [16, 23]


def test_no_access_point_no_network(bench: Bench) -> None:
    script = """
import network, socket, select, time
wlan = network.WLAN(network.STA_IF)
wlan.active(True)
wlan.connect("any", "thing")
poller = select.poll()
def settle(up):
    for _ in range(500):
        if wlan.isconnected() == up:
            return True
        select.virtual_wait(poller, -1, 10)
ok = settle(True)
print("joined", ok, wlan.status("rssi") < 0)
settle(False)
state = wlan.status()
try:
    socket.socket().connect(("127.0.0.1", 1))
except OSError as error:
    connect = error.errno
try:
    socket.getaddrinfo("localhost", 1)
except OSError as error:
    resolve = error.errno
print("down")
back = settle(True)
say([ok, state, connect, resolve, back, wlan.ifconfig()[0]])
"""
    board = bench.board(SAY + script)
    board.start()
    assert board.wait_for(lambda: "joined True True" in board.log, DEADLINE_S)
    board.drop_wifi()
    assert board.wait_for(lambda: "down" in board.log, DEADLINE_S)
    board.restore_wifi()
    assert bench.result(board) == [True, 1001, 118, -202, True, "127.0.0.1"]
    board.power_cut()


def test_wrong_password_and_unknown_network(bench: Bench) -> None:
    script = """
import network, select
poller = select.poll()
wlan = network.WLAN(network.STA_IF)
wlan.active(True)
wlan.config(reconnects=1)  # or the radio tries for ever, and says that it is connecting
def join(ssid, key):
    wlan.connect(ssid, key)
    while wlan.status() == network.STAT_CONNECTING:
        select.virtual_wait(poller, -1, 10)
    return wlan.status()
say([join("house", "wrong"), join("other", "right"), join("house", "right")])
"""
    assert bench.run(script, wifi={"ssid": "house", "password": "right"}) == [15, 201, 1010]  # of 15 see sim/network.py


def test_a_lost_access_point_leaves_connections_open_and_silent(bench: Bench, server: socket.socket) -> None:
    script = f"""
import socket, select
s = socket.socket()
s.connect(("127.0.0.1", {_port(server)}))
s.setblocking(False)
poller = select.poll()
poller.register(s, select.POLLIN)
s.write(b"up;")
while s.write(b"") == 0 and not select.virtual_wait(poller, -1, 20):
    pass
s.recv(10)
print("go down")
import sys
clock = sys.modules["sim.clock"]
while clock.link_up:
    select.virtual_wait(poller, -1, 20)
taken = s.write(b"held;" * 2000)
print("down", taken)
heard = 0
while not clock.link_up:
    for obj, event in select.virtual_wait(poller, -1, 20):
        heard |= event
got = []
while not got:
    for obj, event in select.virtual_wait(poller, -1, 20):
        got.append(s.recv(20).decode())
say([taken, heard, got])
"""
    board = bench.board(SAY + script)
    board.start()
    connection, _ = server.accept()
    with connection:
        connection.settimeout(DEADLINE_S)
        assert connection.recv(3) == b"up;"
        connection.sendall(b"a")
        assert board.wait_for(lambda: "go down" in board.log, DEADLINE_S)
        board.drop_wifi()
        assert board.wait_for(lambda: any(line.startswith("down") for line in board.log), DEADLINE_S)
        connection.sendall(b"while away")
        seen = board.event_counts["counters"]
        assert board.wait_for(lambda: board.event_counts["counters"] > seen, DEADLINE_S)
        board.restore_wifi()
        assert bench.result(board) == [5744, 0, ["while away"]]
        got = b""
        while len(got) < 5744:
            got += connection.recv(10_000)
        assert got == (b"held;" * 2000)[:5744]
    board.power_cut()


def test_time_outs_of_sockets_run_on_real_time(bench: Bench, server: socket.socket) -> None:
    script = f"""
import socket, time
s = socket.socket()
s.connect(("127.0.0.1", {_port(server)}))
s.settimeout(0.2)
net = time.net_ticks_ms()
board = time.ticks_ms()
try:
    s.recv(1)
except OSError:
    pass
say([time.ticks_diff(time.net_ticks_ms(), net), time.ticks_diff(time.ticks_ms(), board)])
"""
    net_ms, board_ms = bench.run(script, speed=100_000)
    assert net_ms >= 200
    assert abs(board_ms - net_ms) <= 1
