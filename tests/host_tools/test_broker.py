"""The broker's configuration: what mosquitto does not start with never takes the place of what it runs with."""

from __future__ import annotations

import dataclasses
import os
import pwd
from pathlib import Path

import pytest

from host_tools import broker
from host_tools.errors import InputError
from host_tools.keys import authority
from host_tools.keys import fleet as fleets
from tests.support.mosquitto import broker_program

pytestmark = pytest.mark.mosquitto


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> broker.BrokerFiles:
    fleet = fleets.create(tmp_path_factory.mktemp("fleet") / "keys", "home", None)
    bundle = fleet.admit("broker", "broker", ["localhost"])
    return broker.BrokerFiles(
        "Fleet home",
        bundle.ca_pem,
        bundle.identity.certificate_pem,
        bundle.identity.key_pem,
        fleet.revocations(),
        "user fridge-1\ntopic read a\n",
        user=pwd.getpwuid(os.getuid()).pw_name,
    )


def changed(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by what it is reached as."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_installed(tmp_path: Path, files: broker.BrokerFiles) -> None:
    conf = broker.install(tmp_path, 3, files, broker_program())
    assert conf == tmp_path / "current" / "mosquitto.conf"
    text = conf.read_text()
    for line in ("require_certificate true", "use_username_as_clientid true", "allow_anonymous false"):
        assert f"\n{line}\n" in text
    assert "\nlistener 8883 0.0.0.0\n" in text
    assert text.count("\nlistener ") == 1 and str(tmp_path / "access" / "acl") in text
    assert (conf.parent / "broker-key.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "access" / "acl").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "access", "current"]


@pytest.mark.parametrize(
    "bad",
    [
        {"key_pem": b"no key"},
        {"certificate_pem": b"no certificate"},
        {"crl_pem": b"no list"},
        {"acl": "nonsense without a topic\n"},
        {"ca_pem": None},  # another authority's
    ],
)
def test_a_bad_one_changes_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, files: broker.BrokerFiles, bad: dict[str, object]
) -> None:
    broker.install(tmp_path, 3, files, broker_program())
    before = changed(tmp_path)
    if bad == {"ca_pem": None}:
        bad = {"ca_pem": authority.create(tmp_path_factory.mktemp("foreign"), "home", None).certificate_pem}
    with pytest.raises(broker.BrokerRefused, match=r"mosquitto does not start|not this authority's"):
        broker.install(tmp_path, 4, dataclasses.replace(files, **bad), broker_program())  # type: ignore[arg-type]
    assert changed(tmp_path) == before


def test_order(tmp_path: Path, files: broker.BrokerFiles) -> None:
    for number in (3, 3, 4, 5, 6):
        broker.install(tmp_path, number, files, broker_program())
    assert os.readlink(tmp_path / "current") == "6"
    assert len([path for path in tmp_path.iterdir() if path.name[0].isdigit()]) == 3
    with pytest.raises(InputError, match="newer than 5"):
        broker.install(tmp_path, 5, files, broker_program())
