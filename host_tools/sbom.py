"""The software bill of materials: CycloneDX 1.6 in JSON, made from the locks and from what set-up fetches.

    python3 host_tools/sbom.py [FILE]      default: isotherm-sbom.json

One document for the whole: each locked package once with its version, package URL and the digests that pip accepts;
which of the installations (gateway, Raspberry Pi, host, tests) have it; the MQTT client that boards carry, and the
programs that come from Debian, by package name without a version, which the distribution decides. Standard library
only. The same tree gives the same bytes: no time and no random number is in it.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = "isotherm-sbom.json"
LOCKS = {
    "gateway": "gateway/requirements.lock",
    "gateway on a Raspberry Pi": "gateway/requirements-pi.lock",
    "host": "host_tools/requirements.lock",
    "host with the lake": "host_tools/requirements-cloud.lock",
    "tests": "tests/requirements.lock",
}
DEBIAN = {"mosquitto": "the broker", "micropython": "virtual boards", "prometheus": "promtool, for tests"}
_PINNED = re.compile(r"([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "isotherm")


def locked(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """(name, version, SHA-256 digests) of each package of a lock's text."""
    for entry in re.split(r"\n(?=[a-z0-9])", text):
        match = _PINNED.match(entry)
        if match:
            yield match[1], match[2], _HASH.findall(entry)


def document(root: Path = ROOT) -> dict[str, Any]:
    """The bill of materials of a tree. Raises OSError and ValueError where a lock is missing or holds nothing."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages: dict[tuple[str, str], tuple[set[str], list[str]]] = {}
    for use, name in LOCKS.items():
        found = list(locked((root / name).read_text(encoding="utf-8")))
        if not found:
            raise ValueError(f"{name} holds no package")
        for package, version, digests in found:
            uses, known = packages.setdefault((package, version), (set(), []))
            uses.add(use)
            known += [digest for digest in digests if digest not in known]
    components = [_package(*key, *packages[key]) for key in sorted(packages)]
    components.append(_umqtt(root))
    components += [_debian(name, purpose) for name, purpose in DEBIAN.items()]
    me = f"pkg:pypi/{project['name']}@{project['version']}"
    body = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                **{"type": "application", "bom-ref": me, "name": project["name"], "version": project["version"]},
                **{"description": project["description"], "purl": me},
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": me, "dependsOn": [component["bom-ref"] for component in components]}],
    }
    return body | {"serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, json.dumps(body, sort_keys=True))}"}


def _package(name: str, version: str, uses: set[str], digests: list[str]) -> dict[str, Any]:
    purl = f"pkg:pypi/{name.replace('_', '-')}@{version}"
    return {
        **{"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl},
        "scope": "excluded" if uses == {"tests"} else "required",
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in digests],
        "properties": [{"name": "isotherm:used-by", "value": use} for use in LOCKS if use in uses],
    }


def _umqtt(root: Path) -> dict[str, Any]:
    """What boards carry besides our own: named where set-up fetches it."""
    source = (root / "host_tools" / "setup" / "umqtt.py").read_text(encoding="utf-8")
    name, version, digest = (
        re.search(rf'^{word} = "([^"]+)"', source, re.MULTILINE)[1]  # type: ignore[index]
        for word in ("NAME", "VERSION", "ARCHIVE_SHA256")
    )
    purl = f"pkg:pypi/{name}@{version}"
    return {
        **{"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "scope": "required"},
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "properties": [{"name": "isotherm:used-by", "value": "boards"}],
    }


def _debian(name: str, purpose: str) -> dict[str, Any]:
    purl = f"pkg:deb/debian/{name}"
    return {
        **{"type": "application", "bom-ref": purl, "name": name, "purl": purl, "scope": "required"},
        "properties": [{"name": "isotherm:used-by", "value": purpose}],
    }


def main(arguments: list[str]) -> int:
    """Write the file. Exit code 0, or 1 with a sentence."""
    path = Path(arguments[0] if arguments else DEFAULT)
    try:
        made = document()
        path.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"make sbom: {error}", file=sys.stderr)
        return 1
    print(f"{path}: {len(made['components'])} components, CycloneDX {made['specVersion']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
