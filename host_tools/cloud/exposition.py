"""The receiver's metrics in Prometheus's text format 0.0.4, each with its help. It knows no HTTP.

Totals are the store's own, kept in the transactions they count, so that they survive a restart; requests refused before
they came to the store are counted since the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from host_tools.cloud.ports import Answers

PREFIX = "isotherm_cloud_"
HELP = {
    "batches_stored": "Batches stored.",
    "batches_repeated": "Batches that were stored already, by number and digest.",
    "batches_conflicting": "Batches whose number had come with another digest.",
    "batches_over_quota": "Batches put off because their gateway had spent its day's quota.",
    "rows_received": "Rows in stored batches.",
    "rows_new": "Rows that were not there before.",
    "rows_duplicate": "Rows whose identity was stored with the same content.",
    "rows_conflicting": "Rows whose identity was stored with other content: a clone, or a changed reading.",
    "windows_received": "Windows in stored batches.",
    "windows_taken": "Windows that were new, or of a higher revision.",
    "models_received": "States of models in stored batches.",
    "models_taken": "States that were new, or of a higher revision.",
}
_ALWAYS = ("batches_stored", "batches_repeated", "batches_conflicting", "batches_over_quota", "rows_received")
_ROWS = ("rows_new", "rows_duplicate", "rows_conflicting")


def text(query: Answers, refused: Mapping[str, int], refused_bytes: int, waiting: int) -> str:
    """The page."""
    totals = dict.fromkeys((*_ALWAYS, *_ROWS), 0) | query.counters()
    lines: list[str] = []
    for name, value in sorted(totals.items()):
        if name not in ("bytes_uplink", "posts"):
            about = HELP.get(name, f"Running total of {name.replace('_', ' ')} (docs/readings-security.md).")
            lines += _family(f"{name}_total", "counter", about, [({}, value)])
    uplink = [({"gateway": name}, size) for name, size in query.bytes_per_gateway().items()]
    lines += _family("uplink_bytes_total", "counter", "Bytes of answered requests, heads included.", uplink)
    reasons = [({"reason": reason}, count) for reason, count in sorted(refused.items())]
    lines += _family("refused_requests_total", "counter", "Requests refused since the start, by reason.", reasons)
    lines += _family(
        "refused_bytes_total", "counter", "Bytes of those refused before the store.", [({}, refused_bytes)]
    )
    lines += _family("store_waiting_batches", "gauge", "Batches that wait to be stored.", [({}, waiting)])
    lines += _family(
        "frames_waiting", "gauge", "Tagged frames of which rows are missing.", [({}, query.frames_waiting())]
    )
    told = [
        ({"device": alarm.device, "reason": alarm.reason, "gateway": alarm.gateway}, alarm.times)
        for alarm in query.alarms()
    ]
    about = "Alarms about whose readings these are: conflict, and what tags tell."
    lines += _family("tag_alarms_total", "counter", about, told)
    standing = [({"reason": reason}, number) for reason, number in sorted(query.identity_alarms().items())]
    about = "Identity alarms that stand: nobody acknowledged them, or there was another since."
    lines += _family("identity_alarms_standing", "gauge", about, standing)
    silent = [({"kind": kind}, number) for kind, number in sorted(query.silent().items())]
    lines += _family("silent", "gauge", "Devices and gateways that are silent for too long.", silent)
    models = [({"state": state}, number) for state, number in sorted(query.models_by_state().items())]
    lines += _family("models", "gauge", "Devices by what they last said of their model.", models)
    return "\n".join(lines) + "\n"


def _family(name: str, kind: str, about: str, samples: Iterable[tuple[Mapping[str, str], int]]) -> list[str]:
    """Help, type and samples. Labels are names of ours ([a-z0-9_-]), so nothing in them needs an escape."""
    lines = [f"# HELP {PREFIX}{name} {about}", f"# TYPE {PREFIX}{name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{of}"' for label, of in labels.items())
        lines.append(f"{PREFIX}{name}{{{inside}}} {value}" if inside else f"{PREFIX}{name} {value}")
    return lines
