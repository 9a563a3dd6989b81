"""Step 4: umqtt.simple, the MQTT client that boards carry, into `.tools/umqtt/umqtt/simple.py`.

Its source archive has no setup.py, so `pip download` finds it and then fails on its metadata. pip is therefore asked
only where the archive is, through whatever index, mirror and proxy the user configured; the archive is fetched from
there, and both it and the one file taken out of it must have their pinned hashes.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import ssl
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from host_tools.setup.errors import IntegrityError, NetworkError, SetupError
from host_tools.setup.runner import Runner, tells_of_network

NAME = "micropython-umqtt.simple"
VERSION = "1.3.4"  # the last release; micropython-lib's newer API is served as well
ARCHIVE_SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"
MEMBER = f"{NAME}-{VERSION}/umqtt/simple.py"
MEMBER_SHA256 = "8555d2f654deb8eb0d724f79b0811a78cc94029d070f3d96bbd74288653d63a5"
ARCHIVE_BYTES_MAX = 100_000
MEMBER_BYTES_MAX = 50_000
PIP_TIMEOUT_S = 300.0
FETCH_TIMEOUT_S = 60.0
AGAIN = "check the network, the proxy and `pip config list`, then run the same command again."


class Umqtt:
    """Sees to it that the one file is there, with the pinned content."""

    name = "umqtt.simple"

    def __init__(self, tools: Path, python: Path) -> None:
        self._package = tools / "umqtt"
        self._file = self._package / "umqtt" / "simple.py"
        self._tools = tools
        self._python = python

    def ready(self) -> bool:
        """Whether the file is present and unaltered."""
        try:
            return hashlib.sha256(self._file.read_bytes()).hexdigest() == MEMBER_SHA256
        except OSError:
            return False

    def install(self, runner: Runner, note: Callable[[str], None]) -> str:
        """Ask pip for the address, fetch, check, and put the file in place in one rename."""
        note("asking pip for its address")
        address = self._address(runner)
        note("fetching")
        archive = fetch(address, self._opener(runner))
        source = extract(archive)
        scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=self._tools))
        try:
            (scratch / "umqtt").mkdir()
            (scratch / "umqtt" / "simple.py").write_bytes(source)
            (scratch / "umqtt" / "__init__.py").write_bytes(b"")
            scratch.chmod(0o755)
            shutil.rmtree(self._package, ignore_errors=True)
            scratch.rename(self._package)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return f"{VERSION}, SHA-256 as pinned"

    def _address(self, runner: Runner) -> str:
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=self._tools) as folder:
            command = [str(self._python), "-m", "pip", "download", "-vvv", "--no-deps", "--no-binary", ":all:"]
            command += ["--no-build-isolation", "--no-cache-dir", "--retries", "2", "-d", folder, f"{NAME}=={VERSION}"]
            environment = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_NO_COLOR": "1"}
            output = runner.run(command, timeout_s=PIP_TIMEOUT_S, environment=environment, keep_all=True)
        for line in output.lines:
            match = re.search(r"Found link (\S+).*, version: (\S+)$", line)
            if match and match[2] == VERSION:
                return match[1].split("#")[0]
        if tells_of_network(output.text):
            raise NetworkError(f"pip cannot reach its package index for {NAME}: {AGAIN}")
        raise SetupError(
            f"pip's index has no source archive of {NAME} {VERSION}: add an index that has it (`pip config set "
            "global.extra-index-url ...`), or see .tools/setup.log."
        )

    def _opener(self, runner: Runner) -> urllib.request.OpenerDirector:
        """An opener with the certificate bundle and proxy that pip is configured with."""
        settings = {}
        for key in ("cert", "proxy"):
            command = [str(self._python), "-m", "pip", "config", "get", f"global.{key}"]
            output = runner.run(command, timeout_s=60.0)
            configured = output.lines[-1] if output.code == 0 and output.lines else ""
            settings[key] = (os.environ.get(f"PIP_{key.upper()}") or configured).strip()
        context = ssl.create_default_context(cafile=settings["cert"] or None)
        handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
        if settings["proxy"]:
            handlers.append(urllib.request.ProxyHandler({"http": settings["proxy"], "https": settings["proxy"]}))
        return urllib.request.build_opener(*handlers)


def fetch(address: str, opener: urllib.request.OpenerDirector) -> bytes:
    """The archive's bytes, bounded, with the pinned hash."""
    try:
        with opener.open(address, timeout=FETCH_TIMEOUT_S) as reply:
            archive: bytes = reply.read(ARCHIVE_BYTES_MAX + 1)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise NetworkError(f"{NAME} {VERSION} cannot be fetched ({reason}): {AGAIN}") from error
    if hashlib.sha256(archive).hexdigest() != ARCHIVE_SHA256:
        raise IntegrityError(
            f"the archive of {NAME} {VERSION} does not have the pinned SHA-256 and was not unpacked: a proxy or mirror "
            "altered it; use another network or index."
        )
    return archive


def extract(archive: bytes) -> bytes:
    """The one file that is used; whatever else the archive holds is never written anywhere."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        member = tar.extractfile(MEMBER)
        if member is None:
            raise IntegrityError(f"the archive of {NAME} {VERSION} holds no file {MEMBER}.")
        source = member.read(MEMBER_BYTES_MAX)
    if hashlib.sha256(source).hexdigest() != MEMBER_SHA256:
        raise IntegrityError(f"{MEMBER} does not have the pinned SHA-256.")
    return source
