"""The query API in process: every answer against the OpenAPI document, and the document against the routes served."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate as validate_document
from starlette.routing import Route

from host_tools.cloud import series, store_query
from host_tools.cloud.app import Receiver
from host_tools.cloud.gates import Gates
from host_tools.cloud.parameters import RESOLUTIONS, cursor
from host_tools.cloud.store import Store
from host_tools.cloud.store_watch import SilenceLimits
from host_tools.setup.promtool import find_promtool
from isocore.aggregate import fold
from isocore.record import FAULT, FAULT_CLEARED, HIGH_OFF, HIGH_ON, SAMPLE
from tests.host_tools.cloud.test_app import Client
from tests.support import uplink

EPOCH_UNIX_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z, of `uplink.document`
NOW_UNIX_MS = EPOCH_UNIX_MS + 6 * 3_600_000
FROM = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T06:00:00Z"}
CHANNEL = {"device": "fridge-1", "channel": "temperature"}


class Api:
    """Asks, and holds every answer against the document."""

    def __init__(self, store: Store) -> None:
        self.receiver = Receiver(store, unix_ms=lambda: NOW_UNIX_MS)
        self.client = Client(self.receiver)
        self.document = self.client.get("/openapi.json").json()
        self.number = 0

    def send(self, seqs: list[int], **more: Any) -> None:
        self.number += 1
        response = self.client.post(
            self.number, uplink.document(self.number, seqs, **more), **gateway_header(more.get("gateway"))
        )
        assert response.status_code == 200, response.text

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        response = self.client.get(path, params=parameters)
        self.check(path, response)
        return response

    def check(self, path: str, response: httpx.Response) -> None:
        described = self.document["paths"][path]["get"]["responses"][str(response.status_code)]["content"]
        media = response.headers["content-type"].partition(";")[0]
        schema = described[media]["schema"] | {"components": self.document["components"]}
        if media != "text/plain":
            Draft202012Validator(schema, format_checker=FormatChecker()).validate(response.json())

    def ok(self, path: str, **parameters: Any) -> Any:
        response = self.get(path, **parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def all_of(self, name: str, path: str, **parameters: Any) -> list[Any]:
        """Every page."""
        found: list[Any] = []
        more: dict[str, Any] = {}
        for _ in range(200):
            page = self.ok(path, **parameters, **more)
            found += page[name]
            if page["next"] is None:
                return found
            more = {"cursor": page["next"]}
        raise AssertionError("the pages never end")


def gateway_header(gateway: str | None) -> dict[str, str]:
    return {} if gateway is None else {"Isotherm-Gateway": gateway}


def columns(seq: int, kinds: list[int], values: list[int], boot: int = 1, channel: int = 0) -> dict[str, Any]:
    """Members of a document: rows of these kinds, a minute apart."""
    steps = [values[0], *(b - a for a, b in pairwise(values))]
    return {
        "seqs": list(range(seq, seq + len(kinds))),
        "kind": kinds,
        "value": steps,
        "channel": [channel] * len(kinds),
        "series": [[0, boot, len(kinds), EPOCH_UNIX_MS, 1]],
    }


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path, lambda: NOW_UNIX_MS) as opened:
        yield opened


@pytest.fixture
def api(store: Store) -> Api:
    return Api(store)


# ---- the document


@pytest.mark.parametrize("which", ["all", "gateways", "questions"])
def test_the_document_is_sound_and_tells_of_what_is_served(store: Store, which: str) -> None:
    apart = Receiver(store, Gates(gateway_tokens={"gw-1": "a-token-of-some-length"}), Gates())
    apps = {"all": Receiver(store).app(), "gateways": apart.app(), "questions": apart.admin_app()}
    document = apps[which].state.document
    validate_document(document)
    served = {
        (route.path, method.lower())
        for route in apps[which].routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == served
    assert len(apps[which].routes) == len(document["paths"])


def test_every_documented_parameter_is_taken_and_no_other(api: Api) -> None:
    api.send([1])
    for path, methods in api.document["paths"].items():
        if "get" not in methods or "parameters" not in methods["get"]:
            continue
        needed = {p["name"]: CHANNEL[p["name"]] for p in methods["get"]["parameters"] if p["required"]}
        good = {"device": "fridge-1", "channel": "temperature", "length_s": 60}
        for parameter in methods["get"]["parameters"]:
            name = parameter["name"]
            value = good.get(name, FROM.get(name, parameter["schema"].get("enum", [5])[-1]))
            if name != "cursor":
                assert api.get(path, **needed | {name: value}).status_code == 200, (path, name)
        for name, value in (("colour", "red"), ("cursor", "nonsense"), ("limit", "0")):
            refused = api.get(path, **needed | {name: value})
            assert (refused.status_code, refused.json()["parameter"]) == (400, name), path
            assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "query", "status", "parameter"),
    [
        ("/v1/readings", {}, 400, "device"),
        ("/v1/readings", {"device": "none"}, 404, "device"),
        ("/v1/readings", {"device": "' OR 1=1"}, 400, "device"),
        ("/v1/readings", CHANNEL | {"channel": "none"}, 404, "channel"),
        ("/v1/readings", CHANNEL | {"limit": "10001"}, 400, "limit"),
        ("/v1/readings", CHANNEL | {"from": "2026-01-01"}, 400, "from"),
        ("/v1/readings", CHANNEL | {"from": "2026-01-01T00:00:00"}, 400, "from"),
        ("/v1/readings", CHANNEL | {"to": "2026-W01-1T00:00:00Z"}, 400, "to"),
        ("/v1/readings", CHANNEL | {"to": "9999-12-31T23:59:59-23:59"}, 200, None),
        ("/v1/readings", CHANNEL | {"to": "2026-02-30T00:00:00Z"}, 400, "to"),
        ("/v1/range", {"device": "fridge-1"}, 400, "channel"),
        ("/v1/range", CHANNEL | {"resolution": "2m"}, 400, "resolution"),
        ("/v1/range", CHANNEL | {"from": FROM["to"], "to": FROM["from"]}, 400, "from"),
        ("/v1/range", CHANNEL | {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}, 200, None),
        ("/v1/windows", CHANNEL | {"length_s": "86401"}, 400, "length_s"),
        ("/v1/latest", {"device": "none"}, 404, "device"),
        ("/v1/alarms", {"state": "closed"}, 400, "state"),
        ("/v1/alarms", {"cursor": cursor("alarms", (9, []))}, 400, "cursor"),
        ("/v1/alarms", {"cursor": cursor("alarms", (0, ["x"]))}, 400, "cursor"),
        ("/v1/alarms", {"cursor": cursor("alarms", (0, [[1]]))}, 400, "cursor"),
        ("/v1/alarms", {"cursor": cursor("history", (0, []))}, 400, "cursor"),
        ("/v1/devices", {"cursor": cursor("devices", (1 << 80,))}, 400, "cursor"),
        ("/v1/devices", {"cursor": "W10" * 1000}, 400, "cursor"),
    ],
)
def test_what_is_wrong_is_named(api: Api, path: str, query: dict[str, str], status: int, parameter: str | None) -> None:
    api.send([1])
    response = api.get(path, **query)
    assert (response.status_code, response.json().get("parameter")) == (status, parameter), response.text


def test_a_parameter_stands_once(api: Api) -> None:
    response = api.client.get("/v1/devices?limit=1&limit=2")
    assert (response.status_code, response.json()["parameter"]) == (400, "limit")


# ---- rows


def test_devices_gateways_and_latest(api: Api) -> None:
    api.send([1, 2, 3])
    api.send([1], device="room", gateway="gw-2")
    (fridge, room) = api.ok("/v1/devices")["devices"]
    assert (fridge["id"], fridge["class"], fridge["silent_since"]) == ("fridge-1", "fridge", None)
    assert fridge["channels"] == [{"number": 0, "name": "temperature", "unit": "degC"}]
    assert fridge["heard"] == room["heard"] == "2026-01-01T06:00:00.000Z"
    first = api.ok("/v1/gateways", limit=1)
    assert [g["id"] for g in first["gateways"]] == ["gw-1"]
    (second,) = api.ok("/v1/gateways", limit=1, cursor=first["next"])["gateways"]
    assert (second["id"], second["posts"], second["rows_today"]) == ("gw-2", 1, 1)
    latest = api.all_of("latest", "/v1/latest", limit=1)
    assert [(row["device"], row["channel"], row["value"], row["time"]) for row in latest] == [
        ("fridge-1", "temperature", 4003, "2026-01-01T00:03:00.000Z"),
        ("room", "temperature", 4001, "2026-01-01T00:01:00.000Z"),
    ]
    assert api.ok("/v1/latest", device="room")["latest"] == latest[1:]


def test_latest_is_by_identity_and_found_however_long_ago(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.send([1, 2, 3])
    api.send(**columns(1, [SAMPLE], [7000], boot=2))
    assert api.ok("/v1/latest")["latest"][0]["value"] == 7000, "a later boot is later, whatever its clock says"
    api.send(**columns(2, [HIGH_ON] * 5, [9000] * 5, boot=2))
    monkeypatch.setattr(store_query, "LATEST_ROWS_MAX", 2)
    assert api.ok("/v1/latest")["latest"][0]["value"] == 4003, "by time, where identities do not reach"


def test_rows_in_pages(api: Api) -> None:
    api.send([1, 2, 3])
    page = api.ok("/v1/readings", device="fridge-1", limit=2)
    assert page["readings"][0] == {
        "time": "2026-01-01T00:01:00.000Z", "trusted": True, "boot": 1, "seq": 1, "uptime_ms": 60000,
        "kind": "delta", "channel": "temperature", "value": 4001, "trend": 0, "verdict": "unchecked",
    }  # fmt: skip
    rest = api.ok("/v1/readings", device="fridge-1", limit=2, cursor=page["next"])
    assert [row["seq"] for row in rest["readings"]] == [3]
    assert rest["next"] is None
    window = {"from": "2026-01-01T00:02:00Z", "to": "2026-01-01T01:03:00+01:00"}
    found = api.ok("/v1/readings", **CHANNEL | window)
    assert [row["seq"] for row in found["readings"]] == [2]


def test_a_row_without_a_time_is_among_rows_and_in_no_span(api: Api) -> None:
    api.send([1], series=[[0, 1, 1, None, 0]])
    (row,) = api.ok("/v1/readings", device="fridge-1")["readings"]
    assert (row["time"], row["value"]) == (None, 4001)
    assert api.ok("/v1/range", **CHANNEL | FROM)["points"] == []
    assert api.ok("/v1/latest")["latest"][0]["time"] is None


def test_reports_of_a_span_come_by_time_however_they_arrived(api: Api) -> None:
    for seqs in ([7, 8, 9], [1, 2, 3], [4, 5, 6]):
        api.send(seqs)
    found = api.all_of("points", "/v1/range", **CHANNEL | FROM, limit=2)
    assert [point["seq"] for point in found] == list(range(1, 10))
    part = api.ok("/v1/range", **CHANNEL, **{"from": "2026-01-01T00:03:00Z", "to": "2026-01-01T00:05:00Z"})
    assert [point["time"] for point in part["points"]] == ["2026-01-01T00:03:00.000Z", "2026-01-01T00:04:00.000Z"]
    assert (part["unit"], part["resolution"]) == ("degC", "raw")
    assert api.ok("/v1/range", **CHANNEL | FROM | {"channel": "0"}) == api.ok("/v1/range", **CHANNEL | FROM)


# ---- windows


@pytest.mark.parametrize("resolution", ["1m", "15m", "1h", "1d"])
@pytest.mark.parametrize("limit", [3, 1000])
def test_windows_of_rows_are_those_of_the_one_definition(api: Api, resolution: str, limit: int) -> None:
    kinds = [SAMPLE] * 20 + [HIGH_ON] + [SAMPLE] * 60 + [HIGH_OFF, FAULT, FAULT_CLEARED] + [SAMPLE] * 40
    api.send(**columns(1, kinds, [4000 + 37 * n % 501 for n in range(len(kinds))]))
    length_s = RESOLUTIONS[resolution]
    records = [
        (1, n + 1, kind, 4000 + 37 * n % 501, 0, (n + 1) * 60_000, EPOCH_UNIX_MS + (n + 1) * 60_000)
        for n, kind in enumerate(kinds)
    ]
    wanted = fold(records, (length_s,), series.HOLD_S, NOW_UNIX_MS)
    found = api.all_of("windows", "/v1/range", **CHANNEL | FROM, resolution=resolution, limit=limit)
    names = ("least", "mean", "greatest", "last", "reports", "covered_ms", "alarm_ms", "fault_ms")
    assert [tuple(row[name] for name in names) for row in found] == [wanted[key].figures() for key in sorted(wanted)]
    assert {row["source"] for row in found} == {"rows"}
    assert sum(row["alarm_ms"] for row in found) > 0


def test_an_alarm_from_long_before_a_span_stands_in_it(api: Api) -> None:
    """Longer ago than a value is carried, while the channel went on reporting."""
    api.send(**columns(1, [HIGH_ON] + [SAMPLE] * 299, [9000] * 300))
    assert series.HOLD_S < 3 * 3600
    span = {"from": "2026-01-01T03:00:00Z", "to": "2026-01-01T04:00:00Z"}
    (hour,) = api.ok("/v1/range", **CHANNEL | span, resolution="1h")["windows"]
    assert (hour["alarm_ms"], hour["covered_ms"]) == (3_600_000, 3_600_000)


def test_a_gateways_windows_come_first_and_make_longer_ones(api: Api) -> None:
    api.send([1, 2, 3])
    start_s = EPOCH_UNIX_MS // 1000 + 3600
    api.send(
        [9],
        lane="windows",
        **{name: [] for name in ("series", "seq", "uptime_ms", "kind", "channel", "value")},
        rows=0,
        windows={
            "device": [0, 0], "channel": [0, 0], "length_s": [3600, 3600], "start_unix_s": [start_s, 3600],
            "revision": [1, 1], "mean": [5000, 1000], "least": [-100, -50], "greatest": [200, 80], "last": [10, 20],
            "count": [7, 8], "covered_ms": [1_000, 3_000], "alarm_ms": [5, 0], "fault_ms": [0, 6],
        },
    )  # fmt: skip
    hours = api.ok("/v1/range", **CHANNEL | FROM, resolution="1h")["windows"]
    sent = [row for row in hours if row["source"] == "gateway"]
    assert [(row["start"], row["mean"]) for row in sent] == [
        ("2026-01-01T01:00:00.000Z", 5000),
        ("2026-01-01T02:00:00.000Z", 6000),
    ]
    assert hours[0]["source"] == "rows"
    (day,) = api.ok("/v1/range", **CHANNEL | FROM, resolution="1d")["windows"]
    assert day == {
        "start": "2026-01-01T00:00:00.000Z", "least": 4900, "mean": 5750, "greatest": 6080, "last": 6020,
        "reports": 15, "covered_ms": 4000, "alarm_ms": 5, "fault_ms": 6, "source": "gateway",
    }  # fmt: skip
    raw = api.all_of("windows", "/v1/windows", device="fridge-1", limit=1)
    assert [(row["start"], row["length_s"], row["mean"]) for row in raw] == [
        ("2026-01-01T01:00:00.000Z", 3600, 5000),
        ("2026-01-01T02:00:00.000Z", 3600, 6000),
    ]


def test_a_page_of_windows_folds_a_bounded_number_of_rows(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.send(list(range(1, 60)))
    whole = api.ok("/v1/range", **CHANNEL | FROM, resolution="1m")["windows"]
    monkeypatch.setattr(series, "FOLD_ROWS_MAX", 130)
    assert api.all_of("windows", "/v1/range", **CHANNEL | FROM, resolution="1m") == whole
    monkeypatch.setattr(series, "FOLD_ROWS_MAX", 20)
    response = api.get("/v1/range", **CHANNEL | FROM, resolution="1h")
    assert (response.status_code, response.json()["parameter"]) == (400, "resolution")


# ---- alarms


def test_alarms_of_boards_stand_until_they_end(api: Api) -> None:
    api.send(**columns(1, [HIGH_ON, HIGH_OFF, HIGH_ON], [9000, 7000, 9100]))
    api.send(**columns(4, [FAULT], [6]), device="room")
    found = api.ok("/v1/alarms")["alarms"]
    assert [(a["kind"], a["reason"], a["device"], a["seq"], a["value"], a["fault"]) for a in found] == [
        ("limit", "high", "fridge-1", 3, 9100, None),
        ("fault", "fault", "room", 4, None, "missing"),
    ]
    assert (found[0]["since"], found[0]["gateway"]) == ("2026-01-01T00:03:00.000Z", "gw-1")
    assert api.ok("/v1/latest", device="fridge-1")["latest"] == []
    every = api.all_of("alarms", "/v1/alarms", state="all", limit=1)
    assert [(a["device"], a["seq"], a["ended_by"]) for a in every] == [
        ("room", 4, None),
        ("fridge-1", 3, None),
        ("fridge-1", 1, "off"),
    ]
    assert every[2]["until"] == "2026-01-01T00:02:00.000Z"


def test_the_end_may_come_before_the_beginning(api: Api) -> None:
    """The alarm lane, and gateways' backlogs, keep no order among batches."""
    api.send(**columns(2, [HIGH_OFF], [7000]))
    assert api.ok("/v1/alarms")["alarms"] == []
    api.send(**columns(1, [HIGH_ON], [9000]))
    assert api.ok("/v1/alarms")["alarms"] == []
    (alarm,) = api.ok("/v1/alarms", state="all")["alarms"]
    assert alarm["ended_by"] == "off"


def test_a_boot_ends_what_was_on(api: Api) -> None:
    api.send(**columns(1, [HIGH_ON], [9000]))
    api.send(**columns(1, [SAMPLE], [5000], boot=2))
    assert api.ok("/v1/alarms")["alarms"] == []
    (alarm,) = api.ok("/v1/alarms", state="all")["alarms"]
    assert (alarm["ended_by"], alarm["until"]) == ("boot", "2026-01-01T00:01:00.000Z")
    api.send(**columns(2, [HIGH_ON], [9000], boot=2))
    assert [a["boot"] for a in api.ok("/v1/alarms")["alarms"]] == [2]


def test_a_clone_is_an_alarm_by_whoever_brings_it(api: Api) -> None:
    api.send([1, 2])
    api.send([2, 3], gateway="gw-2")
    assert api.ok("/v1/alarms")["alarms"] == [], "the same reading by two gateways is no clone"
    api.send(**columns(1, [SAMPLE], [9000]), gateway="gw-2")
    (alarm,) = api.ok("/v1/alarms")["alarms"]
    assert (alarm["kind"], alarm["reason"], alarm["device"]) == ("identity", "conflict", "fridge-1")
    assert (alarm["gateway"], alarm["seq"], alarm["times"]) == ("gw-2", 1, 1)
    assert [row["value"] for row in api.ok("/v1/readings", device="fridge-1")["readings"]] == [4001, 4002, 4003]
    metrics = api.get("/metrics").text
    assert 'isotherm_cloud_tag_alarms_total{device="fridge-1",reason="conflict",gateway="gw-2"} 1' in metrics
    assert "isotherm_cloud_rows_conflicting_total 1" in metrics


def test_a_record_that_was_evicted_meanwhile_is_no_clone(api: Api) -> None:
    api.send([1, 2])
    api.send(**columns(2, [11], [1], channel=255), gateway="gw-2")
    assert api.ok("/v1/alarms")["alarms"] == []


def test_silence_and_pages_over_all_kinds(tmp_path: Path) -> None:
    now_s = [0.0]
    limits = SilenceLimits(device_s=10, gateway_s=10)
    with Store(tmp_path, lambda: NOW_UNIX_MS, silence=limits, clock_s=lambda: now_s[0]) as store:
        api = Api(store)
        api.send([1, 2, 3])
        api.send(**columns(1, [SAMPLE], [9000]), gateway="gw-2")
        api.send(**columns(4, [HIGH_ON], [9000]))
        now_s[0] = 11.0
        store.look().result(timeout=20)
        whole = api.ok("/v1/alarms")["alarms"]
        names = [(a["kind"], a["device"] if a["kind"] != "silence" else a["device"] or a["gateway"]) for a in whole]
        assert names == [
            ("silence", "gw-2"), ("silence", "fridge-1"), ("silence", "gw-1"), ("identity", "fridge-1"),
            ("limit", "fridge-1"),
        ]  # fmt: skip
        for state in ("open", "all"):
            whole = api.ok("/v1/alarms", state=state)["alarms"]
            for limit in (1, 2, 3, 4, 5):
                assert api.all_of("alarms", "/v1/alarms", state=state, limit=limit) == whole
        assert 'isotherm_cloud_silent{kind="gateway"} 2' in api.get("/metrics").text
        assert api.ok("/v1/devices")["devices"][0]["silent_since"] == "2026-01-01T06:00:00.000Z"


# ---- bounds


def test_a_question_has_a_bounded_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.send(list(range(1, 5000)))
    monkeypatch.setattr(store_query.StoreQuery.__init__, "__defaults__", (-1.0,))
    monkeypatch.setattr(store_query, "_STEPS", 10)
    response = api.get("/v1/range", **CHANNEL | FROM)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "takes too long" in response.json()["detail"]


def test_too_many_questions_wait(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_tools.cloud.questions.WAITING_MAX", 0)
    response = api.get("/v1/devices")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def test_batches_come_in_while_a_reader_stands(store: Store, api: Api) -> None:
    api.send([1])
    with store.question() as answers, ThreadPoolExecutor(1) as other:
        points = answers.page("fridge-1", None, None, None, (0, 0), 10)
        other.submit(api.send, [2, 3]).result(timeout=20)
        assert len(points) == 1
    assert len(api.ok("/v1/readings", device="fridge-1")["readings"]) == 3


def test_several_at_once_are_answered_in_turn(api: Api) -> None:
    api.send([1])

    async def run() -> list[int]:
        transport = httpx.ASGITransport(api.receiver.app())
        async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as client:
            answers = await asyncio.gather(*(client.get("/v1/devices") for _ in range(20)))
        return [answer.status_code for answer in answers]

    assert asyncio.run(run()) == [200] * 20


PROMTOOL = find_promtool(uplink.ROOT / ".tools", os.environ)


@pytest.mark.skipif(not PROMTOOL, reason="NOT RUN: no promtool; `make setup ARGS=test` could not bring it")
def test_promtool_accepts_the_metrics(api: Api) -> None:
    api.send([1, 2])
    api.send(**columns(1, [SAMPLE], [9000]), gateway="gw-2")
    api.client.post(99, b"{")
    text = api.get("/metrics").text
    assert PROMTOOL
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
