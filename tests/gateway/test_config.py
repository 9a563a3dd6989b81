"""The configuration: defaults, ranges, every mistake at once, and that docs/gateway.md tells the same."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway import config
from gateway.config import Config, load, parse
from gateway.config.check import FAULTS_MAX, Checker
from gateway.config.keys import family, key, listed_family, unit, walk
from gateway.errors import ConfigError
from gateway.example import documented

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
    'log.level = "warn"': "did you mean warning?",
    'metrics.listen = "0.0.0.0:9000"': "must be a loopback address",
    'metrics.listen = "here"': "metrics.listen is 'here'",
    "sinks = 3": "sinks must hold tables",
    "[sinks.cloud]": "sinks.cloud.url is missing",
    "[sinks.Cloud]": "a sink's name must match",
    '[sinks.cloud]\nurl = "ftp://x"': "must be https",
    '[sinks.cloud]\nurl = "http://example.com"': "plain http is for a loopback address only",
    '[sinks.cloud]\nurl = "https://user:pw@example.com"': "url is 'https://***@example.com', it must not contain cred",
    URL + 'proxy = "http://user:pw@p:1"': "sinks.cloud.proxy is 'http://***@p:1', it must not contain credentials",
    '[sinks.cloud]\nurl = "HTTPS://x"': "must begin with https://, in lower case",
    URL + 'proxy = "p:3128"': "must be http://HOST:PORT",
    '[sinks.cloud]\nurl = "https://example.com:99999"': "is no URL",
    URL + 'token_file = "none"': "sinks.cloud.token_file is 'none': there is no file /etc/isotherm/none",
    URL + 'compression = "lzma"': "must be one of auto, zstd, gzip",
    '[sinks.cloud]\ntype = "file"': "sinks.cloud.folder is missing",
    '[sinks.cloud]\ntype = "file"\nfolder = "x"\nurl = "https://x"': 'url is for type "https"',
    URL + 'folder = "x"': 'folder is for type "file"',
    '[sinks.b]\ntype = "mqtt"\nurl = "https://x"': 'sinks.b.url is for type "https", this sink is type "mqtt"',
    '[sinks.b]\nurl = "mqtts://x"': 'sinks.b.url is for type "mqtt", this sink is type "https"',
    '[sinks.b]\ntype = "mqtt"\nurl = "mqtt://x"': "must be mqtts: plain mqtt is for a loopback address only",
    '[sinks.b]\ntype = "mqtt"\nurl = "mqtts://x/topic"': "a broker's no path",
    '[sinks.b]\ntype = "mqtt"\nurl = "mqtts://x"\ntopic = "a/#"': "sinks.b.topic is 'a/#', it must match",
    URL + 'key_file = "x"': "sinks.cloud.key_file is given without cert_file",
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


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(
            'mqtt.prot = 1\nmqtt.port = 0\ngateway.id = "GW"\n'
            '[sinks.cloud]\nlive_age_s = -1\nca_file = "none"\n[sinks.B]'
        )
    lines = str(caught.value).splitlines()
    assert all(line.startswith("/etc/isotherm/gateway.toml: ") for line in lines)
    for part in (
        "mqtt.prot",
        "mqtt.port is 0",
        "gateway.id is 'GW'",
        "sinks.cloud.live_age_s is -1.0",
        "sinks.B: a sink",
    ):
        assert sum(part in line for line in lines) == 1, part
    assert len(lines) == 5, "what a section tells as a whole waits until its keys are right"


def test_mistakes_are_told_up_to_a_bound() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed("\n".join(f"wrong{number} = 1" for number in range(FAULTS_MAX + 7)))
    lines = str(caught.value).splitlines()
    assert len(lines) == FAULTS_MAX + 1
    assert lines[-1].endswith(": 7 more mistakes")


@dataclass(frozen=True)
class Value:
    pointer: str = key("", "JSON pointer", required=True)
    scale: float = key(1.0, "factor", 0.001, 1000)


@dataclass(frozen=True)
class Source:
    """What a declaration may hold beside plain keys."""

    windows_s: tuple[int, ...] = key((60, 900), "lengths of windows", 1, 86400, several_max=3)
    names: dict[str, str] = key({}, "names by channel")
    values: dict[str, Value] = family(name="[a-z]+", what="a value's name")
    steps: tuple[Value, ...] = listed_family()

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        if list(self.windows_s) != sorted(self.windows_s):
            yield "windows_s", "must rise"


def source(text: str) -> tuple[Source, list[str]]:
    checker = Checker(Path)
    made = checker.section("source", Source, tomllib.loads(text))
    return made, checker.faults


def test_lists_and_tables_within_a_section() -> None:
    made, faults = source('windows_s = [5]\nnames = {a = "x"}\n[values.t]\npointer = "/t"\n[[steps]]\npointer = "/s"')
    assert faults == []
    assert made == Source((5,), {"a": "x"}, {"t": Value("/t")}, (Value("/s"),))
    assert source("") == (Source(), [])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("windows_s = 5", "source.windows_s must be a list, not 5"),
        ("windows_s = [1, 0]", "source.windows_s[2] is 0, it must be 1 to 86400"),
        ("windows_s = [1, 2, 3, 4]", "source.windows_s holds 4 items, it may hold 3"),
        ("windows_s = [2, 1]", "source.windows_s must rise"),
        ("names = []", "source.names must be a table, not []"),
        ("names = {a = 1}", "source.names.a must be a string, not 1"),
        ("values = 1", "source.values must hold tables such as [source.values.NAME]"),
        ("[values.A]\npointer = 'x'", "source.values.A: a value's name must match [a-z]+"),
        ("[values.t]\nscale = 2", "source.values.t.pointer is missing: JSON pointer"),
        ("[values.t]\npointer = ''", "source.values.t.pointer is empty: JSON pointer"),
        (
            "[values.t]\npointer = 'x'\nscal = 2",
            "unknown key source.values.t.scal: did you mean source.values.t.scale?",
        ),
        ("steps = {}", "source.steps must be a list of tables: [[source.steps]]"),
        ("steps = [1]", "source.steps[1] must be a table: [source.steps[1]]"),
        ("[[steps]]\npointer = 'x'\n[[steps]]\npointer = 1", "source.steps[2].pointer must be a string, not 1"),
    ],
)
def test_mistakes_in_lists_and_tables_are_named(text: str, fault: str) -> None:
    assert source(text)[1] == [fault]


def test_every_key_has_help_and_says_its_unit_one_way() -> None:
    for heading, _, keys in walk(Config):
        for each in keys:
            meta = each.spec.metadata
            assert meta["help"], f"{heading} {each.name}"
            assert (meta["low"] is None) == (meta["high"] is None), f"{heading} {each.name}: one bound is no range"
            if each.kind in (int, float):
                assert meta["low"] is not None, f"{heading} {each.name} is a number without a range"
            suffix = each.name.rpartition("_")[2]
            if suffix in ("s", "ms", "rows", "bytes", "days"):
                assert unit(each) == suffix, f"{heading} {each.name}"


def test_the_document_is_made_of_the_declarations() -> None:
    page = DOC.read_text(encoding="utf-8")
    assert page == documented(page), "run: python -m gateway.example"
    assert "| `keepalive_s` | `20` | s | 2 to 3600 |  | silence after which the broker is probed |" in page


def test_the_documented_example_is_good(tmp_path: Path) -> None:
    text = DOC.read_text(encoding="utf-8")
    example = text.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "gateway.toml").write_text(example, encoding="utf-8")
    assert load(tmp_path / "gateway.toml").sinks["cloud"].url.startswith("http")
