"""`isotherm keys` as people call it: what it asks, what it prints, and what it never prints."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from host_tools import cli
from host_tools.keys import sealed

GOOD = "correct horse battery"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    secret = tmp_path / "passphrase"
    secret.write_text(GOOD + "\n")
    secret.chmod(0o600)
    assert cli.run(["keys", "init", "--dir", str(path), "--passphrase-file", str(secret)]) == 0
    return path


def run(folder: Path, *arguments: str, secret: bool = True) -> int:
    more = ["--passphrase-file", str(folder.parent / "passphrase")] if secret else []
    return cli.run(["keys", *arguments, "--dir", str(folder), *more])


def test_a_fleets_life(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gateway-keys"
    assert run(folder, "admit", "gateway-1", "--role", "gateway", "--out", str(out)) == 0
    assert sorted(path.name for path in out.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert (out / "key.pem").stat().st_mode & 0o777 == 0o600
    broker = ["admit", "broker", "--role", "broker", "--host", "pi.local", "--out", str(tmp_path / "broker-keys")]
    assert run(folder, *broker) == 0
    assert run(folder, "rotate") == 0
    assert run(folder, "revoke", "gateway-1") == 0
    capsys.readouterr()
    assert run(folder, "list", "--json", secret=False) == 0
    nodes = json.loads(capsys.readouterr().out)
    assert nodes["gateway-1"]["state"] == "revoked" and nodes["broker"]["hosts"] == ["pi.local"]
    assert run(folder, "list", secret=False) == 0
    assert "gateway-1" in capsys.readouterr().out
    assert run(folder, "show", "--json", secret=False) == 0
    assert json.loads(capsys.readouterr().out)["key_list"] == 2
    assert run(folder, "cloud", "--out", str(tmp_path / "cloud.json")) == 0
    assert (tmp_path / "cloud.json").stat().st_mode & 0o777 == 0o600
    backup = tmp_path / "home.backup"
    assert run(folder, "backup", "--out", str(backup)) == 0
    assert run(tmp_path / "again", "restore", str(backup)) == 0
    assert (tmp_path / "again" / "fleet.json").read_bytes() == (folder / "fleet.json").read_bytes()


def test_secrets_are_not_printed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "admit", "gateway-1", "--role", "gateway", "--out", str(tmp_path / "out"))
    run(folder, "show", secret=False)
    run(folder, "rotate")
    said = capsys.readouterr()
    assert GOOD not in said.out + said.err and "PRIVATE" not in said.out + said.err
    for path in folder.iterdir():
        if path.suffix in (".pem", ".key") and path.name != "ca.pem":
            assert sealed.is_sealed(path.read_bytes())


def test_no_terminal_no_question(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(folder, "rotate", secret=False) == 2
    assert "ISOTHERM_PASSPHRASE_FILE" in capsys.readouterr().err
    assert cli.run(["keys", "init", "--dir", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("mode", "text", "says"),
    [(0o644, GOOD, "chmod 600"), (0o600, "", "first line is empty"), (0o600, GOOD + "!", "passphrase is wrong")],
)
def test_passphrase_files(
    folder: Path, mode: int, text: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder.parent / "other"
    file.write_text(text)
    file.chmod(mode)
    monkeypatch.setenv("ISOTHERM_PASSPHRASE_FILE", str(file))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(folder, "rotate", secret=False) == 2
    assert says in capsys.readouterr().err
    # A rotation that failed has changed nothing but, at most, made the key that waits for the next one.
    assert all(path.read_bytes() == before[path.name] for path in folder.iterdir() if path.name in before)
    assert os.listdir(folder).count("fleet.json") == 1


def test_a_broker_needs_the_operators_identity(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "admit", "fridge-1", "--role", "board", "--out", str(folder.parent / "x")) == 0
    assert run(folder, "revoke", "fridge-1", "--broker", "127.0.0.1") == 2
    assert "--identity" in capsys.readouterr().err
    assert run(folder, "list", "--json", secret=False) == 0
    assert json.loads(capsys.readouterr().out)["fridge-1"]["state"] == "active"
