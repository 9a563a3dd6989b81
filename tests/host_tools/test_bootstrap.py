"""Set-up: what it decides, what it says, and that it leaves nothing half made. Nothing is downloaded here."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from host_tools import bootstrap
from host_tools.setup import apt, errors, packages, plan, promtool, system, umqtt
from host_tools.setup import micropython as mp
from host_tools.setup.runner import Runner, tells_of_network
from host_tools.virtual.errors import InterpreterMissing
from host_tools.virtual.interpreter import Interpreter

ROOT = Path(__file__).resolve().parents[2]
LOCKS = (
    "gateway/requirements.lock",
    "host_tools/requirements.lock",
    "host_tools/requirements-cloud.lock",
    "tests/requirements.lock",
)
VIRTUAL = tuple(f"host_tools/virtual/{name}.py" for name in ("__init__", "errors", "interpreter"))
DEADLINE_S = 60.0


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "log", os.environ)


# --- which Python ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "fit"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)])
def test_pythons_that_fit(version: tuple[int, int], fit: bool) -> None:
    assert bootstrap.fits(version) is fit


def test_an_old_python_can_read_bootstrap() -> None:
    ast.parse((ROOT / "host_tools" / "bootstrap.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_the_newest_fit_python_on_path_is_taken() -> None:
    present = {"python3.11": "/a/python3.11", "python3.12": "/a/python3.12"}
    assert bootstrap.other_python(present.get) == "/a/python3.12"
    assert bootstrap.other_python({}.get) is None


def test_no_fit_python_ends_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "fits", lambda version: False)
    monkeypatch.setattr(bootstrap, "other_python", lambda: None)
    assert bootstrap.main([]) == bootstrap.NO_PYTHON
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{sys.version_info[0]}.{sys.version_info[1]} was found" in said


def test_every_exit_code_is_documented() -> None:
    documented = set(map(int, re.findall(r"^ {4}(\d+) ", bootstrap.__doc__ or "", re.MULTILINE)))
    kinds = [errors.SetupError, *errors.SetupError.__subclasses__()]
    assert documented == {0, 2, bootstrap.NO_PYTHON, plan.INTERRUPTED} | {kind.exit_code for kind in kinds}
    assert len({kind.exit_code for kind in kinds}) == len(kinds)


# --- locks ----------------------------------------------------------------------------------------------------------


def locked(path: str) -> dict[str, tuple[str, int]]:
    """Name -> (version, number of hashes) of one lock."""
    found = {}
    for block in re.split(r"\n(?=\S)", (ROOT / path).read_text(encoding="utf-8")):
        match = re.match(r"([\w.-]+)==([^\s;]+)", block)
        if match:
            found[match[1].lower()] = (match[2], block.count("--hash=sha256:"))
    return found


@pytest.mark.parametrize("path", LOCKS)
def test_every_locked_package_has_hashes_and_no_address(path: str) -> None:
    assert all(hashes > 0 for _, hashes in locked(path).values())
    assert "setuptools" in locked(path), "an install from the lock builds the project with it"
    assert "://" not in (ROOT / path).read_text(encoding="utf-8")


def test_each_lock_contains_the_smaller_one() -> None:
    held = [locked(path) for path in LOCKS]
    assert all(smaller.items() <= larger.items() for smaller, larger in pairwise(held))
    assert "pyarrow" not in held[1], "`make demo` must not wait for the lake's packages"
    assert len(held[0]) < 10, "the gateway's lock must stay light: it is what a Pi installs"


EXTRAS = (
    ("build", "zstd"),
    ("build", "zstd", "host"),
    ("build", "zstd", "host", "cloud"),
    ("build", "zstd", "host", "cloud", "test"),
)
PI = ("gateway/requirements-pi.lock", ("build", "zstd", "pi"))


@pytest.mark.parametrize(("path", "extras"), [*zip(LOCKS, EXTRAS, strict=True), PI])
def test_locks_fit_pyproject(path: str, extras: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    for requirement in map(Requirement, wanted):
        version = locked(path)[requirement.name.lower()][0]
        assert requirement.specifier.contains(version), f"{path} has {requirement.name} {version}: run `make lock`"


def test_the_build_tool_is_taken_from_the_lock(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    step = packages.Packages(tmp_path, "host")
    arguments = step._build_tool(
        "click==8 \\\n    --hash=sha256:aa\nsetuptools==80 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
    )
    assert (tmp_path / ".venv" / "build-tool.lock").read_text() == (
        "setuptools==80 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
    )
    assert arguments[0] == "--require-hashes"
    with pytest.raises(errors.SetupError, match="make lock"):
        step._build_tool("click==8 \\\n    --hash=sha256:aa\n")


# --- apt ------------------------------------------------------------------------------------------------------------

ONE_LINE = """\
# deb http://comment.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/other.gpg] http://other.example/x stable main
deb http://mirror.example/debian-security bookworm-security main
deb-src http://source.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib
"""
PARAGRAPHS = """\
Types: deb deb-src
# a comment inside
URIs: http://second.example/debian
  http://third.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""


def test_mirrors_are_read_from_both_forms_the_signed_ones_first(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (tmp_path / "sources.list.d" / "debian.sources").write_text(PARAGRAPHS)
    hosts = ["second", "third", "mirror"]
    assert apt.mirrors(tmp_path) == [f"http://{host}.example/debian" for host in hosts]


def test_no_sources_no_mirrors(tmp_path: Path) -> None:
    assert apt.mirrors(tmp_path) == []


def test_without_root_the_command_is_named(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "available", lambda: True)
    monkeypatch.setattr(apt, "root_prefix", lambda runner: None)
    with pytest.raises(errors.MissingError, match="sudo apt-get install mosquitto"):
        apt.install(runner, ["mosquitto"], "the broker", "brew")


def test_without_apt_the_alternative_is_named(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "available", lambda: False)
    with pytest.raises(errors.MissingError, match="brew install"):
        apt.install(runner, ["mosquitto"], "the broker", system.BROKER_INSTEAD)


def test_a_password_in_a_mirror_is_not_told() -> None:
    assert apt._without_password("https://me:secret@mirror.example/debian") == "https://mirror.example/debian"


def test_an_old_broker_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\necho mosquitto version 1.6.12\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(errors.MissingError, match=r"older than 2\.0"):
        system.broker_version(str(program))


# --- MicroPython ----------------------------------------------------------------------------------------------------


def test_setup_needs_nothing_installed() -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import host_tools.setup.plan"
    subprocess.run([sys.executable, "-I", "-S", "-c", script], check=True, timeout=DEADLINE_S)


def test_an_override_that_does_not_run_is_refused(tmp_path: Path) -> None:
    stage = mp.MicroPython(tmp_path, {"MICROPYTHON": "/nowhere/micropython -X heapsize=100k"})
    with pytest.raises(errors.MissingError, match="correct MICROPYTHON"):
        stage.ready()


@pytest.mark.parametrize(
    ("port", "loader"), [("i386-linux-gnu", "ld-linux.so.2"), ("arm-linux-gnueabihf", "ld-linux-armhf.so.3")]
)
def test_layout_of_unpacked_packages(tmp_path: Path, port: str, loader: str) -> None:
    libraries = tmp_path / "usr" / "lib" / port
    libraries.mkdir(parents=True)
    for name in (loader, "libc.so.6", "libffi.so.8.1.4"):
        (libraries / name).touch()
    (tmp_path / "usr" / "lib" / loader).symlink_to(f"{port}/{loader}")
    with pytest.raises(errors.MissingError):
        mp.layout(tmp_path)
    (tmp_path / "usr" / "bin").mkdir()
    (tmp_path / "usr" / "bin" / "micropython").touch()
    assert mp.layout(tmp_path) == {
        "loader": f"usr/lib/{loader}",
        "libraries": f"$here/usr/lib/{port}",
        "program": "usr/bin/micropython",
    }


class Broken(mp.MicroPython):
    """A machine on which the private interpreter cannot be made."""

    error: errors.SetupError = errors.NetworkError("the mirror does not answer")
    installed: Interpreter | None = Interpreter(("micropython",), (1, 24, 0), 64, "64 bits wide")

    def _unpack(self, runner: Runner, note: object) -> str:
        raise self.error

    def _installed(self) -> Interpreter:
        if self.installed is None:
            raise InterpreterMissing("there is none: run `make setup`, or anything else")
        return self.installed


def test_the_installed_one_serves_with_a_notice_and_is_remembered(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    stage = Broken(tmp_path, {})
    assert "64 bits wide" in stage.install(runner, print)
    assert not stage.ready(), "after a failure of the network the 32-bit one is tried again"
    stage.error = errors.MissingError("not on this system")
    stage.install(runner, print)
    assert stage.ready()


def test_neither_private_nor_installed(tmp_path: Path, runner: Runner) -> None:
    stage = Broken(tmp_path, {})
    stage.installed = None
    with pytest.raises(errors.NetworkError, match="run the same command again"):
        stage.install(runner, print)
    stage.error = errors.MissingError("not on this system")
    with pytest.raises(errors.MissingError, match="not on this system, and there is none: install MicroPython"):
        stage.install(runner, print)


# --- promtool -------------------------------------------------------------------------------------------------------


def test_a_promtool_that_is_there_serves(tmp_path: Path) -> None:
    assert promtool.Promtool(tmp_path, {"PROMTOOL": "/somewhere/promtool"}).ready()
    assert promtool.find_promtool(tmp_path, {"PROMTOOL": "/somewhere/promtool"}) == "/somewhere/promtool"


def test_without_promtool_set_up_goes_on_and_says_so(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    stage = promtool.Promtool(tmp_path, {})
    monkeypatch.setattr(apt, "available", lambda: True)
    monkeypatch.setattr(apt, "KEYRING", Path(__file__))
    monkeypatch.setattr(apt, "mirrors", lambda: ["http://127.0.0.1:9/debian"])

    def away(*arguments: object) -> None:
        raise errors.NetworkError("the mirror does not answer")

    monkeypatch.setattr(apt, "unpack", away)
    assert "NONE, tests of alert rules are skipped: the mirror" in stage.install(runner, print)
    assert not stage.ready(), "it is tried again"
    assert promtool.find_promtool(tmp_path, {}) is None
    monkeypatch.setattr(apt, "available", lambda: False)
    assert stage.install(runner, print).startswith("none: this is no Debian")
    assert stage.ready(), "there will never be one"


# --- umqtt.simple ---------------------------------------------------------------------------------------------------


def test_an_altered_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(b"not what was pinned")
    with pytest.raises(errors.IntegrityError, match="pinned SHA-256"):
        umqtt.fetch(archive.as_uri(), urllib.request.build_opener())


def test_an_archive_that_is_away_is_the_networks_fault(tmp_path: Path) -> None:
    with pytest.raises(errors.NetworkError, match="run the same command again"):
        umqtt.fetch((tmp_path / "nothing").as_uri(), urllib.request.build_opener())


def test_an_altered_file_is_fetched_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = umqtt.Umqtt(tmp_path, tmp_path / "python")
    assert not stage.ready()
    target = tmp_path / "umqtt" / "umqtt" / "simple.py"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"class MQTTClient: ...")
    assert not stage.ready()
    monkeypatch.setattr(umqtt, "MEMBER_SHA256", hashlib.sha256(target.read_bytes()).hexdigest())
    assert stage.ready()


# --- running programs, and the whole --------------------------------------------------------------------------------


def test_a_program_that_hangs_is_stopped(runner: Runner) -> None:
    with pytest.raises(errors.SetupError, match=r"did not end within 0 s"):
        runner.run([sys.executable, "-c", "import time; time.sleep(600)"], timeout_s=0.3)


def test_output_is_followed_kept_and_logged(runner: Runner, tmp_path: Path) -> None:
    seen: list[str] = []
    output = runner.run(
        [sys.executable, "-c", "print('a'); print('b', end=''); exit(3)"], timeout_s=30, on_line=seen.append
    )
    assert (output.code, output.lines, seen) == (3, ["a", "b"], ["a", "b"])
    assert "a\nb" in (tmp_path / "log").read_text()


def test_a_program_that_is_missing(runner: Runner) -> None:
    with pytest.raises(errors.SetupError, match="cannot be started"):
        runner.run(["/nowhere/program"], timeout_s=1)


def test_the_users_pip_is_kept_out(tmp_path: Path) -> None:
    runner = Runner(
        tmp_path / "log", {"PIP_USER": "1", "PYTHONPATH": "x", "PIP_INDEX_URL": "kept", "PATH": os.environ["PATH"]}
    )
    assert set(runner.environment) == {"PIP_INDEX_URL", "PATH"}


def test_network_failures_are_known() -> None:
    assert tells_of_network(
        "E: Failed to fetch ... Could not connect to 127.0.0.1:9 - connect (111: Connection refused)"
    )
    assert tells_of_network("Temporary failure in name resolution")
    assert not tells_of_network("E: Unable to locate package mosquitto")


def test_a_full_disk_is_said_before_anything_is_made() -> None:
    with pytest.raises(errors.SpaceError, match="only 12 MB are free"):
        plan.need_space(ROOT, 12_345_678, 600_000_000)
    plan.need_space(ROOT, 600_000_000, 600_000_000)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What set-up reads, in a folder of its own."""
    folder = tmp_path / "clone"
    shutil.copytree(
        ROOT / "host_tools" / "setup", folder / "host_tools" / "setup", ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in (
        "pyproject.toml",
        "host_tools/__init__.py",
        "host_tools/errors.py",
        "host_tools/bootstrap.py",
        *VIRTUAL,
        *LOCKS,
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


def start(clone: Path, **environment: str) -> subprocess.Popen[str]:
    """Set up the clone without a way to the network."""
    closed = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
    return subprocess.Popen(
        [sys.executable, str(clone / "host_tools" / "bootstrap.py"), "host"],
        env={**os.environ, **closed, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.mosquitto
def test_no_network_is_said_and_nothing_is_left(clone: Path) -> None:
    child = start(clone)
    _, said = child.communicate(timeout=DEADLINE_S)
    assert child.returncode == errors.NetworkError.exit_code
    assert "pip cannot reach its package index" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not (clone / ".venv").exists()


@pytest.mark.mosquitto
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_half_made(clone: Path, sign: signal.Signals) -> None:
    child = start(clone)
    deadline_s = time.monotonic() + DEADLINE_S
    while not (clone / ".venv").exists() and child.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.005)
    child.send_signal(sign)
    _, said = child.communicate(timeout=DEADLINE_S)
    assert child.returncode == plan.INTERRUPTED, said
    assert "run the same command again" in said.splitlines()[-1]
    assert not (clone / ".venv").exists()
    assert {path.name for path in (clone / ".tools").iterdir()} == {"lock", "setup.log"}


def test_wrong_arguments() -> None:
    command = [sys.executable, str(ROOT / "host_tools" / "bootstrap.py"), "everything"]
    child = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert child.returncode == 2
    assert "invalid choice: 'everything'" in child.stderr
