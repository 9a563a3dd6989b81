"""Health: the board's counters and the retained message made of them.

Published at most once in `period_s`, and at once when the note changes (the last error, the reset cause). Knows the
names of the counters and nothing of how they come about.
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


class Health:
    """Decides when a health message is due, on the board's clock, and writes it."""

    def __init__(self, period_s):
        self._period_s = period_s
        self._last_s = 0
        self._last_note = None

    def due(self, now_s, note):
        """True when a message must be published now; counts as done then."""
        if self._last_note is not None and note == self._last_note and now_s - self._last_s < self._period_s:
            return False
        self._last_s = now_s
        self._last_note = note
        return True

    @staticmethod
    def message(counters, uptime_s, more):
        """The message's bytes: counters, uptime and `more` (a dict), without what is None."""
        body = {"v": 1, "uptime_s": uptime_s}
        body.update(counters)
        for name in more:
            if more[name] is not None:
                body[name] = more[name]
        return json.dumps(body).encode()
