"""Debian's package manager: install a system package, or unpack foreign ones into a private folder.

The private way uses lists, status and cache of its own: apt checks signatures and hashes as always, and nothing of the
system changes. The mirror is one that the machine already uses, so no host is named here.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from host_tools.setup.errors import MissingError, NetworkError, SetupError
from host_tools.setup.runner import Output, Runner, tells_of_network

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")  # package debian-archive-keyring
APT_TIMEOUT_S = 600.0
SUDO_TIMEOUT_S = 10.0

# invoke-rc.d(8) and deb-systemd-invoke(1) ask policy-rc.d before they start a service; 101 forbids it. The broker that
# a package brings must not take port 1883 from anyone: Isotherm starts its own, on its own ports.
INSTALL_SCRIPT = """
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\\nexit 101\\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
if ! ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; then apt-get update || true; fi
get() { apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120 "$@"; }
get "$@" || { apt-get update || true; get "$@"; }
"""


def available() -> bool:
    """Whether this machine has apt."""
    return shutil.which("apt-get") is not None


def root_prefix(runner: Runner) -> list[str] | None:
    """What to put before a command to run it as root without a question, or None."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and runner.run(["sudo", "-n", "true"], timeout_s=SUDO_TIMEOUT_S).code == 0:
        return ["sudo", "-n"]
    return None


def install(runner: Runner, packages: Sequence[str], purpose: str, otherwise: str) -> None:
    """Install system packages without a question, or say in one sentence who must do it."""
    names = " ".join(packages)
    if not available():
        raise MissingError(f"missing here, and no apt to bring it: {purpose}; {otherwise}, then run this again.")
    prefix = root_prefix(runner)
    if prefix is None:
        raise MissingError(f"missing here: {purpose}; run `sudo apt-get install {names}`, then the same command again.")
    output = runner.run([*prefix, "sh", "-c", INSTALL_SCRIPT, "sh", *packages], timeout_s=APT_TIMEOUT_S)
    if output.code == 0:
        return
    if tells_of_network(output.text):
        raise NetworkError(
            f"apt-get cannot reach the system's package mirror for {names} ({_reason(output)}): "
            "check the network, then run the same command again."
        )
    raise MissingError(f"apt-get could not install {names} ({_reason(output)}): run `sudo apt-get install {names}`.")


def mirrors(etc_apt: Path = Path("/etc/apt")) -> list[str]:
    """URIs of the Debian mirrors this machine is configured for, the surest first."""
    sure: list[str] = []
    likely: list[str] = []
    for uri, suites, components, signed_by in _entries(etc_apt):
        if "main" not in components or all("security" in suite or suite.endswith("/") for suite in suites):
            continue
        if not signed_by:
            likely.append(uri)
        elif KEYRING.name in signed_by:
            sure.append(uri)
    return list(dict.fromkeys(sure + likely))


def _entries(etc_apt: Path) -> Iterator[tuple[str, list[str], list[str], str]]:
    """Each enabled source as (uri, suites, components, signed-by), from both of sources.list(5)'s forms."""
    lists = [etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*.list"))]
    for path in lists:
        if path.is_file():
            yield from _one_line_form(path.read_text(errors="replace"))
    for path in sorted((etc_apt / "sources.list.d").glob("*.sources")):
        yield from _paragraph_form(path.read_text(errors="replace"))


def _one_line_form(text: str) -> Iterator[tuple[str, list[str], list[str], str]]:
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match:
            options, uri, suite, components = match.groups()
            signed_by = re.search(r"signed-by=(\S+)", options or "", re.IGNORECASE)
            yield uri, [suite], components.split(), signed_by.group(1) if signed_by else ""


def _paragraph_form(text: str) -> Iterator[tuple[str, list[str], list[str], str]]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line[:1].isspace():
                fields[name] = fields.get(name, "") + " " + line.strip()
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        suites, components = fields.get("suites", "").split(), fields.get("components", "").split()
        for uri in fields.get("uris", "").split():
            yield uri, suites, components, fields.get("signed-by", "")


def unpack(
    runner: Runner, mirror: str, release: str, architecture: str, packages: Sequence[str], build: Path, target: Path
) -> None:
    """Fetch packages of another architecture, checked by apt, and unpack them under `target`; `build` is scratch."""
    environment = {"APT_CONFIG": str(_private_configuration(runner, mirror, release, architecture, build))}
    for arguments in (["update"], ["download", *packages]):
        output = runner.run(
            ["apt-get", *arguments], timeout_s=APT_TIMEOUT_S, environment=environment, folder=build / "archives"
        )
        if output.code != 0:
            if tells_of_network(output.text):
                raise NetworkError(f"apt-get cannot reach the mirror {_without_password(mirror)} ({_reason(output)})")
            raise SetupError(f"apt-get cannot use the mirror {_without_password(mirror)} ({_reason(output)})")
    target.mkdir(parents=True, exist_ok=True)
    for package in sorted((build / "archives").glob("*.deb")):
        output = runner.run(["dpkg-deb", "-x", str(package), str(target)], timeout_s=APT_TIMEOUT_S)
        if output.code != 0:
            raise SetupError(f"dpkg-deb cannot unpack {package.name} ({_reason(output)})")


def _private_configuration(runner: Runner, mirror: str, release: str, architecture: str, build: Path) -> Path:
    """Write an apt.conf(5) that points every folder into `build`, and keeps only the system's way to the network."""
    for folder in ("lists/partial", "cache/archives/partial", "archives", "none"):
        (build / folder).mkdir(parents=True, exist_ok=True)
    (build / "status").touch()
    (build / "sources.list").write_text(
        f"deb [arch={architecture} signed-by={KEYRING}] {mirror} {release} main\n", encoding="utf-8"
    )
    dump = runner.run(["apt-config", "dump"], timeout_s=60.0, keep_all=True)
    network = [line for line in dump.lines if re.match(r"Acquire::(?!IndexTargets|Languages|Allow)\S+ \"", line)]
    own = {
        "Dir::State": f"{build}/",
        "Dir::State::status": f"{build}/status",
        "Dir::State::Lists": f"{build}/lists/",
        "Dir::Cache": f"{build}/cache/",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": f"{build}/none/",  # no hooks of the system run
        "Dir::Etc::sourcelist": f"{build}/sources.list",
        "Dir::Etc::sourceparts": f"{build}/none/",
        "Dir::Etc::preferencesparts": f"{build}/none/",
        "Dir::Etc::preferences": "/dev/null",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
    }
    if os.geteuid() == 0:
        own["APT::Sandbox::User"] = "root"  # the sandbox user cannot write into a private folder
    path = build / "apt.conf"
    path.touch(mode=0o600)  # a proxy's password may stand among the network settings
    path.write_text("\n".join(network + [f'{name} "{value}";' for name, value in own.items()]) + "\n", encoding="utf-8")
    return path


def _reason(output: Output) -> str:
    """The first error apt names, short enough for a sentence."""
    for line in output.lines:
        if line.startswith("E:"):
            return line.split(":", 1)[1].strip()[:160]
    return (output.lines[-1][:160] if output.lines else "") or f"exit code {output.code}"


def _without_password(uri: str) -> str:
    """The URI as it may stand in a message."""
    return re.sub(r"//[^/@]*@", "//", uri)
