"""How the parts of a run reach one another: mutual TLS of a fleet made for it, or the plaintext profile of tests.

Makes keys, the broker's configuration, and what each part's own configuration says of its links. Starts nothing.
"""

from __future__ import annotations

import os
import pwd
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from host_tools import admission, broker, membership
from host_tools.commands.keys import write_identity
from host_tools.keys import fleet as fleets
from host_tools.keys import signing
from host_tools.keys.sealed import write_file

HOST = "127.0.0.1"
NAME = "localhost"  # what boards know the broker by
_OPERATOR = "operator"
_PEM = ("ca", "cert", "key")


class Links(Protocol):
    """What a run asks of either profile. key: signs models; tls: the operator's, None without."""

    key: signing.SigningKey
    tls: ssl.SSLContext | None
    scheme: str
    notice: str
    receiver_options: tuple[str, ...]
    tags: bool  # boards tag their frames, the receiver checks them

    def board(self, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
        """A board's own configuration and files, out of one that names no broker's port and no keys."""
        ...

    def broker_conf(self) -> Path:
        """mosquitto's configuration, once all boards are known."""
        ...

    def gateway_tables(self) -> tuple[str, str, str]:
        """TOML for [mqtt], for the sink, and for tables of its own."""
        ...


class SecureLinks:
    """A fleet of its own. Its keys lie in plain files in the run's folder, and go with it."""

    scheme = "https"
    tags = True
    notice = (
        "Every link is mutual TLS, every model signed, by a fleet made for this run. Its keys are in the run's folder "
        "without a passphrase and go with it."
    )

    def __init__(
        self, workdir: Path, fleet: str, gateway: str, program: str, port: int, boards: int, pid_file: Path
    ) -> None:
        self._fleet = fleets.create(workdir / "keys", fleet, None)
        self._program = program
        self._port = port
        self._connections_max = 2 * boards + 20  # a board that reset is back before its former connection has ended
        self._pid_file = pid_file
        self._broker = workdir / "broker"
        self._gateway = workdir / "nodes" / gateway
        self._server = self._fleet.admit("broker", "broker", [HOST, NAME])
        write_identity(self._gateway, self._fleet.admit(gateway, "gateway"))
        operator, receiver = workdir / "nodes" / _OPERATOR, workdir / "nodes" / "receiver"
        write_identity(operator, self._fleet.admit(_OPERATOR, "operator"))
        write_identity(receiver, self._fleet.admit("receiver", "receiver", [HOST, NAME]))
        self.key = self._fleet.model_key()
        self.tls: ssl.SSLContext | None = membership.context(operator)
        self._reading_keys = receiver / "reading-keys.json"
        options = (
            *(("--cert-file", "cert.pem"), ("--key-file", "key.pem"), ("--client-ca-file", "ca.pem")),
            ("--reading-keys-file", self._reading_keys.name),
        )
        self.receiver_options = tuple(word for option, name in options for word in (option, str(receiver / name)))

    def board(self, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Taken in, with tags on its frames; its keys are nowhere but in its flash."""
        given = self._fleet.admit(config["device"], "board", tagged=True)
        named = {**config, "gateway": {"host": HOST, "port": self._port}, "reading_key": admission.READING_KEY}
        return admission.board_config(named, self._fleet, NAME), admission.board_files(given)

    def broker_conf(self) -> Path:
        """As `isotherm broker install` makes it. The receiver's keys are written with it: they name the boards too."""
        write_file(self._reading_keys, self._fleet.cloud_keys(), 0o600, replace=True)
        identity = self._server.identity
        files = admission.broker_files(
            self._fleet,
            identity.certificate_pem,
            identity.key_pem,
            host=HOST,
            port=self._port,
            connections_max=self._connections_max,
            user=_user(),
        )
        return broker.install(self._broker, self._fleet.registry.number, files, self._program)

    def gateway_tables(self) -> tuple[str, str, str]:
        """The gateway shows its certificate to broker and receiver, and keeps who may use the broker."""
        files = "".join(f'{part}_file = "{self._gateway / part}.pem"\n' for part in _PEM)
        return (
            files,
            files,
            (
                f'[broker_access]\nfolder = "{self._broker / broker.ACCESS}"\nfleet = "{self._fleet.name}"\n'
                f'root_key = "{self._fleet.root_key.hex()}"\npid_file = "{self._pid_file}"\n'
            ),
        )


_PLAIN_CONF = """\
# Plaintext on loopback, for tests of anything but the links.
listener {port} {host}
allow_anonymous true
persistence false
max_queued_messages 10000
set_tcp_nodelay true
# The user that starts it: a change of user would cut the tie that ends the broker when the run is killed (prctl(2)).
user {user}
"""


class PlainLinks:
    """The named exception: no TLS, anonymous, on loopback. Models are signed all the same."""

    scheme = "http"
    tags = False
    notice = (
        "WARNING: --plaintext-for-tests: no link of this run is encrypted and nobody proves who he is. It is for tests "
        "on one machine; nothing installs it."
    )
    tls: ssl.SSLContext | None = None
    receiver_options: tuple[str, ...] = ()

    def __init__(self, workdir: Path, port: int) -> None:
        self.key = signing.init(workdir / "keys")
        self._conf = workdir / "mosquitto.conf"
        self._port = port

    def board(self, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Believes one model key."""
        public_key = self.key.public_key
        trusted = [{"id": signing.key_id_hex(public_key), "key": public_key.hex()}]
        return {**config, "gateway": {"host": HOST, "port": self._port}, "model_keys": trusted}, {}

    def broker_conf(self) -> Path:
        """Anonymous, on loopback."""
        self._conf.write_text(_PLAIN_CONF.format(port=self._port, host=HOST, user=_user()), encoding="ascii")
        return self._conf

    def gateway_tables(self) -> tuple[str, str, str]:
        """Nothing to say."""
        return "", "", ""


def _user() -> str:
    """Who runs this: mosquitto started by root would become another, and its tie to the run be cut (prctl(2))."""
    return pwd.getpwuid(os.getuid()).pw_name
