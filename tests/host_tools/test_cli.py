"""The command line: help everywhere, one sentence for every failure, documented exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from host_tools import cli
from host_tools.errors import BrokerError, HostError, TraceError
from tests.support.altered import altered

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ["model", "train", "--fleet", "f", "--target", "*", "--sequence", "1", "--out", "x"]
OURS = tuple(cli.isotherm.list_commands(click.Context(cli.isotherm)))


def commands() -> Iterator[tuple[str, ...]]:
    """Every command by its words, groups included."""

    def below(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        context = click.Context(group)
        for name in group.list_commands(context):
            yield (*words, name)
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from below(command, (*words, name))

    yield from below(cli.isotherm, ())


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_help_has_an_example(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example" in shown
    assert "isotherm " + words[0] in shown.split("Example", 1)[1]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_and_option_is_documented(words: tuple[str, ...]) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert f"## isotherm {' '.join(words)}\n" in page
    section = page.split(f"## isotherm {' '.join(words)}\n", 1)[1].split("\n## ", 1)[0]
    command: click.Command | None = cli.isotherm
    for word in words:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert f"`{parameter.opts[0]}`" in section


def test_the_list_imports_no_command() -> None:
    script = (
        "import sys; from host_tools import cli\n"
        "assert cli.run(['--help']) == 0\n"
        "print([name for name in sys.modules if name.startswith('host_tools.') and name != 'host_tools.cli'])"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert all(name in result.stdout for name in OURS)


def completed(shell: str, environment: dict[str, str]) -> str:
    """What a shell gets from us at a press of Tab, by click's protocol; and the modules that this took."""
    script = "import sys; from host_tools import cli\ntry: cli.main([])\nfinally: print(*sys.modules, file=sys.stderr)"
    variables = {**os.environ, **environment, "_ISOTHERM_COMPLETE": shell}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert "host_tools.flash" not in result.stderr and "Traceback" not in result.stderr, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("fl", ["flash", "fleet"]), ("model pus", ["push"]), ("model push --res", ["--resume"])],
)
def test_the_shells_complete(typed: str, offered: list[str]) -> None:
    """What bash, zsh and fish read: a line each, three lines each, and a line with the help behind a tab."""
    words = {"COMP_WORDS": f"isotherm {typed}", "COMP_CWORD": str(typed.count(" ") + 1)}
    bash = completed("bash_complete", words).splitlines()
    assert bash == [f"plain,{name}" for name in offered]
    zsh = completed("zsh_complete", words).splitlines()
    assert (zsh[::3], zsh[1::3]) == (["plain"] * len(offered), offered)
    fish = completed("fish_complete", {**words, "COMP_CWORD": typed.split(" ")[-1]}).splitlines()
    assert [line.partition("\t")[0] for line in fish] == bash


def test_a_real_bash_completes(tmp_path: Path) -> None:
    program = tmp_path / "isotherm"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m host_tools.cli "$@"\n')
    program.chmod(0o755)
    script = "source <(_ISOTHERM_COMPLETE=bash_source isotherm)\nCOMP_WORDS=(isotherm model pus) COMP_CWORD=2\n"
    script += '_isotherm_completion isotherm\necho "${COMPREPLY[@]}"'
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (result.stdout, result.stderr) == ("push\n", "")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (HostError("it failed"), 1, "isotherm: it failed\n"),
        (BrokerError("no broker"), 1, "isotherm: no broker\n"),
        (TraceError(Path("a.csv"), "is empty", 3, "t_s"), 2, "isotherm: a.csv, line 3, column t_s: is empty\n"),
        (OSError(28, "No space left on device", "out"), 1, "isotherm: out: No space left on device\n"),
        (KeyboardInterrupt(), 130, "isotherm: stopped\n"),
        (click.UsageError("bad"), 2, "Error: bad\n"),
    ],
)
def test_failures(
    error: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.isotherm, "main", fail)
    assert cli.run([]) == code
    assert capsys.readouterr().err == text


def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli.isotherm, "main", fail)
    with pytest.raises(ZeroDivisionError):
        cli.run([])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(cli._COMMANDS, "keys", ("no_such_package.x:y", ""))
    assert cli.run(["keys"]) == 1
    assert "'no_such_package'" in capsys.readouterr().err


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["nothing"]) == 2
    assert cli.run(["traces", "convert"]) == 2
    assert cli.run(["traces", "show", "nowhere.csv"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("isotherm: nowhere.csv: cannot be read")
    assert cli.run(["version"]) == 0


def test_from_training_to_a_verified_container(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{i * 60},a,{20 + i % 40 / 10},\n" for i in range(1000))
    trace = tmp_path / "a.csv"
    trace.write_text("t_s,board,temperature_c,label\n" + rows)
    out, keys, container = str(tmp_path / "m" / "a.json"), str(tmp_path / "keys"), str(tmp_path / "a.model")
    assert cli.run(["traces", "show", str(trace)]) == 0
    train = ["model", "train", "--trace", str(trace), "--fleet", "home", "--target", "device:a", "--sequence", "1"]
    assert cli.run([*train, "--error-c", "0.25", "--out", out]) == 0
    assert "messages a sensor-day" in capsys.readouterr().out
    assert cli.run(["keys", "init", "--dir", keys, "--no-passphrase"]) == 0
    assert cli.run(["keys", "show", "--dir", keys]) == 0
    assert cli.run(["model", "sign", out, "--key", keys, "--out", container]) == 0
    assert cli.run(["model", "verify", container, "--key", keys]) == 0
    assert cli.run(["model", "show", container]) == 0
    assert '"error_milli": 250' in capsys.readouterr().out
    assert cli.run([*train, "--current", container, "--budget", "1", "--out", out]) == 1  # one report is more
    assert "cannot be kept" in capsys.readouterr().err
    Path(container).write_bytes(altered(Path(container).read_bytes()))
    assert cli.run(["model", "verify", container, "--key", keys]) == 2
    assert "signature does not match" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["model", "show", "nowhere"], "cannot be read"),
        (TRAIN, "either --store or --trace"),
        ([*TRAIN, "--store", "none"], "no such store"),
        (["model", "status", "--broker", "nope:x"], "is not HOST:PORT"),
        (["cloud", "status", "--data", "nowhere"], "no such store"),
        (["keys", "show", "--dir", "nowhere"], "no fleet here"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments) in (1, 2)
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
