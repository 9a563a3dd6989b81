"""The stage of third-party devices: its connection to the broker, and what turns messages into records.

`session.json` in data_dir remembers what the broker's session was asked for: what is configured no more is
unsubscribed, and a session that nobody wants any longer is ended, or the broker would keep messages for it for ever. It
knows no store: records leave through gateway.own, and whoever commits tells of receipts.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway import durable
from gateway.config import Config
from gateway.messages import Committed
from gateway.metrics import Metrics
from gateway.mqtt_session import SessionLink, forget
from gateway.own import Own
from gateway.third_party.intake import Intake, Known
from gateway.tls import broker_context

log = logging.getLogger("isotherm.third_party")


class ThirdParty:
    """Made when there is a [third_party.NAME]. `start`, then `deafen` and `stop`."""

    def __init__(self, config: Config, own: Own, metrics: Metrics, known: Known, taken: Callable[[str], bool]) -> None:
        self._intake = Intake(
            config.third_party,
            own,
            metrics,
            known=known,
            taken=taken,
            release=lambda receipt: self._link.settle((receipt,)),
            json_bytes_max=config.ingest.json_bytes_max,
            full_wait_s=config.ingest.full_wait_s,
        )
        subscriptions = self._intake.subscriptions
        before = _remembered(config.session_path)
        broker = config.session_broker
        self._path = config.session_path
        self._subscriptions = subscriptions
        self._link = SessionLink(
            broker.host,
            broker.port,
            config.session_id,
            config.mqtt.keepalive_s,
            subscriptions,
            sorted(set(before) - set(subscriptions)),
            self._intake.handle,
            metrics,
            tls=broker_context(config, broker),
            backoff_max_s=config.mqtt.backoff_max_s,
        )

    def start(self) -> None:
        """Connect, for ever; returns at once."""
        _remember(self._path, self._subscriptions)
        self._link.start()

    @property
    def alive(self) -> bool:
        return self._link.alive

    @property
    def connected(self) -> bool:
        return self._link.connected

    def tune(self, config: Config) -> None:
        """Other bounds, from the next message on."""
        self._intake.tune(config.ingest.json_bytes_max, config.ingest.full_wait_s)

    def committed(self, news: Committed) -> None:
        """In the writer's thread, after each commit: what receipts stand for is durable."""
        if news.receipts:
            self._link.settle(news.receipts)

    def deafen(self) -> None:
        """Take no further message; what is committed yet may still be acknowledged."""
        self._link.deafen()

    def stop(self, flush_s: float) -> None:
        """Acknowledge what is durable, and end."""
        self._link.stop(flush_s)
        self._intake.stop()


def end_session(config: Config) -> None:
    """Nothing is configured: if a former start left a session at the broker, end it. Returns at once."""
    if not config.session_path.exists():
        return

    broker = config.session_broker
    tls = broker_context(config, broker)

    def end() -> None:
        if forget(broker.host, broker.port, config.session_id, tls):
            config.session_path.unlink(missing_ok=True)
            log.info("the broker's session for third-party devices is ended: none is configured")
        else:
            log.warning("the broker keeps a session for third-party devices that nobody wants; the next start ends it")

    threading.Thread(target=end, name="session-end", daemon=True).start()


def _remembered(path: Path) -> list[str]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [name for name in said if isinstance(name, str)] if isinstance(said, list) else []


def _remember(path: Path, subscriptions: Sequence[str]) -> None:
    try:
        durable.replace(path, json.dumps(subscriptions).encode("utf-8"))
    except OSError as exc:
        log.warning("%s cannot be written (%s); filters taken out of the configuration stay", path, exc.strerror)
