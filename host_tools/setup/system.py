"""Step 1: what only the system's package manager brings: mosquitto, and Python's venv module where it is split off.

Asked for together, so that whoever is not root reads one command and not two. Knows how to find and install the
broker, not how to configure it: whoever runs one brings the configuration. The service of the system's package is
neither started now nor at the next boot.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from host_tools.setup import apt
from host_tools.setup.errors import MissingError
from host_tools.setup.runner import Runner

PLACES = ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto")  # sbin is off users' PATH
BROKER_PACKAGES = ("mosquitto", "mosquitto-clients")
OLDEST = (2, 0)  # the configuration language of 2.x; Debian 11 and newer have it
HELP_TIMEOUT_S = 20.0
BROKER_INSTEAD = "install mosquitto 2.0 or newer with its package manager (Homebrew: `brew install mosquitto`)"
VENV_INSTEAD = "install a complete Python 3.11 to 3.13 (python.org or pyenv) and name it with PYTHON="


def find_mosquitto() -> str | None:
    """Path of the broker's program, or None. MOSQUITTO= names another than the system's."""
    found = os.environ.get("MOSQUITTO") or shutil.which("mosquitto")
    return found or next((place for place in PLACES if os.access(place, os.X_OK)), None)


def has_venv() -> bool:
    """Whether this Python can make a virtual environment with pip in it."""
    return all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip"))


class SystemPackages:
    """Sees to it that mosquitto is there and that `.venv` can be made."""

    name = "System packages"

    def __init__(self, python: Path) -> None:
        self._python = python

    def ready(self) -> bool:
        """Whether both are there; MissingError when the broker is too old to be of use."""
        found = find_mosquitto()
        if found is not None:
            broker_version(found)
        return found is not None and (self._python.exists() or has_venv())

    def install(self, runner: Runner, note: Callable[[str], None]) -> str:
        """Install what is missing with apt; start no service."""
        packages: list[str] = []
        purposes: list[str] = []
        instead: list[str] = []
        if find_mosquitto() is None:
            packages += BROKER_PACKAGES
            purposes.append("mosquitto (the MQTT broker)")
            instead.append(BROKER_INSTEAD)
        if not has_venv():
            packages.append(f"python3.{sys.version_info.minor}-venv")  # Debian splits it from python3
            purposes.append("Python's venv module")
            instead.append(VENV_INSTEAD)
        note("apt-get install " + " ".join(packages))
        apt.install(runner, packages, " and ".join(purposes), " and ".join(instead))
        found = find_mosquitto()
        if found is None:
            raise MissingError(f"mosquitto was installed but is in none of the usual folders: {BROKER_INSTEAD}.")
        if packages[0] in BROKER_PACKAGES:
            self._leave_service_off(runner)
        return f"{' '.join(packages)}; mosquitto {broker_version(found)}, its service left off"

    def _leave_service_off(self, runner: Runner) -> None:
        """Keep the package's own broker from taking port 1883 at the next boot; where there is no systemd, a no-op."""
        prefix = apt.root_prefix(runner)
        if prefix is not None and Path("/run/systemd/system").is_dir():
            runner.run([*prefix, "systemctl", "disable", "mosquitto.service"], timeout_s=60.0)


def broker_version(program: str) -> str:
    """The broker's version; MissingError when it is older than what Isotherm configures."""
    try:
        told = subprocess.run([program, "-h"], capture_output=True, text=True, timeout=HELP_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"{program} does not run ({error}): {BROKER_INSTEAD}.") from error
    version = re.search(r"version (\d+)\.(\d+)\S*", told.stdout)
    if version is None or (int(version[1]), int(version[2])) < OLDEST:
        raise MissingError(f"{program} is older than 2.0: {BROKER_INSTEAD}.")
    return version[0].removeprefix("version ")
