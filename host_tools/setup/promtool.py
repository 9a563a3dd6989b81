"""Step 5, for tests only: Prometheus's own judge of metrics and alert rules, into `.tools/promtool/promtool`.

Taken out of Debian's `prometheus` package, which apt checks; nothing is installed and no service started. A promtool on
PATH serves as well, and PROMTOOL names another. Where none can be had the tests that need it say so and are skipped.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from host_tools.setup import apt
from host_tools.setup.errors import MissingError, SetupError
from host_tools.setup.runner import Runner

RELEASE = "bookworm"  # Debian 12: Prometheus 2.42; needs glibc 2.34, which every supported system has
RECIPE = f"1 {RELEASE} prometheus"
NATIVE = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf", "i686": "i386"}  # machine: Debian's port
PROBE_TIMEOUT_S = 20.0


def find_promtool(tools: Path, environment: Mapping[str, str]) -> str | None:
    """The command to run, or None."""
    private = tools / "promtool" / "promtool"
    return environment.get("PROMTOOL") or shutil.which("promtool") or (str(private) if private.exists() else None)


class Promtool:
    """Sees to it that the alert rules can be judged."""

    name = "promtool"

    def __init__(self, tools: Path, environment: Mapping[str, str]) -> None:
        self._tools = tools
        self._home = tools / "promtool"
        self._stamp = self._home / "recipe"
        self._environment = environment

    def ready(self) -> bool:
        """Whether there is one, or this machine was found to have none for good."""
        if self._environment.get("PROMTOOL") or shutil.which("promtool"):
            return True
        return self._stamp.is_file() and self._stamp.read_text(encoding="utf-8") == RECIPE

    def install(self, runner: Runner, note: Callable[[str], None]) -> str:
        """Unpack it. What cannot be is said and is no error: only some tests are skipped."""
        architecture = NATIVE.get(platform.machine())
        if architecture is None or not apt.available() or not apt.KEYRING.is_file():
            self._home.mkdir(exist_ok=True)
            self._stamp.write_text(RECIPE, encoding="utf-8")
            return "none: this is no Debian; tests of alert rules are skipped unless PROMTOOL names one"
        reason: SetupError = MissingError("no Debian mirror is configured in /etc/apt")
        for mirror in apt.mirrors():
            try:
                return self._unpack(runner, note, mirror, architecture)
            except SetupError as error:
                reason = error
        return f"NONE, tests of alert rules are skipped: {reason}"

    def _unpack(self, runner: Runner, note: Callable[[str], None], mirror: str, architecture: str) -> str:
        note(f"{RELEASE} package prometheus for {architecture}")
        scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=self._tools))
        try:
            tree = scratch / "tree"
            apt.unpack(runner, mirror, RELEASE, architecture, ("prometheus",), scratch / "apt", tree)
            made = scratch / "made"
            made.mkdir()
            (tree / "usr" / "bin" / "promtool").rename(made / "promtool")
            output = runner.run([str(made / "promtool"), "--version"], timeout_s=PROBE_TIMEOUT_S)
            if output.code != 0:
                raise MissingError("promtool of Debian 12 does not run here")
            (made / "recipe").write_text(RECIPE, encoding="utf-8")
            shutil.rmtree(self._home, ignore_errors=True)
            made.rename(self._home)
            return f"{output.lines[0].partition(',')[0].removeprefix('promtool, ')} of Debian 12, in .tools"
        except OSError as error:
            raise MissingError(f"the package prometheus of Debian 12 holds no promtool ({error})") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
