"""The command line: codes and sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main

GOOD = '[gateway]\ndata_dir = "data"\n[sinks.cloud]\nurl = "http://127.0.0.1:8440"\n'


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_check_config_says_what_it_understood(good: Path) -> None:
    code, out, _ = run("check-config", "--config", str(good))
    assert code == 0
    assert "cloud -> http://127.0.0.1:8440" in out


def test_check_config_looks_at_what_the_file_names(good: Path) -> None:
    token = good.with_name("token")
    token.write_text("secret", encoding="ascii")
    token.chmod(0o644)
    good.write_text(GOOD + 'token_file = "token"\n', encoding="utf-8")
    code, _, err = run("check-config", "--config", str(good))
    assert (code, err) == (
        2,
        f"isotherm-gateway: {token}: everybody on this machine may read it; run `chmod o= {token}`\n",
    )
    token.chmod(0o640)
    assert run("check-config", "--config", str(good))[0] == 0


def test_check_config_names_file_and_key(good: Path) -> None:
    good.write_text(GOOD + "live_rws = 3\n", encoding="utf-8")
    code, out, err = run("check-config", "--config", str(good))
    assert (code, out) == (2, "")
    assert err == f"isotherm-gateway: {good}: unknown key sinks.cloud.live_rws: did you mean sinks.cloud.live_rows?\n"


@pytest.mark.parametrize("command", ["run", "check-config", "status", "ledger"])
def test_a_missing_file_is_a_sentence(tmp_path: Path, command: str) -> None:
    code, out, err = run(command, "--config", str(tmp_path / "none.toml"))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "cannot be read" in err


def test_status_of_nobody(good: Path) -> None:
    code, out, err = run("status", "--json", "--config", str(good))
    assert code == 1
    assert out == '{"gateway": "gw-1", "running": false}\n'
    assert "does not run" in err


@pytest.mark.parametrize(("typed", "offered"), [("quar", ["quarantine"]), ("quarantine ", ["drop", "list", "retry"])])
def test_the_shell_completes(monkeypatch: pytest.MonkeyPatch, typed: str, offered: list[str]) -> None:
    monkeypatch.setenv("COMP_WORDS", f"isotherm-gateway {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" "))))
    result = CliRunner().invoke(
        main, [], prog_name="isotherm-gateway", env={"_ISOTHERM_GATEWAY_COMPLETE": "bash_complete"}
    )
    assert sorted(line.partition(",")[2] for line in result.stdout.split()) == offered


def test_a_folder_that_cannot_be_made(good: Path) -> None:
    (good.parent / "data").write_text("a file", encoding="utf-8")
    code, _, err = run("run", "--config", str(good))
    assert code == 2
    assert "data_dir" in err


@pytest.mark.parametrize("command", ["run", "check-config", "status", "ledger"])
def test_help_has_an_example(command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"isotherm-gateway {command}" in out
