"""The receiver's OpenAPI 3.1 document: every route it serves, what each takes and answers.

A test holds it against the routes themselves, and every answer against its schema; objects have no members but these.
It knows no handler.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from host_tools.cloud.parameters import PAGE_DEFAULT, PAGE_MAX, RESOLUTIONS
from host_tools.cloud.windows import LENGTH_S_MAX
from host_tools.cloud.wire import CONTENT_TYPE, LANES
from isocore.record import FAULT_NAMES, KIND_NAMES

Schema = dict[str, Any]
_INTEGER: Schema = {"type": "integer"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC"}
_ID: Schema = {"type": "string", "pattern": "^[a-z0-9-]{1,32}$"}
_MILLI: Schema = {"type": "integer", "description": "milli-units: m°C, m%RH"}
_CHANNEL: Schema = {"type": "string", "description": "its name, or its number where no gateway told a name"}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _object(about: str, **members: Schema) -> Schema:
    return {
        "type": "object",
        "description": about,
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def _list(of: str) -> Schema:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{of}"}}


_NEXT = _or_null({"type": "string", "description": "`cursor` of the page after; null: this is the last"})
_FIGURES: dict[str, Schema] = {
    "least": _or_null(_MILLI),
    "mean": _or_null(_MILLI),
    "greatest": _or_null(_MILLI),
    "last": _or_null(_MILLI),
    "reports": _COUNT,
    "covered_ms": _COUNT,
    "alarm_ms": _COUNT,
    "fault_ms": _COUNT,
}
_POINT: dict[str, Schema] = {
    "time": _or_null(_TIME),
    "trusted": {**_FLAG, "description": "the board's own time; false: the gateway's estimate"},
    "boot": _COUNT,
    "seq": _COUNT,
    "kind": {"type": "string", "enum": list(KIND_NAMES[1:])},
    "value": {"type": "integer", "description": "milli-units in reports and alarms"},
    "trend": {"type": "integer", "description": "milli-units a minute"},
    "verdict": {**_TEXT, "description": "what the board's tag says, docs/readings-security.md"},
}

SCHEMAS: dict[str, Schema] = {
    "Problem": {
        **_object(
            "RFC 9457; `parameter` names the one at fault, `error` is `detail` as gateways read it",
            type=_TEXT,
            title=_TEXT,
            status=_INTEGER,
            detail=_TEXT,
            error=_TEXT,
            parameter=_TEXT,
        ),
        "required": ["type", "title", "status", "detail", "error"],
    },
    "Stored": _object(
        "A batch is on the disk",
        gateway=_ID,
        batch=_COUNT,
        status={"type": "string", "enum": ["stored", "duplicate"]},
        rows=_COUNT,
        new=_COUNT,
    ),
    "NotStored": _object("Nothing of this batch was stored", gateway=_ID, batch=_COUNT, error=_TEXT),
    "Health": {
        **_object("", status={"type": "string", "enum": ["ok", "failing"]}, error=_TEXT),
        "required": ["status"],
    },
    "Device": _object(
        "Something that readings came of",
        **{
            "id": _ID,
            "class": _or_null(_TEXT),
            "channels": {
                "type": "array",
                "items": _object("", number=_COUNT, name=_TEXT, unit=_or_null(_TEXT)),
            },
            "heard": _or_null(_TIME),
            "silent_since": _or_null(_TIME),
        },
    ),
    "Gateway": _object(
        "`rows_today` and `bytes_today` are what quotas count, since midnight UTC",
        id=_ID,
        heard=_or_null(_TIME),
        silent_since=_or_null(_TIME),
        posts=_COUNT,
        bytes=_COUNT,
        rows_today=_COUNT,
        bytes_today=_COUNT,
    ),
    "Latest": _object(
        "The last report of one channel; `standing`: its alarms and faults that are on",
        device=_ID,
        channel=_CHANNEL,
        unit=_or_null(_TEXT),
        **{name: schema for name, schema in _POINT.items() if name != "kind"},
        standing={"type": "array", "items": _TEXT},
    ),
    "Reading": _object("One row as stored", **_POINT, uptime_ms=_COUNT, channel=_or_null(_CHANNEL)),
    "Point": _object("One report", **_POINT),
    "Window": _object(
        "docs/windows.md; `source`: a gateway's window, or folded here from rows",
        start=_TIME,
        **_FIGURES,
        source={"type": "string", "enum": ["gateway", "rows"]},
    ),
    "GatewayWindow": _object(
        "A window as a gateway sent it, at its highest revision",
        start=_TIME,
        channel=_CHANNEL,
        length_s=_COUNT,
        revision=_COUNT,
        **_FIGURES,
    ),
    "Analysis": _object(
        "`place` says who made it; `matching` is false when the gateway had other windows than were here",
        start=_TIME,
        gateway=_ID,
        name=_TEXT,
        length_s=_COUNT,
        place={"type": "string", "enum": ["gateway", "cloud"]},
        matching={"type": "boolean"},
        foreseen={**_COUNT, "description": "sensors that will cross a limit"},
        sensors=_list("AnalysedSensor"),
    ),
    "AnalysedSensor": _object(
        "docs/analysis.md; `sensor` is device id and channel number, times are in s from the window's end on",
        sensor=_TEXT,
        value_milli=_or_null(_MILLI),
        deviation_milli=_or_null(_MILLI),
        score_milli=_or_null(_MILLI),
        slope_milli_h=_or_null(_MILLI),
        limit_milli=_or_null(_MILLI),
        cross_s=_or_null(_COUNT),
        earliest_s=_or_null(_COUNT),
        latest_s=_or_null(_COUNT),
    ),
    "Alarm": _object(
        "`ended_by` is null while it stands; an identity alarm stands for good",
        kind={"type": "string", "enum": ["silence", "identity", "limit", "fault"]},
        reason=_TEXT,
        device=_or_null(_ID),
        gateway=_or_null(_ID),
        channel=_or_null(_CHANNEL),
        value=_or_null(_MILLI),
        fault={"type": ["string", "null"], "enum": [*FAULT_NAMES[1:], None]},
        boot=_or_null(_COUNT),
        seq=_or_null(_COUNT),
        since=_or_null(_TIME),
        until=_or_null(_TIME),
        ended_by={"type": ["string", "null"], "enum": ["off", "again", "boot", "heard", None]},
        times=_COUNT,
    ),
}

_PARAMETERS: dict[str, Schema] = {
    "device": {"schema": _ID, "description": "a device's id"},
    "channel": {"schema": _TEXT, "description": "a channel's name, or its number"},
    "from": {"schema": _TIME, "description": "the first moment, with its offset"},
    "to": {"schema": _TIME, "description": "the moment after the last"},
    "resolution": {"schema": {"type": "string", "enum": list(RESOLUTIONS), "default": "raw"}},
    "length_s": {"schema": {"type": "integer", "minimum": 1, "maximum": LENGTH_S_MAX}},
    "state": {"schema": {"type": "string", "enum": ["open", "all"], "default": "open"}},
    "gateway": {"schema": _ID, "description": "a gateway's id"},
    "name": {"schema": _TEXT, "description": "an analysis' name"},
    "foreseen": {"schema": {"type": "string", "enum": ["all", "only"], "default": "all"}},
    "limit": {"schema": {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT}},
    "cursor": {"schema": _TEXT, "description": "`next` of the page before, with the same other parameters"},
}
_SPAN = ("device", "channel", "from", "to")
# path -> summary, parameters, those of them that are needed, what the answer holds beside `next`
_QUESTIONS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Schema]]] = {
    "/v1/devices": ("All devices, by name.", (), (), {"devices": _list("Device")}),
    "/v1/gateways": ("All gateways, by name.", (), (), {"gateways": _list("Gateway")}),
    "/v1/latest": (
        "The last report of every channel, of one device or of all (at most 100 devices a page).",
        ("device",),
        (),
        {"latest": _list("Latest")},
    ),
    "/v1/readings": (
        "All rows of a device, of every kind, in order of identity: to copy everything, also what has no time.",
        _SPAN,
        ("device",),
        {"device": _ID, "readings": _list("Reading")},
    ),
    "/v1/range": (
        "One channel over a span of time, the last day by default: reports, or windows of them.",
        (*_SPAN, "resolution"),
        ("device", "channel"),
        {
            "device": _ID,
            "channel": _TEXT,
            "unit": _or_null(_TEXT),
            "resolution": {"type": "string", "enum": list(RESOLUTIONS)},
            "points": {**_list("Point"), "description": "of resolution raw"},
            "windows": {**_list("Window"), "description": "of every other"},
        },
    ),
    "/v1/windows": (
        "Windows as gateways sent them.",
        (*_SPAN, "length_s"),
        ("device",),
        {"device": _ID, "windows": _list("GatewayWindow")},
    ),
    "/v1/analyses": (
        "What was found in a site's windows, the latest window first; `foreseen=only`: limits that will be crossed.",
        ("gateway", "name", "foreseen"),
        (),
        {"analyses": _list("Analysis")},
    ),
    "/v1/alarms": ("Alarms that stand, or all that were.", ("state",), (), {"alarms": _list("Alarm")}),
}


def document(served: Iterable[str]) -> dict[str, Any]:
    """The document of a listener that serves these paths."""
    paths = _paths()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Isotherm receiver",
            "version": version("isotherm"),
            "description": "Batches in (docs/uplink.md), questions out (docs/cloud.md). Values are milli-units.",
        },
        "paths": {path: paths[path] for path in served},
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> dict[str, Any]:
    found: dict[str, Any] = {
        "/healthz": {"get": _healthz()},
        "/v1/batches": {"post": _batches()},
        "/v1/members": {"put": _members()},
        "/metrics": {"get": _plain("Metrics in Prometheus's text format 0.0.4.", "text/plain", {"type": "string"})},
        "/openapi.json": {"get": _plain("This document.", "application/json", {"type": "object"})},
    }
    for path, (summary, parameters, needed, members) in _QUESTIONS.items():
        answer = _object("", **members, next=_NEXT)
        answer["required"] = [name for name in answer["required"] if path != "/v1/range" or name not in _EITHER]
        found[path] = {
            "get": {
                "summary": summary,
                "security": [{"bearer": []}, {}],
                "parameters": [_parameter(name, name in needed) for name in (*parameters, "limit", "cursor")],
                "responses": {
                    "200": _response("A page.", "application/json", answer),
                    **_problems(400, 401, *([404] if "device" in parameters else []), 503),
                },
            }
        }
    return found


_EITHER = ("points", "windows")


def _members() -> dict[str, Any]:
    """Of a receiver that knows its fleet's root."""
    refusals = {
        "400": "no list of this fleet, or not signed by its root",
        "403": "not an operator's certificate, or one that was withdrawn",
        "408": "too slow",
        "409": "older than the one in force",
        "413": "too large",
        "429": "too many",
        "503": "it cannot be kept",
    }
    return {
        "summary": "Who belongs to the fleet, signed by its root (isocore/access.py). In force when it is answered.",
        "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}},
        "responses": {
            "200": _response("In force.", "application/json", _object("", number={"type": "integer"})),
            **{status: {"description": text} for status, text in refusals.items()},
        },
    }


def _parameter(name: str, needed: bool) -> Schema:
    return {"name": name, "in": "query", "required": needed, **_PARAMETERS[name]}


def _response(about: str, media: str, schema: Schema) -> Schema:
    return {"description": about, "content": {media: {"schema": schema}}}


_ABOUT = {
    400: "Not to be understood; `parameter` names the one at fault in a question.",
    401: "A bearer token is needed, or another.",
    403: "The client's certificate is another gateway's, or no gateway's.",
    404: "No such device or channel.",
    408: "The body came too slowly.",
    413: "Larger than a batch may be.",
    415: "Another media type or encoding; `Accept-Encoding` says what is taken.",
    422: "A version of the body that this receiver does not know.",
    503: "Too many questions wait, or this one takes too long.",
}


def _problems(*statuses: int) -> dict[str, Schema]:
    problem = {"$ref": "#/components/schemas/Problem"}
    return {str(status): _response(_ABOUT[status], "application/problem+json", problem) for status in statuses}


def _plain(summary: str, media: str, schema: Schema) -> Schema:
    return {
        "summary": summary,
        "security": [{"bearer": []}, {}],
        "responses": {"200": _response(summary, media, schema), **_problems(401, 503)},
    }


def _healthz() -> Schema:
    health = {"$ref": "#/components/schemas/Health"}
    return {
        "summary": "Whether it takes batches. Needs no token.",
        "responses": {
            "200": _response("It does.", "application/json", health),
            "503": _response("The last commit failed: `error` says why.", "application/json", health),
        },
    }


def _batches() -> Schema:
    def header(name: str, about: str, **schema: Any) -> Schema:
        return {
            "name": name,
            "in": "header",
            "required": True,
            "description": about,
            "schema": {"type": "string", **schema},
        }

    refused = {"$ref": "#/components/schemas/NotStored"}
    either = {"oneOf": [refused, {"$ref": "#/components/schemas/Problem"}]}
    retry = {"Retry-After": {"schema": _COUNT, "description": "seconds"}}
    return {
        "summary": f"Store a batch of one of the lanes {', '.join(LANES)}; docs/uplink.md. Any number of times.",
        "security": [{"bearer": []}, {}],
        "parameters": [
            header("Isotherm-Gateway", "the gateway's id", pattern=_ID["pattern"]),
            header("Isotherm-Batch", "the batch's number", pattern="^[0-9]{1,16}$"),
            header("Isotherm-Digest", "of the body as sent", pattern="^sha-256=[0-9a-fA-F]{64}$"),
            header("Content-Encoding", "of the body", enum=["zstd", "gzip"]),
        ],
        "requestBody": {
            "required": True,
            "content": {CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        },
        "responses": {
            "200": _response("It is on the disk.", "application/json", {"$ref": "#/components/schemas/Stored"}),
            "409": _response("This number came with another digest before.", "application/json", refused),
            "429": {
                "description": "More than its rate, or than its day's quota; come again.",
                "headers": retry,
                "content": {
                    "application/json": {"schema": refused},
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
                },
            },
            "503": {**_response("Busy, or the disk fails; come again.", "application/json", either), "headers": retry},
            **_problems(400, 401, 403, 408, 413, 415, 422),
        },
    }
