"""`make install` and `make uninstall`: the gateway's files into a system, or below DESTDIR for a package.

Standard library only. The program goes to PREFIX/lib/isotherm with its locked dependencies, past any site-packages.
Configuration and data that exist are never touched, by neither command.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
SYSTEM = SOURCE / "gateway" / "system"
UNIT = "isotherm-gateway.service"
OLDEST = (3, 11)
_LAUNCHER = """#!{python} -I
import sys

sys.path.insert(0, {library!r})

from gateway.cli import main

main()
"""


class Refused(Exception):
    """One sentence for the user."""


class Layout:
    """Where things go: as programs will see it (`seen`), and where they are put (`put`, below DESTDIR)."""

    def __init__(self, prefix: Path, sysconfdir: Path, destdir: str) -> None:
        for name, path in (("PREFIX", prefix), ("SYSCONFDIR", sysconfdir)):
            if not path.is_absolute():
                raise Refused(f"{name} is {path}: it must be an absolute path")
        self.destdir = destdir
        self.bindir = prefix / "bin"
        self.launcher = self.bindir / "isotherm-gateway"
        self.library = prefix / "lib" / "isotherm"
        self.unit = prefix / "lib" / "systemd" / "system" / UNIT
        self.sysusers = prefix / "lib" / "sysusers.d" / "isotherm-gateway.conf"
        self.docs = prefix / "share" / "doc" / "isotherm"
        self.rules = prefix / "share" / "isotherm" / "prometheus"
        self.sysconfdir = sysconfdir
        self.config = sysconfdir / "isotherm" / "gateway.toml"

    def filled(self, template: Path) -> str:
        """A file's text with @BINDIR@, @SYSCONFDIR@ and @DOCDIR@ filled in."""
        text = template.read_text(encoding="utf-8")
        for mark, path in (("BINDIR", self.bindir), ("SYSCONFDIR", self.sysconfdir), ("DOCDIR", self.docs)):
            text = text.replace(f"@{mark}@", str(path))
        return text

    def put(self, path: Path) -> Path:
        return Path(self.destdir + str(path)) if self.destdir else path


def install(layout: Layout, dependencies: bool, pi: bool = False) -> None:
    """Put everything in its place; run again it upgrades. `pi`: with what a Raspberry Pi's own pins need."""
    if sys.version_info < OLDEST:
        raise Refused(f"Python is {sys.version.split()[0]}, the gateway needs {OLDEST[0]}.{OLDEST[1]}: give PYTHON=")
    library = layout.put(layout.library)
    fresh = library.with_name(library.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    if dependencies:
        _pip(fresh, SOURCE / "gateway" / ("requirements-pi.lock" if pi else "requirements.lock"))
    ignore = shutil.ignore_patterns("__pycache__", "system")
    shutil.copytree(SOURCE / "gateway", fresh / "gateway", ignore=ignore)
    shutil.copytree(SOURCE / "firmware" / "isocore", fresh / "isocore", ignore=ignore)
    shutil.rmtree(library, ignore_errors=True)
    fresh.rename(library)
    # The service cannot write beside its code: compiled here, or at every start.
    compileall.compile_dir(library, quiet=1, stripdir=layout.destdir or None, force=True)
    launcher = _LAUNCHER.format(python=_interpreter(dependencies), library=str(layout.library))
    _write(layout.put(layout.launcher), launcher, 0o755)
    _write(layout.put(layout.unit), layout.filled(SYSTEM / f"{UNIT}.in"))
    _write(layout.put(layout.docs / "pins.conf"), layout.filled(SYSTEM / "pins.conf"))
    _copy(SYSTEM / "isotherm-gateway.sysusers", layout.put(layout.sysusers))
    _copy(SYSTEM / "gateway.toml", layout.put(layout.docs / "gateway.toml.example"))
    for page in ("gateway.md", "alarms.md", "windows.md", "third-party.md", "uplink.md"):
        _copy(SOURCE / "docs" / page, layout.put(layout.docs / page))
    for rules in sorted(SYSTEM.glob("*.rules.yml")):
        _copy(rules, layout.put(layout.rules / rules.name))
    if not layout.put(layout.config).exists():
        _copy(SYSTEM / "gateway.toml", layout.put(layout.config))


def uninstall(layout: Layout) -> None:
    """Take away what `install` put; configuration, readings and the user stay."""
    shutil.rmtree(layout.put(layout.library), ignore_errors=True)
    for path in (layout.docs, layout.rules):
        shutil.rmtree(layout.put(path), ignore_errors=True)
    for path in (layout.launcher, layout.unit, layout.sysusers):
        layout.put(path).unlink(missing_ok=True)


def _interpreter(dependencies: bool) -> str:
    """What runs the gateway: never a virtual environment, unless that is where its packages come from."""
    return str(getattr(sys, "_base_executable", sys.executable)) if dependencies else sys.executable


def _hidden(python: str) -> str:
    """A warning about an interpreter that the unit's sandbox (ProtectHome=) hides; empty when there is none."""
    if not Path(python).is_relative_to(Path.home()):
        return ""
    return f"\nThe service cannot see {python}, which lies in a home: install again with PYTHON=/usr/bin/python3"


def on_pi(model: Path = Path("/proc/device-tree/model"), machine: str = platform.machine()) -> bool:
    """True on a 64-bit Raspberry Pi. A 32-bit one has wheels only from elsewhere, which no lock of hashes can name."""
    try:
        return machine == "aarch64" and model.read_text(encoding="utf-8").startswith("Raspberry Pi")
    except (OSError, UnicodeDecodeError):
        return False


def _pip(target: Path, lock: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--target", str(target), "--requirement", str(lock)]
    if subprocess.run(command, check=False).returncode:
        raise Refused(
            f"pip could not install {lock.name}: check the network and that {sys.executable} has pip,"
            " or give DEPENDENCIES=no if its packages come from elsewhere"
        )


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _copy(source: Path, path: Path) -> None:
    _write(path, source.read_text(encoding="utf-8"))


def _tell_system(*commands: list[str]) -> None:
    """Tell the running system; one without systemd has nobody to tell."""
    for command in commands:
        if shutil.which(command[0]) and Path("/run/systemd/system").is_dir():
            subprocess.run(command, check=False)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 done, 1 refused."""
    parser = argparse.ArgumentParser(description="Install or uninstall the gateway.")
    parser.add_argument("what", choices=("install", "uninstall"))
    parser.add_argument("--prefix", type=Path, default=Path("/usr/local"))
    parser.add_argument("--sysconfdir", type=Path, default=Path("/etc"))
    parser.add_argument("--destdir", default="")
    parser.add_argument("--dependencies", choices=("yes", "no"), default="yes")
    parser.add_argument("--pi", choices=("auto", "yes", "no"), default="auto")
    options = parser.parse_args(arguments)
    os.umask(0o022)  # the service's user reads what root installs, and nobody but root changes it
    try:
        layout = Layout(options.prefix, options.sysconfdir, os.path.abspath(options.destdir) if options.destdir else "")
        if options.what == "install":
            pi = on_pi() if options.pi == "auto" else options.pi == "yes"
            install(layout, options.dependencies == "yes", pi)
            if not layout.destdir:
                _tell_system(["systemd-sysusers", str(layout.sysusers)], ["systemctl", "daemon-reload"])
            print(
                f"Installed. Edit {layout.config}, then: systemctl enable --now {UNIT}"
                + _hidden(_interpreter(options.dependencies == "yes"))
            )
        else:
            if not layout.destdir:
                _tell_system(["systemctl", "disable", "--now", UNIT])
            uninstall(layout)
            if not layout.destdir:
                _tell_system(["systemctl", "daemon-reload"])
            print(f"Uninstalled. Kept: {layout.config.parent}, /var/lib/isotherm, and the user isotherm")
    except Refused as exc:
        print(f"make {options.what}: {exc}", file=sys.stderr)
        return 1
    except OSError as exc:
        print(f"make {options.what}: {exc.filename}: {exc.strerror}; run as root, or give DESTDIR=", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
