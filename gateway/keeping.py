"""From the configuration's [store] to the store's own policy: units and nothing else."""

from __future__ import annotations

from gateway.config.base import StoreConfig
from gateway.store import Keep

_DAY_S = 86_400


def keep_of(store: StoreConfig) -> Keep:
    """How much the store keeps, and for how long."""
    return Keep(
        segment_rows=store.segment_rows,
        segment_age_s=store.segment_age_s,
        max_bytes=store.max_mib << 20,
        max_age_s=store.max_days * _DAY_S,
        uploaded_age_s=store.uploaded_days * _DAY_S,
        thin_window_s=store.thin_window_s,
        check_every_s=store.segment_check_s,
        reserve_bytes=store.reserve_mib << 20,
    )
