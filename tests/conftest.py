"""What all tests share: the order of the suite, and the recorded traces.

A missing broker or interpreter is an error, not a skip: `make test` installs both, and a suite that skips them proves
nothing. Only recorded traces may be absent, which the report at the end says loudly.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TRACES_VARIABLE = "ISOTHERM_TRACES"

# How long hypothesis takes to draw an example, or a test to run on it, says how busy the machine is.
settings.register_profile("isotherm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("isotherm")

# Quick and telling first: what fails should fail early.
ORDER = ("micropython", "mosquitto", "e2e", "soak")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort by what a test needs; leave the long ones out unless they are asked for by marker."""
    items.sort(
        key=lambda item: max(
            (ORDER.index(mark.name) + 1 for mark in item.iter_markers() if mark.name in ORDER), default=0
        )
    )
    if "soak" not in config.option.markexpr:
        soak = [item for item in items if item.get_closest_marker("soak")]
        if soak:
            config.hook.pytest_deselected(items=soak)
            items[:] = [item for item in items if item not in soak]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tried."""
    if not os.environ.get(TRACES_VARIABLE):
        terminalreporter.write_line(
            f"NOT RUN: recorded traces. Set {TRACES_VARIABLE} to their folder to run them too.", yellow=True, bold=True
        )


@pytest.fixture(scope="session")
def traces() -> Path:
    """The folder of recorded traces; the test is skipped, loudly, where it is not set."""
    folder = os.environ.get(TRACES_VARIABLE)
    if not folder:
        pytest.skip(f"{TRACES_VARIABLE} is not set")
    path = Path(folder)
    assert path.is_dir(), f"{TRACES_VARIABLE}={folder} is no folder"
    return path
