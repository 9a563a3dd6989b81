"""What can be reached, and by whom: no port on a board, the gateway's pages on loopback, files only owners change."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.system import install as installer
from tests.support.board_client import wait_for
from tests.support.daemon import Daemon, environment
from tests.support.mosquitto import Mosquitto

ROOT = Path(__file__).resolve().parents[2]
OTHERS = 0o007
# What opens a port or a prompt on MicroPython: sockets that wait, the REPL over the network, a second terminal.
OPENS = frozenset({"listen", "accept", "bind", "start_server", "webrepl", "webrepl_setup", "dupterm", "_thread"})


def openings(path: str, text: str) -> list[str]:
    """Where a source opens something to others."""
    found = []
    for node in ast.walk(ast.parse(text)):
        names = [node.attr] if isinstance(node, ast.Attribute) else [node.id] if isinstance(node, ast.Name) else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(alias.name for alias in node.names)]
        found += [f"{path}:{node.lineno} {name}" for name in names if name in OPENS]  # type: ignore[attr-defined]
    return found


def test_firmware_opens_no_port() -> None:
    sources = sorted((ROOT / "firmware").rglob("*.py"))
    assert len(sources) > 40
    assert [line for path in sources for line in openings(path.name, path.read_text(encoding="utf-8"))] == []
    breaches = (
        "import webrepl",
        "from webrepl import start",
        "s.listen(1)",
        "os.dupterm(x)",
        "socket.socket().bind(a)",
    )
    for text in breaches:
        assert openings("a.py", text), text


@pytest.mark.parametrize(
    ("table", "address"),
    [("metrics", "0.0.0.0:9464"), ("metrics", "[::]:9464"), ("metrics", ":9464"), ("mqtt", "gateway.example:1883")],
)
def test_the_gateways_pages_are_for_this_machine_only(tmp_path: Path, table: str, address: str) -> None:
    """Asked to listen beyond loopback, or to reach a broker elsewhere without TLS, the program does not start."""
    host, _, port = address.rpartition(":")
    line = f'listen = "{address}"' if table == "metrics" else f'host = "{host}"\nport = {port}'
    config = tmp_path / "gateway.toml"
    config.write_text(f'[gateway]\ndata_dir = "data"\n[{table}]\n{line}\n', encoding="utf-8")
    command = [sys.executable, "-m", "gateway.cli", "run", "--config", str(config)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f": {table}." in done.stderr and ("loopback" in done.stderr or 'must be ""' in done.stderr)
    assert "Traceback" not in done.stderr and not (tmp_path / "data").exists()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A gateway that was started by a user whose umask is the usual one."""
    former = os.umask(0o022)
    try:
        with Mosquitto(tmp_path / "broker") as broker, Daemon(tmp_path / "gateway", broker.port) as running:
            yield running
    finally:
        os.umask(former)


@pytest.mark.mosquitto
def test_nobody_else_enters_the_gateways_folder(daemon: Daemon) -> None:
    """Readings, control socket and address are behind a folder that others cannot enter; the socket is its owner's."""
    data = daemon.workdir / "data"
    wait_for(lambda: (data / "control.sock").exists(), what="the socket")
    assert data.stat().st_mode & OTHERS == 0
    assert (data / "control.sock").stat().st_mode & 0o077 == 0
    assert listening(daemon.process.pid if daemon.process else 0) == {"127.0.0.1"}


def listening(pid: int) -> set[str]:
    """Addresses that a process listens on over TCP (proc_net(5): state 0A)."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                found.add(_address(fields[1].partition(":")[0]))
    return found


def _address(digits: str) -> str:
    """An address of proc_net(5): words in the machine's order."""
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    return ".".join(str(byte) for byte in words[0]) if len(words) == 1 else b"".join(words).hex(":", 2)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_what_is_installed_is_for_its_owner_to_change(tmp_path: Path, umask: int) -> None:
    """Whatever the umask of who installs. No secret is among it: tokens and keys are named by path, 0640 or 0600."""
    former = os.umask(umask)
    try:
        assert installer.main(["install", "--destdir", str(tmp_path / "root"), "--dependencies", "no"]) == 0
    finally:
        os.umask(former)
    modes = {path: path.stat().st_mode for path in (tmp_path / "root").rglob("*") if not path.is_symlink()}
    assert [path for path, mode in modes.items() if mode & 0o022] == [], "others may change them"
    assert [path for path, mode in modes.items() if not mode & 0o004] == [], "the service's user cannot read them"
    unit = (tmp_path / "root/usr/local/lib/systemd/system/isotherm-gateway.service").read_text(encoding="utf-8")
    assert "\nUMask=0077\n" in unit and "\nStateDirectoryMode=0750\n" in unit and "\nUser=isotherm\n" in unit
