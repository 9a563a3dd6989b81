"""mosquitto's configuration for a fleet: made from the registry, tried, and put in place as a whole.

    FOLDER/current -> FOLDER/12/   a link, replaced in one step; 12 is the registry's number
    FOLDER/12/                     mosquitto.conf, ca.pem, broker.pem, broker-key.pem (0600)
    FOLDER/access/                 acl (0600), crl.pem: who may use it. A gateway beside the broker renews these two
                                   when a node comes or goes (gateway/access.py), each in one step, then SIGHUP

A configuration that mosquitto itself does not start with never becomes `current`. The broker is 2.0.11 (Debian 12) or
newer: nothing here needs a plugin. It knows no keys but those it is given, and starts no broker that stays.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from host_tools.errors import HostError, InputError
from host_tools.keys.sealed import make_folder, sync_folder, write_file

CURRENT = "current"
ACCESS = "access"
TRY_S = 10.0
_KEPT = 3  # former configurations

_CONF = """\
# {who}. Made from the fleet's registry; a change here is lost at the next one.
# One listener, and it is TLS: who shows no certificate of this fleet's authority is not even asked for a name.
listener {port} {host}
cafile {folder}/ca.pem
certfile {folder}/broker.pem
keyfile {folder}/broker-key.pem
crlfile {access}/crl.pem
require_certificate true
# The oldest version taken (mosquitto.conf(5)): 1.2 and 1.3.
tls_version tlsv1.2
ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305

# A client is who its certificate says, also as client id: otherwise any of the fleet could take over another's session.
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {access}/acl

# Bounds. The largest packet is the gateway's list of who may use the broker.
max_connections {connections}
max_packet_size 70000
max_inflight_messages 20
max_queued_messages 1000
max_queued_bytes 4000000
max_keepalive 3600
set_tcp_nodelay true
persistence {persistence}
"""


@dataclass(frozen=True)
class BrokerFiles:
    """What a configuration is made of. user: whom mosquitto becomes when root starts it, None: its own default."""

    who: str
    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes
    crl_pem: bytes
    acl: str
    host: str = "0.0.0.0"
    port: int = 8883
    connections_max: int = 1000
    persistence_folder: Path | None = None
    user: str | None = None
    pid_file: Path | None = None


class BrokerRefused(HostError):
    """mosquitto does not start with a configuration; the text has its own words."""


def install(folder: Path, number: int, files: BrokerFiles, program: str) -> Path:
    """Write configuration `number` below `folder`, try it, and make it `current`. Returns the path of `current`'s conf.

    program: path of mosquitto. Raises BrokerRefused, and the former configuration stays; InputError for an old number.
    """
    folder = folder.absolute()
    make_folder(folder)
    present = _present(folder)
    if present is not None and number < present:
        raise InputError(f"{folder}: holds configuration {present}, which is newer than {number}")
    made = folder / str(number)
    trial = folder / f".{number}.new"
    shutil.rmtree(trial, ignore_errors=True)
    try:
        write_access(trial / ACCESS, files.acl, files.crl_pem)
        _write(trial, trial, trial / ACCESS, files, *_trial_address())
        _try(trial / "mosquitto.conf", program)
        shutil.rmtree(trial)
        _write(trial, folder / CURRENT, folder / ACCESS, files, files.host, files.port)
        write_access(folder / ACCESS, files.acl, files.crl_pem)
    except (HostError, OSError):
        shutil.rmtree(trial, ignore_errors=True)
        raise
    if made.exists():
        made = folder / f"{number}.{time.time_ns():x}"
    trial.rename(made)
    link = folder / f".{CURRENT}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(made.name)
    os.replace(link, folder / CURRENT)
    sync_folder(folder)
    _tidy(folder, made.name)
    return folder / CURRENT / "mosquitto.conf"


def write_access(folder: Path, acl: str, crl_pem: bytes) -> None:
    """Who may use the broker. The revoked first: between the two writes nobody has more than before."""
    write_file(folder / "crl.pem", crl_pem, 0o644, replace=True)
    write_file(folder / "acl", acl.encode("ascii"), 0o600, replace=True)


def _write(into: Path, named: Path, access: Path, files: BrokerFiles, host: str, port: int) -> None:
    """The configuration and its keys into one folder, to be found under another name."""
    conf = _CONF.format(
        who=files.who,
        host=host,
        port=port,
        folder=named,
        access=access,
        connections=files.connections_max,
        persistence="false" if files.persistence_folder is None else "true",
    )
    if files.persistence_folder is not None:
        conf += f"persistence_location {files.persistence_folder}/\nautosave_interval 60\n"
    if files.user is not None:
        conf += f"user {files.user}\n"
    if files.pid_file is not None and into != named:  # not in a trial, which may run beside the one in force
        conf += f"pid_file {files.pid_file}\n"
    write_file(into / "mosquitto.conf", conf.encode(), 0o644)
    write_file(into / "ca.pem", files.ca_pem, 0o644)
    write_file(into / "broker.pem", files.certificate_pem, 0o644)
    write_file(into / "broker-key.pem", files.key_pem, 0o600)


def _trial_address() -> tuple[str, int]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1", probe.getsockname()[1]


def _try(conf: Path, program: str) -> None:
    """Start mosquitto with it on loopback until it shows its certificate, then stop it."""
    port = int(next(line.split()[1] for line in conf.read_text().splitlines() if line.startswith("listener ")))
    tls = ssl.create_default_context(cafile=str(conf.with_name("ca.pem")))
    tls.check_hostname = False  # tried on loopback, whatever its name
    log = conf.with_name("trial.log")
    with log.open("wb") as out:
        process = subprocess.Popen([program, "-c", str(conf)], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        deadline_s = time.monotonic() + TRY_S
        while time.monotonic() < deadline_s and process.poll() is None:
            try:
                with (
                    socket.create_connection(("127.0.0.1", port), timeout=TRY_S) as raw,
                    tls.wrap_socket(raw, server_hostname="127.0.0.1"),
                ):
                    return
            except ssl.SSLCertVerificationError as error:
                text = f"the broker's certificate is not this authority's: {error.verify_message}"
                raise BrokerRefused(text) from None
            except OSError:  # not yet, or never: its end and the deadline tell
                time.sleep(0.02)
        said = [line for line in log.read_text(errors="replace").splitlines() if "rror" in line]
        raise BrokerRefused(f"mosquitto does not start with the new configuration: {(said or ['it said nothing'])[-1]}")
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        log.unlink()


def _present(folder: Path) -> int | None:
    try:
        return int(os.readlink(folder / CURRENT).partition(".")[0])
    except (OSError, ValueError):
        return None


def _tidy(folder: Path, in_use: str) -> None:
    """Keep the last few; a key of former certificates need not lie about."""
    former = [path for path in folder.iterdir() if path.name[0].isdigit() and path.name != in_use]
    for path in sorted(former, key=lambda path: path.stat().st_mtime)[: -_KEPT + 1]:
        shutil.rmtree(path)
