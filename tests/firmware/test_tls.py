"""TLS to a real mosquitto that asks for a certificate, with mbedTLS on MicroPython. Refusals are told by reason."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools.demo.processes import accepts_connections, free_port
from host_tools.keys import authority
from host_tools.virtual.board import VirtualBoard
from isocore import topics
from tests.firmware.conftest import FIRMWARE, UMQTT, Bench, RunMicroPython
from tests.firmware.test_board import gapless, seqs, wave
from tests.support.ack_gateway import AckGateway
from tests.support.mosquitto import Mosquitto

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
DEADLINE_S = 30.0
EXPIRED = tuple(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2001, 2002))
SCRIPT = Path(__file__).with_name("tls_refusals.py")


class Secured:
    """A broker with a TLS listener that asks for certificates, and a plain one for the gateway's stand-in."""

    def __init__(self, folder: Path, dates: tuple[datetime.datetime, ...] | None = None) -> None:
        """dates: of the broker's certificate, instead of those that outlast every board."""
        self.folder = folder
        ca = self._ca = authority.create(folder / "ca", "demo", None)
        other = authority.create(folder / "other", "other", None)
        with pytest.MonkeyPatch.context() as patch:
            if dates is not None:
                patch.setattr(authority, "NOT_BEFORE", dates[0])
                patch.setattr(authority, "NOT_AFTER", dates[1])
            server = ca.issue("broker", "broker", ["localhost"])
        board = ca.issue("fridge", "board")
        stranger = other.issue("fridge", "board")
        self.files = {
            "ca.der": ca.certificate_der,
            "cert.der": board.certificate_der,
            "key.der": board.key_der,
            "other.der": other.certificate_der,
            "stranger.der": stranger.certificate_der,
            "stranger-key.der": stranger.key_der,
            "nonsense.der": b"nonsense",
            "ca.pem": ca.certificate_pem,
            "server.pem": server.certificate_pem,
            "server.key": server.key_pem,
        }
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        self.plain_port = free_port()
        lines = [
            f"cafile {folder}/ca.pem",
            f"certfile {folder}/server.pem",
            f"keyfile {folder}/server.key",
            "require_certificate true",
            f"listener {self.plain_port} 127.0.0.1",
            f"user {folder.owner()}",  # as root it would give up the right to read the key
        ]
        self.broker = Mosquitto(folder / "mosquitto", extra="\n".join(lines) + "\n")

    def renew(self) -> None:
        """From now on the broker shows a certificate that outlasts every board; it goes on listening."""
        server = self._ca.issue("broker", "broker", ["localhost"])
        (self.folder / "server.pem").write_bytes(server.certificate_pem)
        (self.folder / "server.key").write_bytes(server.key_pem)
        self.broker.reload()

    def wait_until_open(self) -> None:
        """The second listener opens after the one that `start` waits for."""
        answers = accepts_connections(self.plain_port)
        until = time.monotonic() + DEADLINE_S
        while not answers() and time.monotonic() < until:
            time.sleep(0.01)


@contextlib.contextmanager
def running(folder: Path, dates: tuple[datetime.datetime, ...] | None = None) -> Iterator[Secured]:
    for name in ("ca", "other"):
        (folder / name).mkdir()
    made = Secured(folder, dates)
    with made.broker:
        made.wait_until_open()
        yield made


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with running(tmp_path_factory.mktemp("tls")) as made:
        yield made


@pytest.mark.parametrize(
    ("from_year", "to_year", "says"),
    [
        (2001, 2002, "tls | tls: The certificate validity has expired"),
        (2200, 2201, "tls | tls: The certificate validity starts in the future"),
    ],
)
def test_a_broker_whose_certificate_is_not_valid_now_is_refused(
    tmp_path: Path, run_micropython: RunMicroPython, from_year: int, to_year: int, says: str
) -> None:
    """By the clock of whoever connects: one that believes it is 2000 would find every dated certificate too new."""
    dates = (
        datetime.datetime(from_year, 1, 1, tzinfo=datetime.UTC),
        datetime.datetime(to_year, 1, 1, tzinfo=datetime.UTC),
    )
    with running(tmp_path, dates) as made:
        names = ("ca.der", "cert.der", "key.der", "localhost")
        assert says in run_micropython(
            SCRIPT, FIRMWARE, UMQTT, made.broker.port, made.folder, *names, heap_bytes=512 * 1024
        )


PATHS = {"ca": "/certs/ca.der", "cert": "/certs/cert.der", "key": "/certs/key.der"}


def sealed(bench: Bench, made: Secured, device: str, **spec: Any) -> VirtualBoard:
    """A board that knows its broker by mutual TLS only."""
    there = {"host": "127.0.0.1", "port": made.broker.port, "tls": {**PATHS, "host": "localhost"}}
    files = {path: made.files[Path(path).name] for path in PATHS.values()}
    return bench.board(bench.config(device, gateway=there), wave(300), files=files, speed=3_000, **spec)


def tries(made: Secured) -> int:
    """TCP connections that the broker took."""
    return made.broker.log_path.read_text(encoding="utf-8").count("New connection from")


def test_a_read_that_may_time_out_would_end_every_session(bench: Bench, secured: Secured) -> None:
    """What the link must never do, done to it: a raw time-out instead of a socket that does not wait.

    An expired read ends a TLS session for good, on boards and in the simulated socket (DESIGN section 7).
    """
    source = (FIRMWARE / "isonode" / "secure.py").read_text(encoding="utf-8")
    waiting = source.replace("session.setblocking(False)", "sock.settimeout(0.2)")
    assert waiting != source
    bench.take_sources({"isonode/secure.py": waiting.encode()})
    board = sealed(bench, secured, "fridge", heap_bytes=512 << 10)
    before = tries(secured)
    board.start()
    assert board.wait_for(lambda: board.counters.get("sampled", 0) > 100 and tries(secured) > before + 3, DEADLINE_S)
    assert board.counters["acked"] == 0, "it delivers, so that the simulated socket is kinder than a board's"
    board.power_cut()


def test_a_board_whose_brokers_certificate_ran_out_says_so_and_waits(bench: Bench, tmp_path: Path) -> None:
    """One boot, samples at their times, and the reason in `health` once the certificate is valid."""
    with running(tmp_path, EXPIRED) as made:
        board = sealed(bench, made, "fridge")
        board.start()
        assert board.wait_for(lambda: board.counters.get("sampled", 0) > 100, DEADLINE_S), list(board.log)
        assert board.counters["acked"] == 0
        made.renew()
        gateway = AckGateway(made.plain_port)
        try:
            assert board.wait_for(lambda: board.counters["acked"] > 0, DEADLINE_S), board.counters
            said = gateway.last("fridge", topics.HEALTH)
            assert said["link_error"] == "tls: The certificate validity has expired"
            board.stop()
        finally:
            gateway.close()
    assert board.boots == 1 and board.counters["missed"] == 0


def test_a_board_delivers_over_mutual_tls_and_comes_back(bench: Bench, secured: Secured) -> None:
    gateway = AckGateway(secured.plain_port)
    try:
        board = sealed(bench, secured, "sealed")
        board.start()
        assert board.wait_for(lambda: board.counters.get("acked", 0) > 3, DEADLINE_S), list(board.log)
        assert board.counters["reconnects"] == 0
        for _ in range(6):  # a session that was not closed would leave no memory for the sixth
            before = board.counters["reconnects"]
            secured.broker.kill()
            secured.broker.start()
            assert board.wait_for(lambda before=before: board.counters["reconnects"] > before, DEADLINE_S)
        assert board.wait_for(lambda: board.trace_done and board.counters["outbox"] == 0, DEADLINE_S), board.counters
        board.stop()
        health = gateway.last("sealed", topics.HEALTH)  # made once the session stands: what is left beside it
        assert health["idf_heap_free_bytes"] <= 110_000 - 25_000 and health["free_heap_bytes"] > 0
        assert board.counters["sampled"] == 300 and board.counters["missed"] == 0 and board.boots == 1
        assert gapless(seqs(gateway, "sealed", 1))
    finally:
        gateway.close()


@pytest.mark.parametrize(
    ("ca", "cert", "key", "host", "says"),
    [
        ("ca.der", "cert.der", "key.der", "localhost", "accepted\nping sent"),
        ("other.der", "cert.der", "key.der", "localhost", "tls | tls: The certificate is not correctly signed"),
        ("ca.der", "cert.der", "key.der", "elsewhere", "tls | tls: The certificate Common Name (CN) does not match"),
        ("ca.der", "stranger.der", "stranger-key.der", "localhost", "io | io: OSError(-"),
        ("nonsense.der", "cert.der", "key.der", "localhost", "tls | tls: certificate or key: "),
        ("ca.der", "nonsense.der", "key.der", "localhost", "tls | tls: certificate or key: "),
        ("ca.der", "cert.der", "nonsense.der", "localhost", "tls | tls: certificate or key: "),
        ("missing.der", "cert.der", "key.der", "localhost", "missing.der cannot be read"),
    ],
)
def test_only_the_right_certificates_connect(
    secured: Secured, run_micropython: RunMicroPython, ca: str, cert: str, key: str, host: str, says: str
) -> None:
    where = (FIRMWARE, UMQTT, secured.broker.port, secured.folder)
    assert says in run_micropython(SCRIPT, *where, ca, cert, key, host, heap_bytes=512 * 1024)


def test_without_idf_heap_no_session_is_tried(secured: Secured, run_micropython: RunMicroPython) -> None:
    where = (FIRMWARE, UMQTT, secured.broker.port, secured.folder)
    printed = run_micropython(
        SCRIPT, *where, "ca.der", "cert.der", "key.der", "localhost", 39_999, heap_bytes=512 * 1024
    )
    assert "tls | tls: 39999 bytes of IDF heap, 40000 wanted" in printed
