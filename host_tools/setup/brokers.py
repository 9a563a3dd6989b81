"""Newer brokers beside the system's, for tests only: `make brokers` unpacks them, MOSQUITTO=PATH chooses one.

    .tools/mosquitto-trixie/mosquitto   Debian 13: 2.0.21 when this was written
    .tools/mosquitto-sid/mosquitto      Debian unstable: 2.1.2

Taken out of Debian's packages, which apt checks; nothing is installed and no service started. They need a newer C
library than the system may have, so each brings its own and is started by that one's loader (ld.so(8)).
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from host_tools.setup import apt
from host_tools.setup.errors import MissingError, SetupError
from host_tools.setup.promtool import NATIVE
from host_tools.setup.runner import Runner
from host_tools.setup.system import broker_version

_COMMON = (
    *("mosquitto", "libc6", "libssl3t64", "libcjson1", "libwrap0", "libsystemd0", "libcap2", "libzstd1", "zlib1g"),
    *("libnsl2", "libtirpc3t64", "libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libcom-err2", "libkrb5support0"),
    *("libkeyutils1", "libgcc-s1", "libstdc++6"),
)
RELEASES: Mapping[str, tuple[str, ...]] = {
    "trixie": (*_COMMON, "libdlt2", "libwebsockets19t64", "libuv1t64", "libev4t64", "libgcrypt20", "libgpg-error0"),
    "sid": (
        *(
            *_COMMON,
            "libdlt3",
            "libmicrohttpd12t64",
            "libpicohttpparser1",
            "libsqlite3-0",
            "libedit2",
            "libgnutls30t64",
        ),
        *("libp11-kit0", "libidn2-0", "libunistring5", "libtasn1-6", "libnettle8t64", "libhogweed6t64", "libgmp10"),
        *("libgnutls30t64", "libffi8", "libbrotli1", "libtinfo6", "libbsd0", "libmd0"),
    ),
}
_LOADERS = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}
_FOLDERS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}


def unpack(tools: Path, release: str) -> str:
    """The broker of a Debian release below `tools`. Returns its version. Raises SetupError."""
    architecture = NATIVE.get(platform.machine(), "")
    if architecture not in _LOADERS or not apt.available() or not apt.KEYRING.is_file():
        raise MissingError("newer brokers are taken from Debian's packages, on 64-bit x86 or ARM only")
    reason: SetupError = MissingError("no Debian mirror is configured in /etc/apt")
    for mirror in apt.mirrors():
        try:
            return _from(mirror, tools, release, architecture)
        except SetupError as error:
            reason = error
    raise reason


def _from(mirror: str, tools: Path, release: str, architecture: str) -> str:
    home = tools / f"mosquitto-{release}"
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=tools))
    runner = Runner(tools / "setup.log", os.environ, lambda: None)
    try:
        tree = scratch / "tree"
        apt.unpack(runner, mirror, release, architecture, RELEASES[release], scratch / "apt", tree)
        libraries, loader = f"usr/lib/{_FOLDERS[architecture]}", _LOADERS[architecture]
        _name_libraries(tree / libraries)
        start = tree / "mosquitto"
        start.write_text(
            '#!/bin/sh\nhome=$(dirname "$(readlink -f "$0")")\n'
            f'exec "$home/{libraries}/{loader}" --library-path "$home/{libraries}" "$home/usr/sbin/mosquitto" "$@"\n'
        )
        start.chmod(0o755)
        version = broker_version(str(start))
        shutil.rmtree(home, ignore_errors=True)
        tree.rename(home)
        return version
    except OSError as error:
        raise MissingError(f"Debian {release}'s package mosquitto cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _name_libraries(folder: Path) -> None:
    """libx.so.1 beside libx.so.1.2 where a package leaves that link to ldconfig(8)."""
    for library in sorted(folder.glob("lib*.so.*.*")):
        name, _, version = library.name.partition(".so.")
        link = folder / f"{name}.so.{version.partition('.')[0]}"
        if not link.exists():
            link.symlink_to(library.name)


def main() -> int:
    """Unpack both; say what came and how it is used."""
    tools = Path(__file__).resolve().parents[2] / ".tools"
    failed = 0
    for release in RELEASES:
        try:
            version = unpack(tools, release)
        except SetupError as error:
            print(f"mosquitto of Debian {release}: {error}", file=sys.stderr)
            failed = 1
            continue
        print(f"mosquitto {version}: MOSQUITTO={tools / f'mosquitto-{release}' / 'mosquitto'}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
