"""Lists of model keys and of who may use the broker: one payload each, and nothing else is taken."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from host_tools.virtual.interpreter import find_micropython
from isocore import access, keylist
from isocore.errors import TrustError

ROOT = Path(__file__).resolve().parents[2]
KEYS = [bytes(range(64)), bytes(64)]
CRL = "-----BEGIN X509 CRL-----\nMIH=\n-----END X509 CRL-----\n"
NODES = [("fridge-1", "board"), ("gateway-1", "gateway"), ("operator", "operator")]

# (what is changed in a good list of keys, field that is blamed)
BAD_KEYS: list[tuple[dict[str, Any], str]] = [
    ({"v": 2}, "v"),
    ({"v": True}, "v"),
    ({"fleet": "other"}, "fleet"),
    ({"fleet": "A"}, "fleet"),
    ({"version": 0}, "version"),
    ({"version": 1 << 30}, "version"),
    ({"version": True}, "version"),
    ({"version": "1"}, "version"),
    ({"keys": []}, "keys"),
    ({"keys": ["00" * 64] * 5}, "keys"),
    ({"keys": ["00" * 63]}, "keys"),
    ({"keys": ["zz" * 64]}, "keys"),
    ({"keys": [7]}, "keys"),
    ({"keys": {}}, "keys"),
    ({"more": 1}, "payload"),
]
BAD_ACCESS: list[tuple[dict[str, Any], str]] = [
    ({"v": 0}, "v"),
    ({"fleet": "other"}, "fleet"),
    ({"number": 0}, "number"),
    ({"nodes": {}}, "nodes"),
    ({"nodes": [["fridge-1"]]}, "nodes"),
    ({"nodes": [["fridge-1\nuser root", "board"]]}, "nodes"),
    ({"nodes": [["+", "board"]]}, "nodes"),
    ({"nodes": [["fridge-1", "king"]]}, "nodes"),
    ({"nodes": [["fridge-1", "board"], ["fridge-1", "gateway"]]}, "nodes"),
    ({"crl": ""}, "crl"),
    ({"crl": CRL + "more"}, "crl"),
    ({"crl": CRL.replace("MIH=", "M\x00")}, "crl"),
    ({"crl": None}, "crl"),
]


def test_round_trips() -> None:
    assert keylist.parse(keylist.to_payload("home", 3, KEYS), "home") == (3, KEYS)
    assert access.parse(access.to_payload("home", 7, NODES, CRL), "home") == (7, NODES, CRL)


@pytest.mark.parametrize(("change", "field"), BAD_KEYS)
def test_key_lists_refused(change: dict[str, Any], field: str) -> None:
    payload = json.dumps(json.loads(keylist.to_payload("home", 3, KEYS)) | change).encode()
    with pytest.raises(TrustError) as caught:
        keylist.parse(payload, "home")
    assert caught.value.field == field


@pytest.mark.parametrize(("change", "field"), BAD_ACCESS)
def test_access_documents_refused(change: dict[str, Any], field: str) -> None:
    payload = json.dumps(json.loads(access.to_payload("home", 3, NODES, CRL)) | change).encode()
    with pytest.raises(TrustError) as caught:
        access.parse(payload, "home")
    assert caught.value.field == field


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"null", b"[" * 100_000])
def test_bytes_refused(payload: bytes) -> None:
    for parse in (keylist.parse, access.parse):
        with pytest.raises(TrustError):
            parse(payload, "home")


@pytest.mark.micropython
def test_boards_refuse_the_same(tmp_path: Path) -> None:
    good = json.loads(keylist.to_payload("home", 3, KEYS))
    cases = [(json.dumps(good), "")] + [(json.dumps(good | change), field) for change, field in BAD_KEYS]
    cases += [("[" * 20_000, "payload"), ("null", "payload")]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    script = tmp_path / "check.py"
    script.write_text(
        "import json, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from isocore import keylist\n"
        "from isocore.errors import TrustError\n"
        "for payload, field in json.load(open(sys.argv[2])):\n"
        "    try:\n"
        "        said = '' if keylist.parse(payload.encode(), 'home')[0] == 3 else 'value'\n"
        "    except TrustError as error:\n"
        "        said = error.field\n"
        "    if said != field:\n"
        "        print(payload[:80], 'said', said, 'not', field)\n"
    )
    command = [*find_micropython(root=ROOT).command, str(script), str(ROOT / "firmware"), str(tmp_path / "cases.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_access_list_is_an_allow_list() -> None:
    """Every line names one board's own topic; only what is in `nodes` occurs; no wildcard anywhere."""
    text = access.acl([*NODES, ("fridge-2", "board")])
    granted: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("user "):
            user = granted.setdefault(line[5:], [])
        elif line.startswith("topic "):
            assert line.split()[1] in ("read", "write") and len(line.split()) == 3
            user.append(line)
    assert not any(sign in line for lines in granted.values() for line in lines for sign in "+#")
    assert granted["fridge-1"] == [
        "topic write iso/1/fridge-1/up",
        "topic write iso/1/fridge-1/status",
        "topic write iso/1/fridge-1/meta",
        "topic write iso/1/fridge-1/health",
        "topic write iso/1/fridge-1/model/state",
        "topic read iso/1/fridge-1/ack",
        "topic read iso/1/fridge-1/model/set",
        "topic read iso/1/fridge-1/keys/set",
    ]
    assert "topic write iso/1/fridge-2/ack" in granted["gateway-1"]
    assert not any(line.startswith("topic write") and "/up" in line for line in granted["gateway-1"])
    assert "topic write iso/1/fridge-2/model/set" in granted["operator"]
    assert not any(line.startswith("topic write") and "/ack" in line for line in granted["operator"])
    assert granted.keys() == {"fridge-1", "fridge-2", "gateway-1", "operator"}
