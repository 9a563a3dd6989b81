"""What a board says of itself: counters, and the messages `meta`, `health` and `model/state`.

Each takes the app's Node and reads its stages; changes nothing but the counters. Makes garbage: not for the hot path.
"""

import json

from isocore import __version__ as FIRMWARE
from isocore import topics
from isonode import crash, hal, lazy
from isonode.health import message as health_message

FIRMWARE_VERSION = tuple([int(part) for part in FIRMWARE.split(".")])


def note(node):
    """What a person would want to know at once when it changes."""
    faults = 0
    for i in range(len(node.filters)):
        if node.filters[i].fault_code:
            faults |= 1 << i
    return (node.link.last_reason, faults)


def count(node):
    """Bring over the counters that other stages keep. Cheap: the supervisor may look at any time."""
    counters = node.counters
    node.outbox.fill_counters(counters)
    link = node.link
    counters["frames_sent"] = link.frames_sent
    counters["retransmits"] = link.retransmits
    counters["reconnects"] = link.connects - 1 if link.connects else 0
    counters["bad_messages"] = link.bad_messages + node.session.reader.oversized
    counters["models_applied"] = node.models.applied
    counters["model_sequence"] = node.models.sequence


def message(node, leaf):
    """The bytes of a retained message, made when it is about to be sent: a kilobyte is not kept for that."""
    if leaf == topics.META:
        return meta(node)
    if leaf == topics.HEALTH:
        return health(node)
    return json.dumps(node.models.state).encode()


def health(node):
    """The counters and what a person asks for first."""
    from isonode import capacity

    days = capacity.outbox_days(node)
    del capacity
    lazy.forget("isonode.capacity")
    more = {
        "reset": hal.RESET_NAMES[node.cause],
        "mode": "safe" if node.safe else "normal",
        "crashes": node.crashes,
        "config_error": node.settings.config_error,
        "link_error": node.link.last_error or None,
        "crash": crash.last_line() or None,
        "wake_ms": node.sleeper.wake_ms if node.sleeper else None,
        "radio_ms": node.sleeper.radio_ms if node.sleeper else None,
        "time_source": ("none", "rtc", "gateway", "sntp")[node.clock.source],
        "time_steps": node.clock.resyncs,
        "rssi_dbm": hal.rssi_dbm(),
        "largest_block_bytes": hal.largest_block_bytes(),
        "idf_heap_free_bytes": hal.idf_heap_free_bytes(),
        "flash_free_bytes": hal.flash_free_bytes(),
        "outbox_days": days,
    }
    return health_message(node.counters, node.clock.s, more)


def meta(node):
    """The board's description, published at every connect."""
    settings = node.settings
    body = {
        "v": 1,
        "board": settings.board,
        "class": settings.device_class,
        "fleet": settings.fleet,
        "firmware": FIRMWARE,
        "mode": "safe" if node.safe else "normal",
        "boot": node.boot,
        "floor": None if node.fresh else list(node.outbox.floor()),
        "channels": [{"name": c.name, "unit": c.unit, "kind": c.kind} for c in settings.channels],
    }
    return json.dumps(body).encode()
