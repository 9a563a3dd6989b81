"""`make audit`: the locked packages against the public lists of known weaknesses, by pip-audit.

It runs in an environment of its own below .tools, and asks pip's own index what is known of each package. Exit codes: 0
nothing is known, 1 something is, 4 the audit could not be made, which is said as plainly: no answer is no good news.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP_AUDIT = "pip-audit==2.10.1"
LOCKS = ("gateway/requirements-pi.lock", "tests/requirements.lock")  # the others are parts of these
TIMEOUT_S = 600
CLEAN, KNOWN, NOT_MADE = 0, 1, 4


def main(home: Path = ROOT / ".tools" / "audit", arguments: tuple[str, ...] = ()) -> int:
    """Audit every lock. `arguments` go to pip-audit: another service, another time-out."""
    worst = CLEAN
    program = home / "bin" / "pip-audit"
    if not program.exists():
        venv.create(home, with_pip=True)
        command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", PIP_AUDIT]
        if subprocess.run(command, check=False).returncode:
            print(f"make audit: NOT MADE: {PIP_AUDIT} could not be installed", file=sys.stderr)
            return NOT_MADE
    for lock in LOCKS:
        worst = max(worst, audit(program, ROOT / lock, arguments))
    return worst


def audit(program: Path, lock: Path, arguments: tuple[str, ...] = ()) -> int:
    """One lock."""
    command = [str(program), "--requirement", str(lock), "--require-hashes", "--disable-pip", "--format", "json"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(
            [*command, "--progress-spinner", "off", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        packages = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{lock.name}: NOT AUDITED: {error}", file=sys.stderr)
        return NOT_MADE
    except (ValueError, KeyError, TypeError):
        said = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        print(f"{lock.name}: NOT AUDITED, its service gave no answer: {said[:300]}", file=sys.stderr)
        return NOT_MADE
    known = [(package, entry) for package in packages for entry in package.get("vulns", ())]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    for package, entry in known:
        mended = ", ".join(entry.get("fix_versions") or ["nothing yet"])
        print(f"{lock.name}: {package['name']} {package['version']}: {entry['id']}, mended in {mended}")
    print(f"{lock.name}: {len(packages) - len(skipped)} packages audited, {len(known)} weaknesses known")
    if skipped:
        print(f"{lock.name}: NOT AUDITED: {', '.join(skipped)}", file=sys.stderr)
    return KNOWN if known else NOT_MADE if skipped else CLEAN


if __name__ == "__main__":
    sys.exit(main(arguments=tuple(sys.argv[1:])))
