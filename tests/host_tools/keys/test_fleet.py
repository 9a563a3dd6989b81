"""A fleet's folder: members come, return and go; keys rotate; all of it survives a backup."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from host_tools.errors import InputError, KeyFileError
from host_tools.keys import fleet as fleets
from host_tools.keys import reading_keys, registry, sealed, signing
from isocore import access, keylist, sign

GOOD = "correct horse battery"


@pytest.fixture
def fleet(tmp_path: Path) -> fleets.Fleet:
    return fleets.create(tmp_path / "keys", "home", None, lambda: 1_800_000_000.0)


def reopened(fleet: fleets.Fleet) -> fleets.Fleet:
    return fleets.Fleet(fleet.folder, None, lambda: 1_800_000_000.0)


def test_every_file_is_private(tmp_path: Path) -> None:
    fleet = fleets.create(tmp_path / "keys", "home", GOOD)
    public = {"ca.pem", "root-key.pub", "model-key.pub", "model-keys.isos"}
    for path in fleet.folder.iterdir():
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o644 if path.name in public else 0o600), path
        if path.suffix in (".pem", ".key") and path.name not in public:
            assert sealed.is_sealed(path.read_bytes()), path
    with pytest.raises(KeyFileError, match="protected by a passphrase"):
        fleets.Fleet(fleet.folder, None).admit("fridge-1", "board")
    assert fleets.Fleet(fleet.folder, GOOD).admit("fridge-1", "board").node.generation == 1


def test_members(fleet: fleets.Fleet) -> None:
    first = fleet.admit("fridge-1", "board", tagged=True)
    assert (first.node.generation, first.node.tagged, fleet.registry.number) == (1, True, 1)
    again = reopened(fleet).admit("fridge-1", "board", tagged=True)
    assert again.node.generation == 2 and again.reading_key != first.reading_key
    found = reopened(fleet)
    assert [entry.serial for entry in found.registry.revoked] == [first.identity.serial]
    with pytest.raises(InputError, match="is a board of this fleet"):
        found.admit("fridge-1", "gateway")
    with pytest.raises(InputError, match="only boards tag"):
        found.admit("gateway-1", "gateway", tagged=True)
    with pytest.raises(InputError, match="only a revoked node"):
        found.one_time("fridge-1")
    found.revoke("fridge-1")
    for name, says in (("fridge-1", "revoked already"), ("nobody", "no such node")):
        with pytest.raises(InputError, match=says):
            reopened(fleet).revoke(name)
    back = reopened(fleet).admit("fridge-1", "board")
    assert back.node.generation == 3 and back.reading_key is None


def test_two_at_work(fleet: fleets.Fleet) -> None:
    """Each change is made on what the file says, not on what was read long ago."""
    other = reopened(fleet)
    fleet.admit("fridge-1", "board")
    other.admit("fridge-2", "board")
    fleet.revoke("fridge-2")
    assert {name: node.state for name, node in reopened(other).registry.nodes.items()} == {
        "fridge-1": "active",
        "fridge-2": "revoked",
    }
    assert reopened(fleet).registry.number == 3


def test_what_gateways_are_told(fleet: fleets.Fleet) -> None:
    fleet.admit("broker", "broker", ["pi.local"])
    fleet.admit("gateway-1", "gateway")
    fleet.admit("fridge-1", "board")
    fleet.admit("fridge-2", "board")
    fleet.revoke("fridge-2")
    payload = sign.open_container(fleet.access_document(), sign.KIND_ACCESS, [fleet.root_key], access.BYTES_MAX)
    number, nodes, crl = access.parse(payload, "home")
    assert number == fleet.registry.number
    assert sorted(nodes) == [("fridge-1", "board"), ("gateway-1", "gateway")]
    assert "BEGIN X509 CRL" in crl
    assert "fridge-2" not in access.acl(nodes)


def test_what_the_cloud_is_told(fleet: fleets.Fleet) -> None:
    bundle = fleet.admit("fridge-1", "board", tagged=True)
    fleet.admit("fridge-2", "board", tagged=True)
    fleet.admit("fridge-3", "board")
    fleet.revoke("fridge-2")
    told = json.loads(fleet.cloud_keys())
    assert told["boards"] == {"fridge-1": 1}
    master = bytes.fromhex(told["master"])
    assert reading_keys.derive(master, "fridge-1", 1) == bundle.reading_key
    assert reading_keys.derive(master, "fridge-1", 2) != bundle.reading_key
    assert reading_keys.derive(master, "fridge-11", 1) != reading_keys.derive(master, "fridge-1", 11)


def listed(fleet: fleets.Fleet) -> tuple[int, list[bytes]]:
    payload = sign.open_container(fleet.key_list, sign.KIND_KEYS, [fleet.root_key])
    found: tuple[int, list[bytes]] = keylist.parse(payload, "home")
    return found


def test_rotation(fleet: fleets.Fleet) -> None:
    first = fleet.model_key().public_key
    assert listed(fleet) == (1, [first])
    fleet.rotate(compromised=False)
    second = fleet.model_key().public_key
    assert listed(fleet) == (2, [second, first])
    reopened(fleet).rotate(compromised=True)
    third = fleet.model_key().public_key
    assert listed(fleet) == (3, [third]) and third not in (first, second)
    former = fleet.folder / f"model-key-{signing.key_id_hex(first)}.pem"
    assert signing.load_private(former).public_key == first


def test_rotation_cut_before_the_keys_are_renamed(fleet: fleets.Fleet) -> None:
    """The list was signed and the power went: the next rotation uses the very key that the list names."""
    waiting = signing.init(fleet.folder, None, "model-key-next")
    fleet.rotate(compromised=False)
    assert fleet.model_key().public_key == waiting.public_key
    assert listed(fleet)[1][0] == waiting.public_key


def test_a_model_key_cannot_sign_the_list(fleet: fleets.Fleet) -> None:
    forged = fleet.model_key().sign(keylist.to_payload("home", 9, [fleet.root_key]), sign.KIND_KEYS)
    with pytest.raises(sign.SignatureError, match="not trusted"):
        sign.open_container(forged, sign.KIND_KEYS, [fleet.root_key])


def test_backup(fleet: fleets.Fleet, tmp_path: Path) -> None:
    fleet.admit("fridge-1", "board")
    out = tmp_path / "fleet.backup"
    count = fleets.backup(fleet.folder, out, GOOD)
    assert b"BEGIN" not in out.read_bytes() and stat.S_IMODE(out.stat().st_mode) == 0o600
    elsewhere = tmp_path / "elsewhere"
    assert fleets.restore(out, elsewhere, GOOD) == count
    found = fleets.Fleet(elsewhere, None)
    assert found.registry.nodes == fleet.registry.nodes
    assert found.admit("fridge-2", "board").ca_pem == (fleet.folder / "ca.pem").read_bytes()
    with pytest.raises(KeyFileError, match="holds a fleet already"):
        fleets.restore(out, elsewhere, GOOD)
    with pytest.raises(KeyFileError, match="passphrase is wrong"):
        fleets.restore(out, tmp_path / "third", GOOD + "?")


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "..", "", ".lock", "a\0b", "a\nb", "a/b", "é", "x" * 200])
def test_a_backup_writes_into_its_folder_only(tmp_path: Path, name: str) -> None:
    """Whoever knows the passphrase made it; still not one file is written, the good one before it neither."""
    planted = tmp_path / "planted"
    planted.write_bytes(sealed.seal("fleet-backup", json.dumps({"good": "", name: ""}).encode(), GOOD))
    with pytest.raises(KeyFileError, match="outside of its folder"):
        fleets.restore(planted, tmp_path / "folder", GOOD)
    assert [path.name for path in tmp_path.iterdir()] == ["planted"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no registry"),
        ("[]", "no registry"),
        ('{"v": 2}', "version 2"),
        ('{"v": 1, "fleet": "home"}', "number"),
        ('{"v":1,"fleet":"home","number":1,"key_list":1,"nodes":{"a":{"role":"board"}},"revoked":[]}', "serial"),
    ],
)
def test_registries_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / registry.FILE_NAME).write_text(text)
    with pytest.raises(KeyFileError, match=says):
        registry.load(tmp_path)


def test_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must match"):
        fleets.create(tmp_path / "keys", "My Home", None)
    with pytest.raises(KeyFileError, match="isotherm keys init"):
        fleets.Fleet(tmp_path, None)
