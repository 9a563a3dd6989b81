"""The receiver's OpenAPI 3.1 document: every route it serves, what each takes and answers.

A test holds it against the routes themselves. Schemas of answers are in `schemas.py`. It knows no handler.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from host_tools.cloud.models import STATES
from host_tools.cloud.parameters import PAGE_DEFAULT, PAGE_MAX, RESOLUTIONS
from host_tools.cloud.schemas import COUNT, ID, NEXT, SCHEMAS, TEXT, TIME, Schema, array_of, object_of, or_null
from host_tools.cloud.windows import LENGTH_S_MAX
from host_tools.cloud.wire import CONTENT_TYPE, LANES

_PARAMETERS: dict[str, Schema] = {
    "device": {"schema": ID, "description": "a device's id"},
    "channel": {"schema": TEXT, "description": "a channel's name, or its number"},
    "from": {"schema": TIME, "description": "the first moment, with its offset"},
    "to": {"schema": TIME, "description": "the moment after the last"},
    "resolution": {"schema": {"type": "string", "enum": list(RESOLUTIONS), "default": "raw"}},
    "length_s": {"schema": {"type": "integer", "minimum": 1, "maximum": LENGTH_S_MAX}},
    "state": {"schema": {"type": "string", "enum": ["open", "all"], "default": "open"}},
    "model_state": {"name": "state", "schema": {"type": "string", "enum": ["any", *STATES], "default": "any"}},
    "changes": {"schema": {"type": "string", "enum": ["latest", "all"], "default": "latest"}},
    "gateway": {"schema": ID, "description": "a gateway's id"},
    "name": {"schema": TEXT, "description": "an analysis' name"},
    "foreseen": {"schema": {"type": "string", "enum": ["all", "only"], "default": "all"}},
    "limit": {"schema": {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT}},
    "cursor": {"schema": TEXT, "description": "`next` of the page before, with the same other parameters"},
}
_SPAN = ("device", "channel", "from", "to")
# path -> summary, parameters, those of them that are needed, what the answer holds beside `next`
_QUESTIONS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Schema]]] = {
    "/v1/devices": ("All devices, by name.", (), (), {"devices": array_of("Device")}),
    "/v1/gateways": ("All gateways, by name.", (), (), {"gateways": array_of("Gateway")}),
    "/v1/latest": (
        "The last report of every channel, of one device or of all (at most 100 devices a page).",
        ("device",),
        (),
        {"latest": array_of("Latest")},
    ),
    "/v1/readings": (
        "All rows of a device, of every kind, in order of identity: to copy everything, also what has no time.",
        _SPAN,
        ("device",),
        {"device": ID, "readings": array_of("Reading")},
    ),
    "/v1/range": (
        "One channel over a span of time, the last day by default: reports, or windows of them.",
        (*_SPAN, "resolution"),
        ("device", "channel"),
        {
            "device": ID,
            "channel": TEXT,
            "unit": or_null(TEXT),
            "resolution": {"type": "string", "enum": list(RESOLUTIONS)},
            "points": {**array_of("Point"), "description": "of resolution raw"},
            "windows": {**array_of("Window"), "description": "of every other"},
        },
    ),
    "/v1/windows": (
        "Windows as gateways sent them.",
        (*_SPAN, "length_s"),
        ("device",),
        {"device": ID, "windows": array_of("GatewayWindow")},
    ),
    "/v1/analyses": (
        "What was found in a site's windows, the latest window first; `foreseen=only`: limits that will be crossed.",
        ("gateway", "name", "foreseen"),
        (),
        {"analyses": array_of("Analysis")},
    ),
    "/v1/models": (
        "The last state of each device's model, by the device's name; `changes=all`: all that are kept, latest first.",
        ("device", "model_state", "changes"),
        (),
        {"models": array_of("Model")},
    ),
    "/v1/alarms": ("Alarms that stand, or all that were.", ("state",), (), {"alarms": array_of("Alarm")}),
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
        "/v1/alarms/acknowledge": {"post": _acknowledge()},
        "/metrics": {"get": _plain("Metrics in Prometheus's text format 0.0.4.", "text/plain", {"type": "string"})},
        "/openapi.json": {"get": _plain("This document.", "application/json", {"type": "object"})},
    }
    for path, (summary, parameters, needed, members) in _QUESTIONS.items():
        answer = object_of("", **members, next=NEXT)
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
            "200": _response("In force.", "application/json", object_of("", number={"type": "integer"})),
            **{status: {"description": text} for status, text in refusals.items()},
        },
    }


def _acknowledge() -> dict[str, Any]:
    """Of the listener for questions, where it is apart."""
    done = _response("Noted, and on the disk.", "application/json", {"$ref": "#/components/schemas/Acknowledged"})
    asked = {"application/json": {"schema": {"$ref": "#/components/schemas/Acknowledge"}}}
    return {
        "summary": "Say that identity alarms were looked at. Any number of times; nothing of them is taken away.",
        "security": [{"bearer": []}, {}],
        "requestBody": {"required": True, "content": asked},
        "responses": {"200": done, **_problems(400, 401, 404, 408, 413, 415, 503)},
    }


def _parameter(name: str, needed: bool) -> Schema:
    return {"name": name, "in": "query", "required": needed} | _PARAMETERS[name]


def _response(about: str, media: str, schema: Schema) -> Schema:
    return {"description": about, "content": {media: {"schema": schema}}}


_ABOUT = {
    400: "Not to be understood; `parameter` names the one at fault in a question.",
    401: "A bearer token is needed, or another.",
    403: "The client's certificate is another gateway's, or no gateway's.",
    404: "No such device, channel or alarm.",
    408: "The body came too slowly.",
    413: "Larger than it may be.",
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
    retry = {"Retry-After": {"schema": COUNT, "description": "seconds"}}
    return {
        "summary": f"Store a batch of one of the lanes {', '.join(LANES)}; docs/uplink.md. Any number of times.",
        "security": [{"bearer": []}, {}],
        "parameters": [
            header("Isotherm-Gateway", "the gateway's id", pattern=ID["pattern"]),
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
