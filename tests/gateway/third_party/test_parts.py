"""Patterns, pointers, numbers, stamps, names and presets, each by itself."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MessageRejected
from gateway.guard import parse_json
from gateway.third_party import pattern, pointer
from gateway.third_party.names import Names, slug
from gateway.third_party.pattern import Match, Pattern
from gateway.third_party.pointer import MISSING, resolve
from gateway.third_party.preset import PRESETS, Wanted
from gateway.third_party.reading import is_absent, milli
from gateway.third_party.stamp import unix_ms
from isocore.record import VALUE_MAX
from isocore.topics import is_device_id

# -- patterns


@pytest.mark.parametrize(
    ("text", "topic", "match"),
    [
        ("tele/{device}/SENSOR", "tele/plug 1/SENSOR", Match("plug 1", None)),
        ("tele/{device}/SENSOR", "tele/plug/STATE", None),
        ("tele/{device}/SENSOR", "tele/a/b/SENSOR", None),
        ("tele/{device}/SENSOR", "tele//SENSOR", None),
        ("tele/{device}/SENSOR", "tele/SENSOR", None),
        ("{device}/sensor/{channel}/state", "node/sensor/attic/state", Match("node", "attic")),
        ("{site}/{device}", "berlin/plug", Match("berlin-plug", None)),
        ("home/{device}", "home/\0", Match("\0", None)),
    ],
)
def test_patterns(text: str, topic: str, match: Match | None) -> None:
    assert pattern.wrong(text) is None
    assert Pattern(text).match(topic) == match


def test_a_subscription_has_a_wildcard_a_placeholder() -> None:
    assert Pattern("{device}/sensor/{channel}/state").subscription == "+/sensor/+/state"


@pytest.mark.parametrize(
    "text",
    [
        "tele/#",
        "tele/+/SENSOR",
        "tele/x{device}/SENSOR",
        "tele/SENSOR",
        "{channel}/x",
        "{device}/{device}",
        "a\0/{device}",
        "$SYS/{device}",
        "iso/1/{device}/up",
        "{Device}/x",
        "a/{device}/" + "x" * 200,
    ],
)
def test_patterns_that_cannot_be(text: str) -> None:
    assert pattern.wrong(text)


# -- pointers: the examples of RFC 6901 section 5

RFC = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", RFC),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
        *((absent, MISSING) for absent in ("/foo/2", "/foo/-", "/foo/00", "/foo/0/x", "/nope")),
    ],
)
def test_pointers(text: str, value: Any) -> None:
    assert pointer.wrong(text) is None
    assert resolve(RFC, text) == value


@pytest.mark.parametrize("text", ["foo", "/a~", "/a~2b"])
def test_pointers_that_cannot_be(text: str) -> None:
    assert pointer.wrong(text)


# -- numbers


@pytest.mark.parametrize(
    ("value", "unit", "held"),
    [
        (Decimal("21.35"), "degC", 21350),
        ("21.35", "°C", 21350),
        (" -0.05 ", "C", -50),
        (21, "degC", 21000),
        (Decimal("70"), "degF", 21111),
        (Decimal("-40"), "°F", -40000),
        (Decimal("32"), "F", 0),
        (Decimal("295.65"), "K", 22500),
        ("0", "kelvin", -273150),
        (Decimal("55.25"), "%", 55250),
        (Decimal("1013.2"), "hPa", 1013200),
        (Decimal("0.0005"), "degC", 0),  # half to even
        (Decimal("0.0015"), "degC", 2),
        (Decimal("1e-999999"), "degC", 0),
        (Decimal("1e999999"), "degC", None),
        (10**400, "degC", None),
        (Decimal("536870.911"), "degC", VALUE_MAX),
        (Decimal("536870.912"), "degC", None),
        (Decimal("-1e12"), "degC", None),
    ],
)
def test_numbers_become_milli_units_exactly(value: Any, unit: str, held: int | None) -> None:
    assert milli(value, unit) == held


@pytest.mark.parametrize(
    "value", [True, False, [], {}, "21,5", "0x10", "1_0", "١٢", "21.5 C", "1e999", "+", ".", "9" * 40]
)
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(MessageRejected) as refused:
        milli(value, "degC")
    assert refused.value.reason == "value"


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000, places=6))
def test_celsius_is_the_nearest_milli_degree_of_fahrenheit(fahrenheit: Decimal) -> None:
    held = milli(fahrenheit, "degF")
    assert held is not None
    assert abs(Fraction(held) - (Fraction(fahrenheit) - 32) * 5000 / 9) <= Fraction(1, 2)


def test_absent() -> None:
    for value in (None, "unavailable", "Unknown", "nan", " NaN ", "", "offline"):
        assert is_absent(value)
    for value in (0, "0", False, "on", []):
        assert not is_absent(value)


# -- stamps

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("value", "zone", "ms"),
    [
        ("2026-11-25T12:00:00", BERLIN, 1795604400_000),
        ("2026-07-25T12:00:00", BERLIN, 1784973600_000),
        ("2026-11-25T12:00:00", None, None),
        ("2026-11-25T12:00:00+01:00", None, 1795604400_000),
        ("2026-11-25T11:00:00.250Z", None, 1795604400_250),
        (1795604400, None, 1795604400_000),
        (1795604400_250, None, 1795604400_250),
        (Decimal("1795604400.25"), None, 1795604400_250),
        ("yesterday", BERLIN, None),
        ("0001-01-01T00:00:00", BERLIN, -62135600008_000),
        (True, None, None),
        (-5, None, None),
        (Decimal("1e99999"), None, None),
        (10**400, None, None),
        ([], None, None),
    ],
)
def test_stamps(value: Any, zone: ZoneInfo | None, ms: int | None) -> None:
    assert unix_ms(value, zone) == ms


# -- names


def names(
    known: dict[str, str] | None = None, given: dict[str, str] | None = None, boards: str = "", at_most: int = 9
) -> Names:
    return Names(known or {}, given or {}, lambda device: device in boards.split(), at_most)


def test_names_become_ids_one_to_one() -> None:
    found = names(given={"Attic!": "top"}, boards="fridge")
    ids = [found.id_of(name) for name in ("Kitchen Plug", "kitchen_plug", "Attic!", "top", "fridge", "Küche", "", "💡")]
    assert ids[0] == "kitchen-plug"
    assert ids[2] == "top"
    assert ids[5] == "k-che"
    assert len(set(ids)) == len(ids)
    assert all(is_device_id(device) for device in ids)
    assert [found.id_of(name) for name in ("Kitchen Plug", "kitchen_plug")] == ids[:2], "and stays"


def test_what_was_given_at_a_former_start_stays() -> None:
    found = names(known={"kitchen_plug": "kitchen-plug"})
    assert found.id_of("kitchen_plug") == "kitchen-plug"
    assert found.id_of("Kitchen Plug") != "kitchen-plug"


def test_names_are_bounded() -> None:
    found = names(at_most=2)
    found.id_of("a")
    found.id_of("b")
    with pytest.raises(MessageRejected) as refused:
        found.id_of("c")
    assert refused.value.reason == "devices"
    assert found.id_of("a") == "a"
    with pytest.raises(MessageRejected):
        names().id_of("x" * 200)


@given(st.lists(st.text(max_size=40), unique=True, max_size=9))
def test_any_names_make_ids(said: list[str]) -> None:
    found = names()
    ids = [found.id_of(name) for name in said]
    assert all(is_device_id(device) for device in ids)
    assert len(set(ids)) == len(ids)


def test_slug() -> None:
    assert slug("DS18B20-1 (Keller)") == "ds18b20-1-keller"


# -- presets, with payloads as the three firmwares publish them


def read(preset: str, payload: str, channel: str | None = None, **wanted: dict[str, str]) -> list[tuple[str, Any, str]]:
    document = payload if PRESETS[preset].plain else parse_json(payload.encode(), 8192, "x", Decimal)
    return list(PRESETS[preset].read(document, channel, Wanted(wanted.get("values", {}), wanted.get("units", {}))))


def test_tasmota_with_several_sensors() -> None:
    payload = (
        '{"Time":"2026-11-25T12:00:00","DS18B20-1":{"Id":"01131B2C3D4E","Temperature":21.4},'
        '"DS18B20-2":{"Id":"01131B2C3D4F","Temperature":null},'
        '"AM2301":{"Temperature":20.9,"Humidity":51.2,"DewPoint":10.4},"ANALOG":{"A0":512},"TempUnit":"C"}'
    )
    assert read("tasmota", payload) == [
        ("ds18b20-01131b2c3d4e-temperature", Decimal("21.4"), "C"),
        ("ds18b20-01131b2c3d4f-temperature", None, "C"),
        ("am2301-temperature", Decimal("20.9"), "C"),
        ("am2301-humidity", Decimal("51.2"), "%RH"),
    ]
    assert read("tasmota", payload, units={"am2301-dewpoint": "degC"})[-1][0] == "am2301-dewpoint"


def test_tasmota_names_a_sensor_by_its_own_id_however_many_there_are() -> None:
    alone = '{"DS18B20":{"Id":"01131B2C3D4E","Temperature":70.5},"TempUnit":"F"}'
    assert read("tasmota", alone) == [("ds18b20-01131b2c3d4e-temperature", Decimal("70.5"), "F")]


def test_esphome() -> None:
    assert read("esphome", "21.50", "attic_temperature") == [("attic-temperature", "21.50", "degC")]
    assert read("esphome", "nan", "attic_humidity") == [("attic-humidity", "nan", "%RH")]
    assert read("esphome", "-63", "wifi_signal") == []
    assert read("esphome", "3.1", "probe", units={"probe": "degC"}) == [("probe", "3.1", "degC")]


def test_zigbee2mqtt() -> None:
    payload = '{"battery":97,"humidity":55.2,"linkquality":120,"temperature":21.37,"update":{"state":"idle"}}'
    assert read("zigbee2mqtt", payload) == [
        ("humidity", Decimal("55.2"), "%RH"),
        ("temperature", Decimal("21.37"), "degC"),
    ]


def test_plain_json() -> None:
    payload = '{"sensors":[{"t":295.65},{"t":"80"}]}'
    values = {"air": "/sensors/0/t", "water": "/sensors/1/t", "gone": "/sensors/2/t"}
    units = {"air": "K", "water": "degF", "gone": "K"}
    assert read("json", payload, values=values, units=units) == [
        ("air", Decimal("295.65"), "K"),
        ("water", "80", "degF"),
    ]
    assert read("json", "21.5", "shed", values={"temp": ""}) == [("shed-temp", Decimal("21.5"), "degC")]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("payload", ["[]", "3", '"x"', "null", "{}", '{"a":{}}', '{"DS18B20":3}', '{"A":{"Id":5}}'])
def test_presets_take_anything(preset: str, payload: str) -> None:
    assert all(isinstance(found, tuple) for found in read(preset, payload, values={"t": "/t"}, units={"t": "K"}))


# -- the guard


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"[" * 8000, "depth"),
        (b"[" * 33 + b"]" * 33, "depth"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "depth"),
        (b"x" * 9000, "size"),
        (b'{"a":NaN}', "json"),
        (b'{"a":-Infinity}', "json"),
        (b'{"a":' + b"9" * 5000 + b"}", "json"),
        (b"\xff\xfe{}", "json"),
        (b"", "json"),
        (b'{"a":1', "json"),
    ],
)
def test_json_is_bounded(payload: bytes, reason: str) -> None:
    for number in (None, Decimal):
        with pytest.raises(MessageRejected) as refused:
            parse_json(payload, 8192, "x", number)
        assert refused.value.reason == reason


def test_json_too_large_for_a_float() -> None:
    with pytest.raises(MessageRejected):
        parse_json(b"[1e999]", 8192, "x")
    with pytest.raises(MessageRejected):
        parse_json(b"[1e99999999999999999999999]", 8192, "x", Decimal)


def test_brackets_in_strings_are_not_depth() -> None:
    text = b'{"a":"' + b"[{" * 100 + b'\\"' + b"[" * 50 + b'"}'
    assert parse_json(text, 8192, "x")
    assert parse_json(b"[" * 32 + b"]" * 32, 8192, "x")
