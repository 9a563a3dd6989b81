"""A run of the demo from outside: no plaintext listener, boards that listen on nothing, keys for nobody else's eyes."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from host_tools.keys import reading_keys
from tests.support import demo

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
_LISTEN = "0A"  # linux/include/net/tcp_states.h


def listeners(pid: int) -> set[int]:
    """TCP ports that a process listens on."""
    mine = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            mine.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in mine:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def secret_words(folder: Path, files: list[Path]) -> list[bytes]:
    """What must not be seen anywhere else: each line of the private keys, their bytes in hexadecimal, the master key,
    the Wi-Fi's password."""
    words = []
    for path in files:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        words += [line for line in path.read_bytes().splitlines() if len(line) > 30 and not line.startswith(b"--")]
        words.append(b"%064x" % key.private_numbers().private_value)
    [master] = folder.glob("isotherm-demo-*/keys/cloud-master.key")
    return [*words, master.read_bytes().strip(), b"demo-password"]


def flash_spills(folder: Path, files: list[Path]) -> dict[str, str]:
    """What is wrong with flash: a board has its own reading key, nobody else's, and no other secret of the fleet."""
    [master_path] = folder.glob("isotherm-demo-*/keys/cloud-master.key")
    master = bytes.fromhex(master_path.read_text().strip())
    others = {"the master of reading keys": master, "the master in hexadecimal": master.hex().encode()}
    for path in files:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        others[f"{path.parent.name}/{path.name}"] = key.private_numbers().private_value.to_bytes(32, "big")
    images = {path.parent.name: path.read_bytes() for path in folder.glob("isotherm-demo-*/boards/*/flash.img")}
    assert len(images) == 3
    own = {name: reading_keys.derive(master, name, 1) for name in images}
    wrong = {}
    for name, image in images.items():
        if own[name] not in image:
            wrong[name] = "its own reading key is missing"
        for what, word in others.items() | {(f"the reading key of {n}", k) for n, k in own.items() if n != name}:
            if word in image:
                wrong[name] = what
    return wrong


def spilled(words: list[bytes], data: bytes) -> list[bytes]:
    """Which of the words stand in something."""
    return [word for word in words if word in data]


def test_what_runs_listens_where_it_should_and_only_over_tls(tmp_path: Path) -> None:
    process = demo.start(tmp_path, "--boards", "3", "--duration", "20")
    try:
        seen = demo.wait_for_text(process, "the receiver is stopped")
        assert "mutual TLS" in " ".join(seen.split())
        pids = demo.pids_naming(tmp_path)
        boards = [pid for pid, command in pids.items() if "runner.py" in command]
        assert len(boards) >= 3
        for pid in boards:
            assert listeners(pid) == set(), "a board listens"
        [broker] = [pid for pid, command in pids.items() if "mosquitto.conf" in command]
        [port] = listeners(broker)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
            with contextlib.suppress(ConnectionError):  # as good an answer
                assert plain.recv(4)[:1] != b"\x20", "an anonymous client was greeted in plaintext"
        [ca] = tmp_path.glob("isotherm-demo-*/keys/ca.pem")
        context = ssl.create_default_context(cafile=str(ca))
        with (
            pytest.raises(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
            if not tls.recv(4):
                raise ConnectionResetError
        secret = [path for path in tmp_path.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()[:64]]
        assert len(secret) >= 6, "authority, root, model key, broker, gateway, receiver, operator"
        assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in secret)
        assert not any("boards" in path.parts for path in secret), "a board's key lies outside its flash"
        assert flash_spills(tmp_path, secret) == {}
        words = secret_words(tmp_path, secret)
        assert len(words) > 15
        for pid, command in demo.pids_naming(tmp_path).items():
            with contextlib.suppress(OSError):  # it has just ended
                environ = Path(f"/proc/{pid}/environ").read_bytes()
                assert spilled(words, command.encode() + environ) == [], f"in the process list: {command[:80]}"
        told = [path for path in tmp_path.rglob("*") if path.suffix in (".log", ".toml", ".conf") and path.is_file()]
        assert len(told) >= 4
        assert {path.name: spilt for path in told if (spilt := spilled(words, path.read_bytes()))} == {}
        assert spilled(words, seen.encode()) == []
        assert spilled(words, b"x " + words[0] + b" y") == [words[0]], "this check can fail"
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert demo.gone(tmp_path) == []
