"""What `make install` makes of a system: files, launcher, unit, example configuration, and what uninstalling leaves."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Config, SinkConfig, ThirdPartyConfig, load, parse
from gateway.config.keys import walk
from gateway.example import example

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = ROOT / "gateway" / "system"
EXPOSURE_MAX = 2.0

analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def make(target: str, destdir: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-s", target, f"DESTDIR={destdir}", f"PYTHON={sys.executable}", "DEPENDENCIES=no", *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system with the gateway in it; this Python has the dependencies."""
    destdir = tmp_path_factory.mktemp("root")
    done = make("install", destdir)
    assert done.returncode == 0, done.stderr
    return destdir


def unit(root: Path) -> str:
    return (root / "usr/local/lib/systemd/system/isotherm-gateway.service").read_text(encoding="utf-8")


def test_the_installed_program_runs_by_itself(tmp_path: Path) -> None:
    # PREFIX as it is on the system, so that the launcher finds its library: no DESTDIR in between.
    from gateway.system.install import Layout, install

    install(Layout(tmp_path / "usr", tmp_path / "etc", ""), dependencies=False)
    launcher = tmp_path / "usr" / "bin" / "isotherm-gateway"
    config = tmp_path / "etc" / "isotherm" / "gateway.toml"
    done = subprocess.run(
        [launcher, "check-config", "--config", config], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "nothing is uploaded" in done.stdout
    assert list((tmp_path / "usr/lib/isotherm/gateway/__pycache__").glob("app.*.pyc")), "compiled before it is sealed"


def test_destdir_is_in_no_file(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert str(root).encode() not in path.read_bytes(), path
    assert "ExecStart=/usr/local/bin/isotherm-gateway run --config /etc/isotherm/gateway.toml\n" in unit(root)
    assert "@" not in re.sub(r"@(system-service|privileged|resources)", "", unit(root))


def test_a_64_bit_raspberry_pi_is_known_by_its_device_tree(tmp_path: Path) -> None:
    from gateway.system.install import on_pi

    model = tmp_path / "model"
    assert not on_pi(model, "aarch64")
    model.write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    assert on_pi(model, "aarch64")
    assert not on_pi(model, "armv7l"), "no lock of hashes can name what it needs"
    model.write_bytes(b"Other board\0")
    assert not on_pi(model, "aarch64")


def test_what_the_pins_need_is_in_a_lock_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.system import install as installer

    taken: list[str] = []
    monkeypatch.setattr(installer, "_pip", lambda target, lock: taken.append(lock.name))
    for pi in ("no", "yes"):
        assert installer.main(["install", "--destdir", str(tmp_path), "--pi", pi]) == 0
    assert taken == ["requirements.lock", "requirements-pi.lock"]


def test_installing_again_keeps_the_configuration(tmp_path: Path) -> None:
    assert make("install", tmp_path).returncode == 0
    config = tmp_path / "etc" / "isotherm" / "gateway.toml"
    config.write_text('[gateway]\nid = "mine"\n', encoding="utf-8")
    data = tmp_path / "var" / "lib" / "isotherm"
    data.mkdir(parents=True)
    (data / "isotherm.db").write_bytes(b"readings")
    stale = tmp_path / "usr" / "local" / "lib" / "isotherm" / "gateway" / "stale.py"
    stale.write_text("", encoding="utf-8")
    assert make("install", tmp_path).returncode == 0
    assert 'id = "mine"' in config.read_text(encoding="utf-8")
    assert not stale.exists(), "an upgrade leaves nothing of the former version"
    done = make("uninstall", tmp_path)
    assert done.returncode == 0
    assert "Kept: /etc/isotherm, /var/lib/isotherm" in done.stdout
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"etc/isotherm/gateway.toml", "var/lib/isotherm/isotherm.db"}


def test_what_cannot_be_done_is_a_sentence(tmp_path: Path) -> None:
    done = make("install", tmp_path, "PREFIX=usr")
    assert done.returncode != 0
    assert "make install: PREFIX is usr: it must be an absolute path\n" in done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "give DESTDIR=" in make("install", tmp_path / "file").stderr


def with_pins(root: Path) -> str:
    """The unit with the drop-in for pins: later assignments win, as in one file."""
    return unit(root) + (root / "usr/local/share/doc/isotherm/pins.conf").read_text(encoding="utf-8")


TEXTS = pytest.mark.parametrize("text", [unit, with_pins])


@analyze
@TEXTS
def test_the_unit_is_valid(root: Path, tmp_path: Path, text: Callable[[Path], str]) -> None:
    path = tmp_path / "isotherm-gateway.service"
    path.write_text(text(root).replace("/usr/local/bin", f"{root}/usr/local/bin"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@analyze
@TEXTS
def test_the_unit_is_sandboxed(root: Path, tmp_path: Path, text: Callable[[Path], str]) -> None:
    path = tmp_path / "isotherm-gateway.service"
    path.write_text(text(root), encoding="utf-8")
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"exposure level for isotherm-gateway.service: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE_MAX


def test_the_pins_are_all_that_the_drop_in_opens(root: Path) -> None:
    added = with_pins(root).removeprefix(unit(root))
    keys = [line.partition("=")[0] for line in added.splitlines() if "=" in line and not line.startswith("#")]
    assert [line for line in added.splitlines() if line.startswith("DeviceAllow=")] == ["DeviceAllow=char-gpiochip rw"]
    assert "DevicePolicy=closed" in added
    assert set(keys) == {
        *("PrivateDevices", "DevicePolicy", "DeviceAllow", "SupplementaryGroups", "PrivateUsers", "WorkingDirectory"),
        "ProcSubset",
    }
    assert "/etc/systemd/system/isotherm-gateway.service.d/pins.conf" in added


def test_the_unit_says_what_the_program_does(root: Path) -> None:
    text = unit(root)
    for line in ("Type=notify", "StateDirectory=isotherm", "RestartPreventExitStatus=2", "Restart=always"):
        assert f"\n{line}\n" in text
    assert re.search(r"\nWatchdogSec=\d+\n", text)
    assert parse(Path("/etc/isotherm/gateway.toml"), {}).data_dir == Path("/var/lib/isotherm"), "its StateDirectory"


def test_the_example_is_made_of_the_tables() -> None:
    shipped = (SYSTEM / "gateway.toml").read_text(encoding="utf-8")
    assert shipped == example(), "run: python -m gateway.example"


def test_the_example_is_valid_as_it_is_and_with_every_key_set(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(example(), encoding="utf-8")
    assert load(path) == parse(path, {})
    text = re.sub(r"^# (\[.*)NAME\]$", r"\1one]", example(), flags=re.MULTILINE)
    text = re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)
    for empty, filled in (('url = ""', 'url = "https://a.example"'), ('kind = ""', 'kind = "cpu"')):
        text = text.replace(f"\n{empty}", f"\n{filled}")
    for chosen in ("fault", "webhook"):  # of [rules.one] and [outputs.one], which have no type by default
        text = text.replace('\ntype = ""', f'\ntype = "{chosen}"', 1)
    document = tomllib.loads(text.replace('preset = "json"', 'preset = "tasmota"'))
    assert parse(path, document).sinks["one"].url == "https://a.example"
    for heading, table, keys in walk(Config):
        if heading == f"[{table.name}]":
            assert set(document[table.name]) - {"sensors"} == {key.name for key in keys}
    assert set(document["sinks"]["one"]) == set(SinkConfig.__dataclass_fields__)
    assert set(document["third_party"]["one"]) == set(ThirdPartyConfig.__dataclass_fields__)
