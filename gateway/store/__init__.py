"""The store: the only owner of SQLite.

`writer.Store` is the one writer, with `keeper.Keeper` beside it, which moves rows into segment files and lets them
leave; `reader.Reader` gives read-only views to whoever needs them. The store pushes nothing but the news of a
commit and of its own state; it knows neither broker nor cloud.
"""

from __future__ import annotations

from gateway.store.aggregates import WindowReader
from gateway.store.alarms import AlarmReader
from gateway.store.analyses import AnalysisReader
from gateway.store.reader import Reader
from gateway.store.retention import Keep
from gateway.store.writer import Store

__all__ = ["AlarmReader", "AnalysisReader", "Keep", "Reader", "Store", "WindowReader"]
