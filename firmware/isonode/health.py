"""Health: the board's counters and the retained message made of them.

Published once in `period_s`, and when something changed that a person would want to know. Knows the names of the
counters and nothing of how they come about.
"""

import json

COUNTERS = (
    "boot",
    "sampled",
    "sent",  # reports put in the outbox
    "suppressed",  # samples without a report, or not yet
    "events_sent",
    "evicted",  # reports
    "events_evicted",
    "acked",  # reports
    "events_acked",
    "alarms",
    "faults",
    "missed",  # samples that no sensor could be asked for in time
    "models_applied",
    "model_sequence",
    "outbox",  # records held
    "frames_sent",
    "retransmits",
    "reconnects",
    "bad_messages",
    "model_io_errors",
    "free_heap_bytes",
    "lateness_max_ms",
)


def new_counters(boot):
    """All counters, at zero; keys are never added later, so that counting allocates nothing."""
    counters = dict.fromkeys(COUNTERS, 0)
    counters["boot"] = boot
    return counters


_CHANGE_S = 60


class Health:
    """Decides when a health message is due, on the board's clock.

    A change is one of the note: why the link last failed, the mode, the channels in fault. A link that fails in turns
    for two reasons, or a sensor with a loose contact, changes it all the time: so at most one message in _CHANGE_S.
    """

    def __init__(self, period_s):
        self._period_s = period_s
        self._last_s = 0
        self._last_note = None

    def due(self, now_s, note):
        """True when a message must be published now; counts as done then."""
        if self._last_note is not None:
            waited_s = now_s - self._last_s
            if waited_s < (self._period_s if note == self._last_note else min(_CHANGE_S, self._period_s)):
                return False
        self._last_s = now_s
        self._last_note = note
        return True


def message(counters, uptime_s, more):
    """The message's bytes: counters, uptime and `more` (a dict), without what is None."""
    body = {"v": 1, "uptime_s": uptime_s}
    body.update(counters)
    for name in more:
        if more[name] is not None:
            body[name] = more[name]
    return json.dumps(body).encode()
