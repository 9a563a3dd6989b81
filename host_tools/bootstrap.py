#!/usr/bin/env python3
"""Set Isotherm up on a bare machine: `python3 host_tools/bootstrap.py [host|cloud|test]`.

This file only finds a fit Python and hands over to `host_tools/setup/`; it must stay readable to any Python 3, so that
an old one gets a sentence and not a syntax error. Nothing here or in `host_tools/setup/` needs more than the standard
library. `host` installs what `make demo` runs, `cloud` the lake besides, `test` what `make test` runs besides that.

Exit codes:
    0    everything is in place
    1    a step failed in a way that none of the following names; the log is .tools/setup.log
    2    wrong arguments
    3    no Python 3.11 to 3.13 found
    4    the network, or a mirror behind it, does not answer; run the same command again later
    5    the disk is nearly full
    6    something is missing that only the system's package manager can bring; the message names the command
    7    something fetched is not what its pinned hash says
    8    a folder that set-up must write is not writable
    130  interrupted; nothing is half made, run the same command again
"""

import os
import shutil
import sys
from pathlib import Path

if False:  # for the type checker only: annotations stay strings, which any Python 3 accepts
    from collections.abc import Callable

OLDEST = (3, 11)
NEWEST = (3, 13)
NO_PYTHON = 3


def fits(version: "tuple[int, ...]") -> bool:
    """Whether a (major, minor) version is one that the locks were resolved for."""
    return OLDEST <= version[:2] <= NEWEST


def other_python(which: "Callable[[str], str | None]" = shutil.which) -> "str | None":
    """Path of a fit `python3.x` on PATH, the newest first, or None."""
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = which(f"python3.{minor}")
        if found:
            return found
    return None


def refusal(version: "tuple[int, ...]") -> str:
    """The one sentence for a machine that has no fit Python."""
    return (
        f"isotherm: Python {version[0]}.{version[1]} was found, but Isotherm needs 3.11, 3.12 or 3.13: install one "
        "(Debian 12 and newer: `sudo apt install python3 python3-venv`; otherwise python.org or pyenv), "
        "then run the same command again with PYTHON=python3.12 or whatever its name is."
    )


def main(argv: "list[str]") -> int:
    """Hand over to the set-up proper, under a Python that fits."""
    if not fits(sys.version_info[:2]):
        found = other_python()
        if found and not os.environ.get("ISOTHERM_BOOTSTRAP_PYTHON"):
            os.environ["ISOTHERM_BOOTSTRAP_PYTHON"] = found  # once only: a wrapper that lies must not loop
            os.execv(found, [found, os.path.abspath(__file__), *argv])
        sys.stderr.write(refusal(sys.version_info[:2]) + "\n")
        return NO_PYTHON
    root = str(Path(__file__).resolve().parents[1])
    if root not in sys.path:
        sys.path.insert(0, root)
    from host_tools.setup.plan import main as run

    return run(argv, root)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
