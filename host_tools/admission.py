"""What a node that the fleet took in is given, in the form it needs: a board's files, a broker's configuration.

    board   /certs/ca.der cert.der key.der   who it is, and whose word it takes
            /certs/reading.key               what it tags its readings with, where it does
            /model-keys.isos                 the signed list of model keys; the firmware takes it in at its first start
            config.json                      fleet, root_key, gateway.tls

Nothing here writes to a disk: a board's key goes from memory over the cable, and stays on no host.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host_tools.broker import BrokerFiles
from host_tools.keys.fleet import Bundle, Fleet
from isocore import access

TLS_PORT = 8883
CERTIFICATES = "/certs"
KEY_LIST = "/model-keys.isos"
READING_KEY = f"{CERTIFICATES}/reading.key"
PATHS = {part: f"{CERTIFICATES}/{part}.der" for part in ("ca", "cert", "key")}


def board_files(given: Bundle) -> dict[str, bytes]:
    """Flash path and content of what a board keeps."""
    files = {
        PATHS["ca"]: given.ca_der,
        PATHS["cert"]: given.identity.certificate_der,
        PATHS["key"]: given.identity.key_der,
        KEY_LIST: given.key_list,
    }
    return files if given.reading_key is None else files | {READING_KEY: given.reading_key}


def board_config(config: Mapping[str, Any], fleet: Fleet, name: str | None = None) -> dict[str, Any]:
    """A board's configuration as a member of the fleet. name: the broker's in its certificate; else as the
    configuration has it in gateway.tls.host, or gateway.host."""
    gateway = dict(config["gateway"])
    named = name or dict(gateway.get("tls") or {}).get("host")
    gateway["tls"] = {**PATHS, **({"host": named} if named else {})}
    gateway.setdefault("port", TLS_PORT)
    made = {**config, "fleet": fleet.name, "gateway": gateway, "root_key": fleet.root_key.hex()}
    made.pop("model_keys", None)
    if tags(config):
        made["reading_key"] = READING_KEY
    return made


def tags(config: Mapping[str, Any]) -> bool:
    """Whether a board of this configuration tags its readings: its `reading_key` names a file, whichever."""
    return "reading_key" in config


def broker_files(
    fleet: Fleet,
    certificate_pem: bytes,
    key_pem: bytes,
    *,
    host: str = "0.0.0.0",
    port: int = TLS_PORT,
    connections_max: int = 1000,
    persistence_folder: Path | None = None,
    user: str | None = None,
    pid_file: Path | None = None,
) -> BrokerFiles:
    """What a broker's configuration is made of, as the registry says at this moment."""
    nodes = [(node.name, node.role) for node in fleet.registry.active(*access.ROLES)]
    return BrokerFiles(
        who=f"Fleet {fleet.name}, list {fleet.registry.number}",
        ca_pem=(fleet.folder / "ca.pem").read_bytes(),
        certificate_pem=certificate_pem,
        key_pem=key_pem,
        crl_pem=fleet.revocations(),
        acl=access.acl(nodes),
        host=host,
        port=port,
        connections_max=connections_max,
        persistence_folder=persistence_folder,
        user=user,
        pid_file=pid_file,
    )
