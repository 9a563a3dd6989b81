"""The configuration: defaults, ranges, wrong keys and values, and that docs/gateway.md tells the same."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from gateway import config
from gateway.config import SECTIONS, SinkConfig, load, parse
from gateway.errors import ConfigError

DOC = Path(__file__).resolve().parents[2] / "docs" / "gateway.md"
URL = '[sinks.cloud]\nurl = "http://127.0.0.1:8440"\n'


def parsed(text: str) -> config.Config:
    return parse(Path("/etc/isotherm/gateway.toml"), tomllib.loads(text))


def test_an_empty_file_is_all_defaults() -> None:
    made = parsed("")
    assert made.mqtt.port == 1883
    assert made.sinks == {}
    assert made.client_id == "isotherm-gateway-gw-1"
    assert made.store_path == Path("/var/lib/isotherm/isotherm.db")


def test_paths_start_at_the_file() -> None:
    assert parsed('gateway.data_dir = "data"').data_dir == Path("/etc/isotherm/data")


def test_integers_serve_as_numbers() -> None:
    assert parsed(URL + "live_age_s = 2").sinks["cloud"].live_age_s == 2.0


WRONG = {
    "mqt.port = 1": "unknown key mqt: did you mean mqtt?",
    "mqtt.prot = 1": "unknown key mqtt.prot: did you mean mqtt.port?",
    "mqtt.zzzzzz = 1": "known are host, port",
    "mqtt = 3": "mqtt must be a table",
    "mqtt.port = 0": "mqtt.port is 0, it must be 1 to 65535",
    "mqtt.port = 70000": "it must be 1 to 65535",
    'mqtt.port = "1883"': "mqtt.port must be an integer",
    "mqtt.port = true": "mqtt.port must be an integer",
    "mqtt.port = 1.5": "mqtt.port must be an integer",
    "mqtt.backoff_max_s = nan": "mqtt.backoff_max_s is nan",
    "mqtt.host = 1": "mqtt.host must be a string",
    'mqtt.host = "192.0.2.1"': "must be a loopback address",
    'gateway.id = "GW 1"': "gateway.id is 'GW 1', it must match",
    'store.file = "../x.db"': "store.file must be a file name",
    'log.level = "loud"': "must be one of debug, info",
    'metrics.listen = "0.0.0.0:9000"': "must be a loopback address",
    'metrics.listen = "here"': "metrics.listen is 'here'",
    "sinks = 3": "sinks must hold tables",
    "[sinks.cloud]": "sinks.cloud.url is missing",
    "[sinks.Cloud]": "a sink's name must match",
    '[sinks.cloud]\nurl = "ftp://x"': "must be https",
    '[sinks.cloud]\nurl = "http://example.com"': "plain http is for a loopback address only",
    '[sinks.cloud]\nurl = "https://user:pw@example.com"': "must not contain credentials",
    '[sinks.cloud]\nurl = "https://example.com:99999"': "is no URL",
    URL + 'token_file = "none"': "there is no file",
    URL + 'compression = "lzma"': "must be one of auto, zstd, gzip",
    '[sinks.cloud]\ntype = "file"': "sinks.cloud.folder is missing",
    '[sinks.cloud]\ntype = "file"\nfolder = "x"\nurl = "https://x"': 'url is for type "https"',
    URL + 'folder = "x"': 'folder is for type "file"',
    URL + "live_row = 5": "did you mean sinks.cloud.live_rows?",
    'gateway.data_dir = "a\\u0000b"': "contains a NUL",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_named(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    message = str(caught.value)
    assert message.startswith("/etc/isotherm/gateway.toml: ")
    assert WRONG[text] in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("data", "part"), [(None, "cannot be read"), (b"\xff\xfe", "is not UTF-8"), (b"a = [", "is not TOML")]
)
def test_files_that_are_none(tmp_path: Path, data: bytes | None, part: str) -> None:
    path = tmp_path / "gateway.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=part):
        load(path)


@pytest.mark.parametrize("section", [*SECTIONS, "sinks.NAME"])
def test_every_key_is_documented_with_default_and_range(section: str) -> None:
    text = DOC.read_text(encoding="utf-8")
    part = text.partition(f"### [{section}]\n")[2].partition("\n#")[0]
    for key in fields(SECTIONS.get(section, SinkConfig)):
        row = next((line for line in part.splitlines() if line.startswith(f"| `{key.name}` |")), None)
        assert row, f"docs/gateway.md has no row for {key.name} under [{section}]"
        default = f'"{key.default}"' if isinstance(key.default, str) else str(key.default)
        assert f"| `{default}` |" in row, row
        if key.metadata["low"] is not None:
            assert f"| {key.metadata['low']} to {key.metadata['high']} |" in row, row
        assert key.metadata["help"] in row, row


def test_the_documented_example_is_good(tmp_path: Path) -> None:
    text = DOC.read_text(encoding="utf-8")
    example = text.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "gateway.toml").write_text(example, encoding="utf-8")
    assert load(tmp_path / "gateway.toml").sinks["cloud"].url.startswith("http")
