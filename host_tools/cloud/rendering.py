"""What the query API shows of one row, alarm or state: members of JSON objects, as `schemas.py` has them.

Times become RFC 3339 and channels their names. It knows no request and no page.
"""

from __future__ import annotations

from typing import Any

from host_tools.cloud.answers import FAULTS, Alarm, Crossing, DeviceState
from host_tools.cloud.parameters import rfc_3339
from host_tools.cloud.ports import Answers
from host_tools.cloud.store_models import DeviceModel
from host_tools.cloud.store_read import StoredReading
from isocore.record import BOARD_CHANNEL, FAULT_NAMES, KIND_NAMES

Answer = dict[str, Any]


def name_of(names: dict[int, str], channel: int | None) -> str | None:
    """A channel's name, or its number where no gateway told its name; None: the board itself."""
    return None if channel in (None, BOARD_CHANNEL) else names.get(channel or 0, str(channel))


def reading(row: StoredReading, names: dict[int, str]) -> Answer:
    return {
        "time": rfc_3339(row.unix_ms),
        "trusted": row.trusted,
        "boot": row.boot,
        "seq": row.seq,
        "uptime_ms": row.uptime_ms,
        "kind": KIND_NAMES[row.kind],
        "channel": name_of(names, row.channel),
        "value": row.value,
        "trend": row.trend,
        "verdict": row.verdict,
    }


def latest_rows(store: Answers, state: DeviceState) -> list[Answer]:
    named = {number: (name, unit) for number, name, unit in state.info.channels}
    return [
        {
            "device": state.info.name,
            "channel": named.get(row.channel, (str(row.channel), None))[0],
            "unit": named.get(row.channel, (None, None))[1],
            "time": rfc_3339(row.unix_ms),
            "trusted": row.trusted,
            "value": row.value,
            "trend": row.trend,
            "boot": row.boot,
            "seq": row.seq,
            "verdict": row.verdict,
            "standing": [alarm.reason for alarm in store.standing(state.number, row.channel)],
        }
        for row in store.latest(state.number, set(named))
    ]


def alarm(one: Alarm, names: dict[int, str], now_unix_ms: int) -> Answer:
    fault = one.kind == FAULTS and one.value is not None and 0 < one.value < len(FAULT_NAMES)
    return {
        "kind": one.kind,
        "reason": one.reason,
        "device": one.device,
        "gateway": one.gateway,
        "channel": name_of(names, one.channel),
        "value": None if one.kind == FAULTS else one.value,
        "fault": FAULT_NAMES[one.value or 0] if fault else None,
        "boot": one.boot,
        "seq": one.seq,
        "since": rfc_3339(one.since_unix_ms),
        "until": rfc_3339(one.until_unix_ms),
        "ended_by": one.ended_by,
        "times": one.times,
        "acknowledgements": [
            {"who": ack.who, "why": ack.why, "times": ack.times, "at": rfc_3339(ack.unix_ms)}
            for ack in one.acknowledgements
        ],
        "crossing": one.crossing and _crossing(one.crossing, now_unix_ms),
    }


def _crossing(crossing: Crossing, now_unix_ms: int) -> Answer:
    return {
        "analysis": crossing.analysis,
        "limit": crossing.limit_milli,
        "at": rfc_3339(crossing.unix_ms),
        "earliest": rfc_3339(crossing.earliest_unix_ms),
        "latest": rfc_3339(crossing.latest_unix_ms),
        "in_s": max(0, (crossing.unix_ms - now_unix_ms) // 1000),
    }


def model(one: DeviceModel) -> Answer:
    return {
        "device": one.device,
        "gateway": one.gateway,
        "state": one.state,
        "sequence": one.sequence,
        "running": one.running,
        "id": one.id,
        "reason": one.reason,
        "since": rfc_3339(one.since_unix_ms),
        "heard": rfc_3339(one.heard_unix_ms),
    }
