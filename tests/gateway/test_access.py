"""Who may use the broker: only the root's word counts, only a newer one, and a cut leaves the old or the new."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from gateway import access as gateway_access
from gateway.access import BrokerAccess, _tell
from host_tools.keys import signing
from isocore import access, sign
from tests.support.altered import altered

ROOT_KEY = signing.generate()
CRL = "-----BEGIN X509 CRL-----\nMIH=\n-----END X509 CRL-----\n"


class Site:
    """The files of one broker, and how often it was told to read them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reloads = 0
        self.fails = False
        self.access = BrokerAccess(folder, "home", ROOT_KEY.public_key, self._reload)

    def _reload(self) -> None:
        if self.fails:
            raise OSError(3, "no such process")
        self.reloads += 1

    @property
    def acl(self) -> str:
        return (self.folder / "acl").read_text()


def document(number: int, *boards: str, fleet: str = "home", key: signing.SigningKey = ROOT_KEY) -> bytes:
    payload = access.to_payload(fleet, number, [(name, "board") for name in boards], CRL)
    return key.sign(payload, sign.KIND_ACCESS, access.BYTES_MAX)


def test_taken(tmp_path: Path) -> None:
    site = Site(tmp_path)
    assert site.access.offer(document(3, "fridge-1", "fridge-2"))
    assert site.access.offer(document(4, "fridge-2")) and site.reloads == 2
    assert "fridge-1" not in site.acl and "fridge-2" in site.acl
    assert (tmp_path / "crl.pem").read_text() == CRL
    assert (tmp_path / "acl").stat().st_mode & 0o777 == 0o600
    assert json.loads(site.access.state) == {"number": 4}


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        (document(3, "thief"), "number"),
        (document(9, "thief", key=signing.generate()), "key"),
        (document(9, "thief", fleet="other"), "fleet"),
        (altered(document(9, "thief")), "signature"),
        (ROOT_KEY.sign(access.to_payload("home", 9, [], CRL)), "kind"),
        (ROOT_KEY.sign(b"{}", sign.KIND_ACCESS), "payload"),
        (b"", "size"),
        (bytes(70_000), "size"),
    ],
    ids=["old", "stranger", "other-fleet", "altered", "model", "empty-object", "nothing", "too-large"],
)
def test_refused(tmp_path: Path, offered: bytes, reason: str) -> None:
    site = Site(tmp_path)
    assert site.access.offer(document(4, "fridge-1"))
    assert not site.access.offer(offered)
    assert json.loads(site.access.state) == {"number": 4, "refused": reason}
    assert "thief" not in site.acl and site.reloads == 1 and site.access.refused == 1


def test_the_same_again_costs_nothing(tmp_path: Path) -> None:
    """It is retained: it comes at every connect."""
    site = Site(tmp_path)
    same = document(4, "fridge-1")
    assert site.access.offer(same) and site.access.offer(same)
    assert site.reloads == 1


def test_after_a_restart(tmp_path: Path) -> None:
    Site(tmp_path).access.offer(document(4, "fridge-1"))
    (tmp_path / "acl").write_text("a hand was here")
    site = Site(tmp_path)
    site.access.open()
    assert "fridge-1" in site.acl and site.access.number == 4
    assert not site.access.offer(document(3, "thief"))


def test_the_broker_cannot_be_told(tmp_path: Path) -> None:
    """It is not in force, so it is not said to be; the next offer tries again."""
    site = Site(tmp_path)
    site.fails = True
    assert not site.access.offer(document(4, "fridge-1"))
    assert json.loads(site.access.state) == {"number": 0, "refused": "storage"}
    site.fails = False
    assert site.access.offer(document(4, "fridge-1")) and site.access.number == 4


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_cut_between_any_two_files(tmp_path: Path, writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)
    site.access.offer(document(4, "fridge-1", "fridge-2"))
    real, left = gateway_access._write, [writes]

    def cut(path: Path, data: bytes, mode: int) -> None:
        if not left[0]:
            raise SystemExit
        left[0] -= 1
        real(path, data, mode)

    monkeypatch.setattr(gateway_access, "_write", cut)
    with pytest.raises(SystemExit):
        site.access.offer(document(5, "fridge-2"))
    monkeypatch.setattr(gateway_access, "_write", real)
    again = Site(tmp_path)
    again.access.open()
    assert again.access.number == (5 if writes else 4)
    assert ("fridge-1" in again.acl) == (not writes)


@pytest.mark.parametrize("text", ["-1", "0", "1", "", "x", "-5000", "99999999999999999999", "\u00b2", "12 34"])
def test_a_pid_file_names_one_process(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a broker that was taken writes there makes no signal to all processes of the gateway's user."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda number, sign: told.append((number, sign)))
    path = tmp_path / "pid"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OSError, match="no process id"):
        _tell(path, ())
    path.write_text("4321\n")
    _tell(path, ())
    assert told == [(4321, signal.SIGHUP)]
