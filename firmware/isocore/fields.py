"""The fields of a channel in a threshold model: bounds and defaults.

Apart from model.py because a board needs the table only while it makes or reads a model. Must not know what they do.
"""

from isocore.record import VALUE_MAX

# field: (lowest, highest, default); None: no limit. Temperatures and humidities in milli-units (m degC, m%RH).
FIELDS = {
    "high_on_milli": (-VALUE_MAX, VALUE_MAX, None),
    "high_off_milli": (-VALUE_MAX, VALUE_MAX, None),
    "low_on_milli": (-VALUE_MAX, VALUE_MAX, None),
    "low_off_milli": (-VALUE_MAX, VALUE_MAX, None),
    "debounce_samples": (1, 1000, 1),
    "rate_limit_milli_min": (0, 250000, 0),
    "valid_min_milli": (-VALUE_MAX, VALUE_MAX, -VALUE_MAX),
    "valid_max_milli": (-VALUE_MAX, VALUE_MAX, VALUE_MAX),
    "stuck_s": (0, 10000000, 0),
    "error_milli": (0, VALUE_MAX, 100),
    "heartbeat_s": (0, 10000000, 0),
    "trend_s": (0, 86400, 0),
    "lead_pct": (-50, 90, 0),
    "lead_after": (0, 4, 0),
    "delay_s": (0, 300, 0),
    "fit_pct": (0, 200, 0),
    "min_interval_s": (0, 3600, 0),
    "window_s": (0, 86400, 0),
}
