"""Schemas of what the receiver answers, as OpenAPI 3.1 has them (JSON Schema 2020-12), and how they are put together.

A test holds every answer against its schema; objects have no members but these. It knows no path and no handler.
"""

from __future__ import annotations

from typing import Any

from host_tools.cloud.models import STATES
from host_tools.cloud.parameters import WHO_MAX, WHY_MAX
from isocore.record import FAULT_NAMES, KIND_NAMES

Schema = dict[str, Any]
_INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC"}
ID: Schema = {"type": "string", "pattern": "^[a-z0-9-]{1,32}$"}
_MILLI: Schema = {"type": "integer", "description": "milli-units: m°C, m%RH"}
_CHANNEL: Schema = {"type": "string", "description": "its name, or its number where no gateway told a name"}


def or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def object_of(about: str, **members: Schema) -> Schema:
    return {
        "type": "object",
        "description": about,
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def array_of(of: str) -> Schema:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{of}"}}


NEXT = or_null({"type": "string", "description": "`cursor` of the page after; null: this is the last"})
_FIGURES: dict[str, Schema] = {
    "least": or_null(_MILLI),
    "mean": or_null(_MILLI),
    "greatest": or_null(_MILLI),
    "last": or_null(_MILLI),
    "reports": COUNT,
    "covered_ms": COUNT,
    "alarm_ms": COUNT,
    "fault_ms": COUNT,
}
_POINT: dict[str, Schema] = {
    "time": or_null(TIME),
    "trusted": {**_FLAG, "description": "the board's own time; false: the gateway's estimate"},
    "boot": COUNT,
    "seq": COUNT,
    "kind": {"type": "string", "enum": list(KIND_NAMES[1:])},
    "value": {"type": "integer", "description": "milli-units in reports and alarms"},
    "trend": {"type": "integer", "description": "milli-units a minute"},
    "verdict": {**TEXT, "description": "what the board's tag says, docs/readings-security.md"},
}

_ENDS = ("off", "again", "boot", "heard", "acknowledged", "limit", "passed")

SCHEMAS: dict[str, Schema] = {
    "Problem": {
        **object_of(
            "RFC 9457; `parameter` names the one at fault, `error` is `detail` as gateways read it",
            type=TEXT,
            title=TEXT,
            status=_INTEGER,
            detail=TEXT,
            error=TEXT,
            parameter=TEXT,
        ),
        "required": ["type", "title", "status", "detail", "error"],
    },
    "Stored": object_of(
        "A batch is on the disk",
        gateway=ID,
        batch=COUNT,
        status={"type": "string", "enum": ["stored", "duplicate"]},
        rows=COUNT,
        new=COUNT,
    ),
    "NotStored": object_of("Nothing of this batch was stored", gateway=ID, batch=COUNT, error=TEXT),
    "Health": {
        **object_of("", status={"type": "string", "enum": ["ok", "failing"]}, error=TEXT),
        "required": ["status"],
    },
    "Device": object_of(
        "Something that readings came of",
        **{
            "id": ID,
            "class": or_null(TEXT),
            "channels": {
                "type": "array",
                "items": object_of("", number=COUNT, name=TEXT, unit=or_null(TEXT)),
            },
            "heard": or_null(TIME),
            "silent_since": or_null(TIME),
        },
    ),
    "Gateway": object_of(
        "`rows_today` and `bytes_today` are what quotas count, since midnight UTC",
        id=ID,
        heard=or_null(TIME),
        silent_since=or_null(TIME),
        posts=COUNT,
        bytes=COUNT,
        rows_today=COUNT,
        bytes_today=COUNT,
    ),
    "Latest": object_of(
        "The last report of one channel; `standing`: its alarms and faults that are on",
        device=ID,
        channel=_CHANNEL,
        unit=or_null(TEXT),
        **{name: schema for name, schema in _POINT.items() if name != "kind"},
        standing={"type": "array", "items": TEXT},
    ),
    "Reading": object_of("One row as stored", **_POINT, uptime_ms=COUNT, channel=or_null(_CHANNEL)),
    "Point": object_of("One report", **_POINT),
    "Window": object_of(
        "docs/windows.md; `source`: a gateway's window, or folded here from rows",
        start=TIME,
        **_FIGURES,
        source={"type": "string", "enum": ["gateway", "rows"]},
    ),
    "GatewayWindow": object_of(
        "A window as a gateway sent it, at its highest revision",
        start=TIME,
        channel=_CHANNEL,
        length_s=COUNT,
        revision=COUNT,
        **_FIGURES,
    ),
    "Analysis": object_of(
        "`place` says who made it; `matching` is false when the gateway had other windows than were here",
        start=TIME,
        gateway=ID,
        name=TEXT,
        length_s=COUNT,
        place={"type": "string", "enum": ["gateway", "cloud"]},
        matching={"type": "boolean"},
        foreseen={**COUNT, "description": "sensors that will cross a limit"},
        sensors=array_of("AnalysedSensor"),
    ),
    "AnalysedSensor": object_of(
        "docs/analysis.md; `sensor` is device id and channel number, times are in s from the window's end on",
        sensor=TEXT,
        value_milli=or_null(_MILLI),
        deviation_milli=or_null(_MILLI),
        score_milli=or_null(_MILLI),
        slope_milli_h=or_null(_MILLI),
        limit_milli=or_null(_MILLI),
        cross_s=or_null(COUNT),
        earliest_s=or_null(COUNT),
        latest_s=or_null(COUNT),
    ),
    "Model": object_of(
        "`sequence` is that of the state, `running` of the model in force or on trial: after a revert the one before",
        device=ID,
        gateway={**ID, "description": "who heard it"},
        state={"type": "string", "enum": list(STATES)},
        sequence=COUNT,
        running={**or_null(COUNT), "description": "0: none, the board's own limits; null: nobody knows"},
        id=or_null({"type": "string", "description": "the first 16 digits of the container's SHA-256"}),
        reason=or_null({"type": "string", "description": "why it was reverted or refused"}),
        since=or_null({**TIME, "description": "null: only the broker said so, of what it retained"}),
        heard=or_null(TIME),
    ),
    "Alarm": object_of(
        "`ended_by` is null while it stands; an identity alarm stands until it is acknowledged, and when it recurs",
        kind={"type": "string", "enum": ["silence", "identity", "limit", "fault", "foreseen"]},
        reason=TEXT,
        device=or_null(ID),
        gateway=or_null(ID),
        channel=or_null(_CHANNEL),
        value=or_null(_MILLI),
        fault={"type": ["string", "null"], "enum": [*FAULT_NAMES[1:], None]},
        boot=or_null(COUNT),
        seq=or_null(COUNT),
        since=or_null(TIME),
        until=or_null(TIME),
        ended_by={"type": ["string", "null"], "enum": [*_ENDS, None]},
        times=COUNT,
        acknowledgements={
            **array_of("Acknowledgement"),
            "description": "of an identity alarm, the latest first; at most 10",
        },
        crossing={"oneOf": [{"$ref": "#/components/schemas/Crossing"}, {"type": "null"}]},
    ),
    "Crossing": object_of(
        "A limit that an analysis foresees will be crossed; `in_s`: from now on, 0 when that time is past",
        analysis=TEXT,
        limit=_MILLI,
        at=or_null(TIME),
        earliest=or_null(TIME),
        latest=or_null({**TIME, "description": "null: perhaps not soon"}),
        in_s=COUNT,
    ),
    "Acknowledgement": object_of(
        "Somebody looked at an identity alarm; `times`: how many of it that was about",
        who=TEXT,
        why=TEXT,
        times=COUNT,
        at=TIME,
    ),
    "Acknowledge": {
        **object_of(
            "Which identity alarms, and who says why. Without `gateway`: by whichever; without `times`: all of it",
            device=ID,
            reason=TEXT,
            gateway=ID,
            times={"type": "integer", "minimum": 1},
            who={"type": "string", "minLength": 1, "maxLength": WHO_MAX},
            why={"type": "string", "minLength": 1, "maxLength": WHY_MAX},
        ),
        "required": ["device", "reason", "who", "why"],
    },
    "Acknowledged": object_of(
        "`new` is false for what was acknowledged before",
        acknowledged={
            "type": "array",
            "items": object_of("", device=ID, reason=TEXT, gateway=ID, times=COUNT, new=_FLAG),
        },
    ),
}
