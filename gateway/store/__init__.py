"""The store: the only owner of SQLite.

`writer.Store` is the one writer; `reader.Reader` gives read-only views to whoever needs them. The store pushes
nothing but the news of a commit; it knows neither broker nor cloud.
"""

from __future__ import annotations

from gateway.store.reader import Reader
from gateway.store.writer import Store

__all__ = ["Reader", "Store"]
