"""Who belongs to the fleet: the registry, one JSON file on the operator's host. It holds no secret.

    number   rises with every change: what the broker is told carries it, and an older word never replaces a newer one
    nodes    name: role, generation, serial of its certificate, a server's host names, whether its readings are tagged
    revoked  serials that are withdrawn, each with the name and generation it was issued for

A node that is provisioned again gets the next generation, and its former certificate is withdrawn: two boards with one
identity cannot both be good. A revoked name may come back only so, with a generation above its last. It makes no
certificate and knows no broker.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from host_tools.errors import InputError, KeyFileError
from host_tools.keys.sealed import write_file

FILE_NAME = "fleet.json"
_VERSION = 1
ACTIVE, REVOKED = "active", "revoked"


@dataclass(frozen=True)
class Node:
    """One member. `serial`: of its present certificate; `hosts`: of a server; `tagged`: its readings carry a tag."""

    name: str
    role: str
    generation: int
    serial: int
    state: str = ACTIVE
    hosts: tuple[str, ...] = ()
    tagged: bool = False


@dataclass(frozen=True)
class Withdrawn:
    """A certificate that is good no more."""

    serial: int
    name: str
    generation: int
    unix_s: int


@dataclass
class Registry:
    """The registry in memory; `save` makes a change count."""

    path: Path
    fleet: str
    number: int = 0
    key_list: int = 0  # version of the last signed list of model keys
    nodes: dict[str, Node] = field(default_factory=dict)
    revoked: list[Withdrawn] = field(default_factory=list)
    _wall_s: Callable[[], float] = time.time

    def active(self, *roles: str) -> list[Node]:
        """Members in force, by name; of these roles only, where any are given."""
        found = (node for node in self.nodes.values() if node.state == ACTIVE and (not roles or node.role in roles))
        return sorted(found, key=lambda node: node.name)

    def next_generation(self, name: str) -> int:
        """The generation that a name's next certificate has."""
        return self.nodes[name].generation + 1 if name in self.nodes else 1

    def admit(self, name: str, role: str, serial: int, hosts: tuple[str, ...] = (), tagged: bool = False) -> Node:
        """Take a node in, or give it its next generation; what it had before is withdrawn.

        Raises InputError when the name is of another role.
        """
        former = self.nodes.get(name)
        if former is not None and former.role != role:
            raise InputError(f"{name}: is a {former.role} of this fleet; give the {role} another name")
        if former is not None and former.state == ACTIVE:
            self._withdraw(former)
        node = Node(name, role, self.next_generation(name), serial, ACTIVE, hosts, tagged)
        self.nodes[name] = node
        self.number += 1
        return node

    def revoke(self, name: str) -> Node:
        """Withdraw a node. Raises InputError for one that is unknown or withdrawn already."""
        node = self.nodes.get(name)
        if node is None:
            raise InputError(f"{name}: no such node in {self.path}; `isotherm keys list` shows them")
        if node.state == REVOKED:
            raise InputError(f"{name}: is revoked already")
        self._withdraw(node)
        self.nodes[name] = replace(node, state=REVOKED)
        self.number += 1
        return self.nodes[name]

    def _withdraw(self, node: Node) -> None:
        self.revoked.append(Withdrawn(node.serial, node.name, node.generation, int(self._wall_s())))

    def save(self) -> None:
        """Write the file: the whole new one, or the old one stays."""
        document = {
            "v": _VERSION,
            "fleet": self.fleet,
            "number": self.number,
            "key_list": self.key_list,
            "nodes": {name: plain(node) for name, node in sorted(self.nodes.items())},
            "revoked": [asdict(entry) | {"serial": f"{entry.serial:x}"} for entry in self.revoked],
        }
        data = json.dumps(document, indent=1).encode("ascii") + b"\n"
        write_file(self.path, data, 0o600, replace=True)


def plain(node: Node) -> dict[str, Any]:
    """A node as it stands in the file."""
    fields = asdict(node) | {"serial": f"{node.serial:x}", "hosts": list(node.hosts)}
    del fields["name"]
    return fields


def load(folder: Path, wall_s: Callable[[], float] = time.time) -> Registry:
    """The registry in `folder`. Raises KeyFileError, naming the file and what is wrong in it."""
    path = folder / FILE_NAME
    try:
        document = json.loads(path.read_bytes())
        if document["v"] != _VERSION:
            raise KeyFileError(f"{path}: version {document['v']!r} is not known here")
        registry = Registry(path, document["fleet"], document["number"], document["key_list"], _wall_s=wall_s)
        for name, fields in document["nodes"].items():
            serial, hosts = int(fields["serial"], 16), tuple(fields["hosts"])
            registry.nodes[name] = Node(**fields | {"name": name, "serial": serial, "hosts": hosts})
        for fields in document["revoked"]:
            registry.revoked.append(Withdrawn(**fields | {"serial": int(fields["serial"], 16)}))
    except FileNotFoundError:
        raise KeyFileError(f"{path}: no fleet here; `isotherm keys init` makes one") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KeyFileError(f"{path}: is no registry of a fleet ({type(error).__name__}: {error})") from None
    return registry
