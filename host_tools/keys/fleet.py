"""The folder that holds a fleet's secrets, on the operator's host and nowhere else: made, opened, changed.

    ca-key.pem, ca.pem            the authority; its private key is needed to take nodes in and to withdraw them
    root-key.pem, root-key.pub    signs the list of model keys and who may use the broker
    model-key.pem, model-key.pub  signs models; replaced by `rotate`
    model-keys.isos               the present list of model keys, signed by the root: what boards are provisioned with
    cloud-master.key              what the keys for tags on readings are derived from; the receiver holds a copy
    fleet.json                    the registry

Every secret is under one passphrase, unless the fleet was made without. It knows no broker and no command line.
"""

from __future__ import annotations

import base64
import datetime
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from host_tools.errors import InputError, KeyFileError
from host_tools.keys import authority, reading_keys, registry, signing
from host_tools.keys.authority import Identity
from host_tools.keys.registry import Node
from host_tools.keys.sealed import open_sealed, seal, write_file
from isocore import access, keylist, sign, topics

KEY_LIST_NAME = "model-keys.isos"
_BACKUP = "fleet-backup"
_BACKUP_BYTES_MAX = 16_000_000
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")  # of a file in the folder: no path, nothing hidden


@dataclass(frozen=True)
class Bundle:
    """What a node is given: its identity, whom it trusts, and, for a board, what it signs readings and models with."""

    node: Node
    identity: Identity
    ca_der: bytes
    ca_pem: bytes
    root_key: bytes
    key_list: bytes
    reading_key: bytes | None


class Fleet:
    """An opened folder. Private keys are read when they are needed and held no longer than that."""

    def __init__(self, folder: Path, passphrase: str | None, wall_s: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._passphrase = passphrase
        self._wall_s = wall_s
        self.registry = registry.load(folder, wall_s)

    @property
    def name(self) -> str:
        return self.registry.fleet

    @property
    def root_key(self) -> bytes:
        """Public key of the root, 64 bytes x || y."""
        return signing.load_public(self.folder / f"{signing.ROOT_ROLE}.pub")

    @property
    def key_list(self) -> bytes:
        """The signed list of model keys. Raises KeyFileError."""
        path = self.folder / KEY_LIST_NAME
        try:
            return path.read_bytes()
        except OSError as error:
            raise KeyFileError(f"{path}: cannot be read: {error.strerror or error}") from None

    def model_key(self) -> signing.SigningKey:
        """The key that signs models now."""
        return signing.load_private(self.folder, self._passphrase)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The registry as the file says now, for nobody else to change meanwhile; saved at the end unless it fails."""
        with open(os.open(self.folder / ".lock", os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.registry = registry.load(self.folder, self._wall_s)
            yield
            self.registry.save()

    # ---- members

    def admit(self, name: str, role: str, hosts: Sequence[str] = (), tagged: bool = False) -> Bundle:
        """Take a node in, or give it its next generation. The registry is saved before the keys leave this object."""
        if tagged and role != "board":
            raise InputError(f"{name}: only boards tag their readings")
        ca = authority.load(self.folder, self._passphrase)
        master = reading_keys.load(self.folder, self._passphrase) if tagged else None
        identity = ca.issue(name, role, hosts)
        with self._changing():
            node = self.registry.admit(name, role, identity.serial, tuple(hosts), tagged)
        reading_key = None if master is None else reading_keys.derive(master, name, node.generation)
        return Bundle(node, identity, ca.certificate_der, ca.certificate_pem, self.root_key, self.key_list, reading_key)

    def revoke(self, name: str) -> Node:
        """Withdraw a node; durable here when this returns. What the broker is told is `access_document`."""
        with self._changing():
            return self.registry.revoke(name)

    def one_time(self, name: str) -> Identity:
        """A client certificate that bears a revoked node's name: it takes over that node's session at the broker and
        so ends it (MQTT 3.1.1, MQTT-3.1.4-2). Its serial is withdrawn at once; the next list carries it."""
        ca = authority.load(self.folder, self._passphrase)
        with self._changing():
            node = self.registry.nodes.get(name)
            if node is None or node.state != registry.REVOKED:
                raise InputError(f"{name}: only a revoked node's session is taken over")
            identity = ca.issue(name, node.role)
            unix_s = int(self._wall_s())
            self.registry.revoked.append(registry.Withdrawn(identity.serial, name, node.generation, unix_s))
            self.registry.number += 1
        return identity

    # ---- what others are told

    def revocations(self) -> bytes:
        """The present list of revoked certificates, PEM."""
        now = datetime.datetime.fromtimestamp(self._wall_s(), datetime.UTC)
        serials = [entry.serial for entry in self.registry.revoked]
        ca = authority.load(self.folder, self._passphrase)
        return ca.revocations(serials, max(1, self.registry.number), now)

    def access_document(self, crl: bytes | None = None) -> bytes:
        """Who may use the broker, signed by the root: what gateways are sent."""
        members = [(node.name, node.role) for node in self.registry.active(*access.ROLES)]
        text = (self.revocations() if crl is None else crl).decode("ascii")
        payload = access.to_payload(self.name, max(1, self.registry.number), members, text)
        root = signing.load_private(self.folder, self._passphrase, signing.ROOT_ROLE)
        return root.sign(payload, sign.KIND_ACCESS, access.BYTES_MAX)

    def cloud_keys(self) -> bytes:
        """What the receiver checks tags with: the master, the generation of each board in force that tags, the boards
        in force that do not, and who was revoked."""
        master = reading_keys.load(self.folder, self._passphrase)
        active = self.registry.active("board")
        boards = {node.name: node.generation for node in active if node.tagged}
        document: dict[str, object] = {"v": 1, "fleet": self.name, "number": self.registry.number, "boards": boards}
        document["untagged"] = [node.name for node in active if not node.tagged]
        document["revoked"] = {
            node.name: node.generation
            for node in self.registry.nodes.values()
            if node.role == "board" and node.state == registry.REVOKED
        }
        document["master"] = master.hex()
        return json.dumps(document, sort_keys=True).encode("ascii") + b"\n"

    # ---- model keys

    def rotate(self, *, compromised: bool) -> tuple[str, bytes]:
        """Make a new model key. Returns the new key's id and the list that boards must be sent, signed by the root.

        The former key stays on the list until the next rotation, so that models signed with it still count; not if it
        is compromised. Its private part is renamed, never deleted.
        """
        former = signing.load_public(self.folder)
        stamp = signing.key_id_hex(former)
        role = f"{signing.MODEL_ROLE}-next"
        if (self.folder / f"{role}.pub").exists():  # an earlier rotation was cut short
            fresh = signing.load_private(self.folder, self._passphrase, role)
        else:
            fresh = signing.init(self.folder, self._passphrase, role)
        container = self._sign_list([fresh.public_key] if compromised else [fresh.public_key, former])
        for suffix in ("pem", "pub"):
            current = self.folder / f"{signing.MODEL_ROLE}.{suffix}"
            current.rename(self.folder / f"{signing.MODEL_ROLE}-{stamp}.{suffix}")
            (self.folder / f"{role}.{suffix}").rename(current)
        return signing.key_id_hex(fresh.public_key), container

    def _sign_list(self, keys: Sequence[bytes]) -> bytes:
        root = signing.load_private(self.folder, self._passphrase, signing.ROOT_ROLE)
        with self._changing():
            self.registry.key_list += 1
            payload = keylist.to_payload(self.name, self.registry.key_list, list(keys))
            container = root.sign(payload, sign.KIND_KEYS)
            write_file(self.folder / KEY_LIST_NAME, container, 0o644, replace=True)
        return container


def create(folder: Path, name: str, passphrase: str | None, wall_s: Callable[[], float] = time.time) -> Fleet:
    """A new fleet in `folder`. Refuses a folder that holds one. Raises InputError and KeyFileError."""
    if not topics.is_device_id(name):
        raise InputError(f"fleet {name[:40]!r}: must match [a-z0-9-]{{1,32}}")
    if (folder / registry.FILE_NAME).exists():
        raise KeyFileError(f"{folder}: holds a fleet already; keys are never replaced, give another folder")
    authority.create(folder, name, passphrase)
    signing.init(folder, passphrase, signing.ROOT_ROLE)
    key = signing.init(folder, passphrase)
    reading_keys.create(folder, passphrase)
    registry.Registry(folder / registry.FILE_NAME, name, _wall_s=wall_s).save()
    fleet = Fleet(folder, passphrase, wall_s)
    fleet._sign_list([key.public_key])
    return fleet


def backup(folder: Path, out: Path, passphrase: str) -> int:
    """All of a fleet's folder into one sealed file. Returns how many files."""
    registry.load(folder)  # refuses a folder that holds no fleet
    files = {
        path.name: base64.b64encode(path.read_bytes()).decode("ascii")
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")
    }
    write_file(out, seal(_BACKUP, json.dumps(files).encode("ascii"), passphrase), 0o600)
    return len(files)


def restore(file: Path, folder: Path, passphrase: str) -> int:
    """A backup into a folder that holds no fleet. Returns how many files. Raises KeyFileError."""
    if (folder / registry.FILE_NAME).exists():
        raise KeyFileError(f"{folder}: holds a fleet already; give another folder")
    try:
        if file.stat().st_size > _BACKUP_BYTES_MAX:
            raise KeyFileError(f"{file}: is too large for a backup")
        sealed = file.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{file}: backup cannot be read: {error.strerror or error}") from None
    files = json.loads(open_sealed(file, _BACKUP, sealed, passphrase))
    for name in files:  # all of them, before the first is written
        if not _NAME.fullmatch(name):
            raise KeyFileError(f"{file}: holds a file outside of its folder: {name[:40]!r}")
    for name, content in files.items():
        mode = 0o644 if name.endswith((".pub", ".isos")) or name == authority.CERTIFICATE_NAME else 0o600
        write_file(folder / name, base64.b64decode(content), mode)
    return len(files)
