"""The bill of materials is valid and whole, and an audit that could not be made says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from host_tools import audit, sbom

ROOT = Path(__file__).resolve().parents[2]


def made(tmp_path: Path) -> str:
    path = tmp_path / "sbom.json"
    command = [sys.executable, "-I", str(ROOT / "host_tools" / "sbom.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return path.read_text(encoding="utf-8")


def test_it_is_valid_by_the_schema(tmp_path: Path) -> None:
    text = made(tmp_path)
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"type": "library"', '"type": "book"', 1)) is not None
    assert made(tmp_path) == text, "the same tree gives the same bytes"


def test_every_locked_package_is_in_it() -> None:
    components = {(part["name"], part.get("version")): part for part in sbom.document()["components"]}
    count = 0
    for lock in sbom.LOCKS.values():
        for line in (ROOT / lock).read_text(encoding="utf-8").splitlines():
            if "==" in line and not line.startswith(("#", " ")):
                name, _, version = line.split(" ")[0].partition("==")
                assert components[name, version]["hashes"], name
                count += 1
    assert count > 100
    assert components["micropython-umqtt.simple", "1.3.4"]["properties"][0]["value"] == "boards"
    assert components["pytest", next(v for n, v in components if n == "pytest")]["scope"] == "excluded"


@pytest.mark.parametrize(
    ("says", "code", "part"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', audit.CLEAN, "1 packages audited, 0"),
        (
            json.dumps({"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": []}]}]}),
            *(audit.KNOWN, "a 1: X-1, mended in nothing yet"),
        ),
        ('{"dependencies": [{"name": "a", "skip_reason": "s"}]}', audit.NOT_MADE, "NOT AUDITED: a"),
        ("", audit.NOT_MADE, "NOT AUDITED, its service gave no answer: cannot connect"),
    ],
)
def test_what_an_audit_says(tmp_path: Path, capfd: pytest.CaptureFixture[str], says: str, code: int, part: str) -> None:
    """pip-audit ends with 1 for what it found and for what it could not ask: only its answer tells them apart."""
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\necho 'cannot connect' >&2\ncat <<'END'\n{says}\nEND\nexit 1\n")
    program.chmod(0o755)
    assert audit.audit(program, tmp_path / "some.lock") == code
    captured = capfd.readouterr()
    assert part in captured.out + captured.err
