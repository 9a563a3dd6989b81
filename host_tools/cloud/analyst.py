"""Runs what gateways ask the receiver to run, behind the writer: one thread with a connection of its own.

What is due lies in the store, so a kill loses nothing: it is due again. It knows no HTTP.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType

from host_tools.cloud.store_analyses import AnalysisStore
from host_tools.errors import StoreError

log = logging.getLogger("isotherm.cloud.analyst")

LOOK_S = 1.0
_TROUBLE_S = 10.0


class Analyst:
    """A context manager: works from entering to leaving it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cloud-analyst")

    def __enter__(self) -> Analyst:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with AnalysisStore(self._path) as store:
                    while not self._stop.is_set():
                        if not store.work_off(1):
                            self._stop.wait(LOOK_S)
            except StoreError as error:
                log.error("%s; what is due is tried again", error)
                self._stop.wait(_TROUBLE_S)
