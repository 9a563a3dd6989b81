"""A fleet with its keys, and a real mosquitto that serves nobody else, both made as operators make them.

It must not know what is published. The keys have no passphrase: scrypt would take a tenth of a second each.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from host_tools import broker, membership
from host_tools.commands.keys import write_identity
from host_tools.demo.processes import free_port
from host_tools.keys import fleet as fleets
from isocore import access
from tests.support.mosquitto import broker_program

_START_S = 10.0


class SecureBroker:
    """One fleet and its broker on loopback. A context manager."""

    def __init__(self, workdir: Path, hosts: Sequence[str] = ("127.0.0.1", "localhost")) -> None:
        self.workdir = workdir
        self.port = free_port()
        self.fleet = fleets.create(workdir / "keys", "home", None)
        self.folder = workdir / "broker"
        self._bundle = self.fleet.admit("broker", "broker", hosts)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def where(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def access_folder(self) -> Path:
        return self.folder / broker.ACCESS

    @property
    def pid_path(self) -> Path:
        return self.workdir / "mosquitto.pid"

    @property
    def log(self) -> str:
        return (self.workdir / "mosquitto.log").read_text(errors="replace")

    def admit(self, name: str, role: str) -> Path:
        """The folder of a new node's ca.pem, cert.pem and key.pem."""
        out = self.workdir / "nodes" / name
        write_identity(out, self.fleet.admit(name, role))
        return out

    def gateway_toml(self, name: str) -> tuple[str, str]:
        """Lines for [mqtt], and the table of [broker_access], of a gateway that was admitted."""
        node = self.workdir / "nodes" / name
        mqtt = "\n".join(f'{part}_file = "{node / part}.pem"' for part in ("ca", "cert", "key"))
        return mqtt, (
            f'[broker_access]\nfolder = "{self.access_folder}"\nfleet = "{self.fleet.name}"\n'
            f'root_key = "{self.fleet.root_key.hex()}"\npid_file = "{self.pid_path}"\n'
        )

    def tls(self, name: str) -> ssl.SSLContext:
        """TLS as a node that was admitted."""
        return membership.context(self.workdir / "nodes" / name)

    def install(self) -> Path:
        """Put the registry's present state in force for the next start."""
        registry = self.fleet.registry
        nodes = [(node.name, node.role) for node in registry.active(*access.ROLES)]
        files = broker.BrokerFiles(
            who=f"Fleet {self.fleet.name}",
            ca_pem=self._bundle.ca_pem,
            certificate_pem=self._bundle.identity.certificate_pem,
            key_pem=self._bundle.identity.key_pem,
            crl_pem=self.fleet.revocations(),
            acl=access.acl(nodes),
            host="127.0.0.1",
            port=self.port,
            connections_max=20,
            user=pwd.getpwuid(os.getuid()).pw_name,
        )
        return broker.install(self.folder, registry.number, files, broker_program())

    def __enter__(self) -> SecureBroker:
        conf = self.install()
        with (self.workdir / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([broker_program(), "-c", str(conf), "-v"], stdout=log, stderr=log)
        self.pid_path.write_text(f"{self._process.pid}\n")
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(self.where) == 0:
                    return self
            time.sleep(0.01)
        raise RuntimeError("mosquitto did not start: " + self.log)

    def reload(self) -> None:
        """SIGHUP, as a gateway beside the broker sends it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def __exit__(self, *exception: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=5)
