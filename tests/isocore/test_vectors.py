"""The golden vectors pass on both interpreters: the same checks here and on MicroPython."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from host_tools.virtual.interpreter import find_micropython
from tests.isocore import vectors_check

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
VECTORS = HERE / "vectors"


def cases(name: str, part: str) -> list[Any]:
    found = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))[part]
    return [pytest.param(case, id=case.get("name", str(number))) for number, case in enumerate(found)]


@pytest.mark.parametrize("case", cases("frames", "frames"))
def test_frame(case: Any) -> None:
    vectors_check.check_frame(case)


@pytest.mark.parametrize("case", cases("frames", "refused"))
def test_refused_frame(case: Any) -> None:
    vectors_check.check_refused_frame(case)


@pytest.fixture(scope="module")
def public_key() -> bytes:
    return bytes.fromhex(json.loads((VECTORS / "containers.json").read_text(encoding="utf-8"))["public_key"])


@pytest.mark.parametrize("case", cases("containers", "accepted"))
def test_container(case: Any, public_key: bytes) -> None:
    vectors_check.check_container(case, public_key)


@pytest.mark.parametrize("case", cases("containers", "refused"))
def test_refused_container(case: Any, public_key: bytes) -> None:
    vectors_check.check_refused_container(case, public_key)


@pytest.mark.parametrize("case", cases("models", "accepted"))
def test_model(case: Any) -> None:
    vectors_check.check_model(case)


@pytest.mark.parametrize("case", cases("models", "refused"))
def test_refused_model(case: Any) -> None:
    vectors_check.check_refused_model(case)


@pytest.mark.parametrize("case", cases("filters", "filters"))
def test_filter(case: Any) -> None:
    vectors_check.check_filter(case)


@pytest.mark.parametrize("case", cases("reporting", "reporting"))
def test_reporting(case: Any) -> None:
    vectors_check.check_reporting(case)


@pytest.mark.parametrize("case", json.loads((VECTORS / "reporting.json").read_text(encoding="utf-8"))["predictions"])
def test_prediction(case: Any) -> None:
    vectors_check.check_prediction(case)


@pytest.mark.micropython
def test_all_of_them_on_micropython() -> None:
    interpreter = find_micropython(root=ROOT)
    done = subprocess.run(
        [
            *interpreter.command,
            *interpreter.heap_option(1 << 20),
            str(HERE / "vectors_check.py"),
            str(ROOT / "firmware"),
            str(VECTORS),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == vectors_check.check_all(str(VECTORS))
