"""`isotherm model diff` and `plot`: what they say is what the boards' filter does, and the pictures hold it."""

from __future__ import annotations

import re
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from host_tools import cli, comparing, picture
from host_tools.history import History, Run, replay
from isocore import model as iso_model

LIMITS = {"high_on_milli": 7000, "high_off_milli": 6000, "error_milli": 300}
DAY = 1440


def model(sequence: int, **channels: dict[str, Any]) -> iso_model.Model:
    plain = {"v": 1, "fleet": "home", "target": "device:a", "sequence": sequence, "channels": channels}
    return iso_model.from_dict(plain)


def history(values: list[int], channel: str = "temperature") -> History:
    run = Run()
    for minute, value in enumerate(values):
        run.add(minute * 60_000, value)
    return History("a", None, channel, [run], 60_000, True, (-55_000, 125_000))


@pytest.fixture
def trace(tmp_path: Path) -> str:
    rows = "".join(f"{i * 60},a,{9 if 500 < i < 560 else 4 + i % 30 / 10},{50 + i % 40},\n" for i in range(DAY))
    path = tmp_path / "a.csv"
    path.write_text("t_s,board,temperature_c,humidity_pct,label\n" + rows)
    return str(path)


def saved(folder: Path, found: iso_model.Model) -> str:
    path = folder / f"{found.sequence}.json"
    path.write_bytes(iso_model.to_payload(found))
    return str(path)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("high_on_milli", 7500, "high alarm at or above: 7 °C -> 7.5 °C"),
        ("error_milli", 500, "never further off than: 0.3 °C -> 0.5 °C"),
        ("rate_limit_milli_min", 400, "largest change a minute: off -> 0.4 °C a minute"),
        ("low_on_milli", 1000, "low alarm at or below: never -> 1 °C"),
        ("heartbeat_s", 3600, "report at least every: off -> 3600 s"),
        ("valid_max_milli", 60_000, "readings above are faults: no bound -> 60 °C"),
        ("predictor", "trend", "between reports: the value holds -> the value goes on with its slope"),
    ],
)
def test_each_field_in_words(field: str, value: Any, says: str) -> None:
    more = {"valid_min_milli": -50_000} if field == "valid_max_milli" else {}
    said = comparing.differences(model(1, temperature=LIMITS), model(1, temperature={**LIMITS, **more, field: value}))
    assert any(line == f"temperature: {says}" or line.endswith(says) for line in said), said


def test_every_field_has_words() -> None:
    assert set(comparing._WORDS) == {*iso_model.FIELDS, "predictor"}
    for field, (lowest, highest, default) in iso_model.FIELDS.items():
        for value in (lowest, highest, default):
            assert comparing.said(field, value, "°C")


def test_channels_that_come_and_go_are_named() -> None:
    said = comparing.differences(model(1, temperature=LIMITS), model(2, humidity={"error_milli": 2000}))
    assert "sequence: 1 -> 2" in said
    assert "humidity: new in the model, the defaults held before" in said
    assert "temperature: no longer in the model, so the defaults hold" in said
    assert "humidity: the reported signal is never further off than: 0.1 %RH -> 2 %RH" in said


def test_what_is_drawn_is_what_the_filter_does() -> None:
    values = [4000] * 100 + [9000] * 20 + [4000] * 100 + [8000] * 5
    found = history(values)
    (one,) = comparing.compare([found], None, model(1, temperature=LIMITS))
    expected = replay(found, model(1, temperature=LIMITS).params("temperature"))
    assert one.new.predicted == expected and len(one.new.reports) == expected.messages
    assert [(s.kind, s.from_ms // 60_000, s.to_ms // 60_000) for s in one.new.spans] == [
        ("high", 100, 120),
        ("high", 220, 224),  # stood to the end of the history
    ]


def test_rate_alarms_are_spans_too() -> None:
    (one,) = comparing.compare(
        [history([4000] * 10 + [4000 + 600 * i for i in range(10)] + [9400] * 10)],
        None,
        model(1, temperature={"rate_limit_milli_min": 400}),
    )
    assert {span.kind for span in one.new.spans} == {"rate"}


def test_thinning_keeps_every_peak() -> None:
    points = [(i, 10_000 if i == 54_321 else i % 7) for i in range(100_000)]
    kept = comparing.thinned(points, 300)
    assert len(kept) <= 600 and (54_321, 10_000) in kept and kept == sorted(kept)


def test_diff_command(tmp_path: Path, trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (
        saved(tmp_path, model(1, temperature=LIMITS)),
        saved(tmp_path, model(2, temperature={"error_milli": 900})),
    )
    assert cli.run(["model", "diff", old, new, "--trace", trace]) == 0
    shown = capsys.readouterr().out
    assert "temperature: high alarm at or above: 7 °C -> never" in shown
    assert "1 -> 0 alarms" in shown
    assert cli.run(["model", "diff", old, old]) == 0
    assert capsys.readouterr().out == "nothing changes\n"


class Page(HTMLParser):
    """Tags and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.refers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.refers += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]


def test_plot_html_stands_alone(tmp_path: Path, trace: str) -> None:
    old = saved(tmp_path, model(1, temperature=LIMITS))
    new = saved(tmp_path, model(2, temperature={**LIMITS, "high_on_milli": 6500}, humidity={"high_on_milli": 80_000}))
    out = tmp_path / "a.html"
    assert cli.run(["model", "plot", new, "--old", old, "--trace", trace, "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("svg") == 2 and "script" not in page.tags and page.refers == []
    assert "url(" not in text and "@import" not in text and "http" not in text
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    assert 'class="limit-old"' in text and 'class="limit-new"' in text and 'class="bar-old"' in text
    assert "high alarm at or above: 7 °C -&gt; 6.5 °C" in text


def test_plot_png_is_one(tmp_path: Path, trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.png"
    assert (
        cli.run(["model", "plot", saved(tmp_path, model(1, temperature=LIMITS)), "--trace", trace, "--out", str(out)])
        == 0
    )
    data = out.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert min(struct.unpack(">II", data[16:24])) > 400
    assert "1 channels drawn" in capsys.readouterr().out


def test_names_from_outside_are_escaped() -> None:
    found = history([4000, 5000] * 50)
    found.device = "<script>"
    compared = comparing.compare([found], None, model(1, temperature=LIMITS))
    text = picture.html("<b>", compared, ["<i>"], []).decode()
    assert not re.search(r"<(script|b|i)>", text.replace("<b style", ""))


def test_plot_refusals(tmp_path: Path, trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    new = saved(tmp_path, model(1, temperature=LIMITS))
    for more, says in (
        (["--trace", trace, "--out", "a.pdf"], "neither .png nor .html"),
        (["--out", "a.png"], "either --store or --trace"),
        (["--trace", trace, "--device", "b-*", "--out", "a.png"], "the history holds no channel"),
    ):
        assert cli.run(["model", "plot", new, *more]) == 2
        assert says in capsys.readouterr().err


def test_sign_with_a_sealed_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "pass"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    keys, out = str(tmp_path / "keys"), str(tmp_path / "a.model")
    assert cli.run(["keys", "init", "--dir", keys, "--passphrase-file", str(secret)]) == 0
    payload = saved(tmp_path, model(1, temperature=LIMITS))
    sign = ["model", "sign", payload, "--key", keys, "--out", out]
    assert cli.run([*sign, "--passphrase-file", str(secret)]) == 0
    assert cli.run(["model", "verify", out, "--key", keys]) == 0
    capsys.readouterr()
    assert cli.run(sign) == 2
    assert "no terminal to ask" in capsys.readouterr().err
