"""A thread a sensor: asked for a reading, it answers when it has one; nobody waits for it longer than they want.

Bounds: one thread and one reading under way a sensor. A sensor that hangs keeps its thread and is not asked again until
it comes back; what it then says is thrown away, because it belongs to a round long past. Whatever a library raises is
kept as `failure`: it is a fault of this sensor, and of no other. It knows no filter and no time.
"""

from __future__ import annotations

import threading

from gateway.local.sensors import Reading, Sensor


class Worker:
    """Reads one sensor. `ask`, then `answer`."""

    def __init__(self, name: str, sensor: Sensor) -> None:
        self.name = name
        self.sensor = sensor
        self.failure: Exception | None = None
        self._asked = threading.Event()
        self._answered = threading.Condition()
        self._round = 0  # that was asked for last
        self._done = 0  # that was answered last
        self._readings: list[Reading] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"sensor-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End once the reading under way is over; does not wait for it."""
        self._stopping = True
        self._asked.set()

    @property
    def busy(self) -> bool:
        """A reading is under way."""
        return self._round != self._done

    def ask(self) -> bool:
        """Begin a reading. False when the one before is still under way."""
        with self._answered:
            if self.busy:
                return False
            self._round += 1
            self._readings = None
        self._asked.set()
        return True

    def answer(self, wait_s: float) -> list[Reading] | None:
        """What the reading asked for gave; None when it is not over within `wait_s`, or failed (then see `failure`)."""
        with self._answered:
            self._answered.wait_for(lambda: not self.busy, wait_s)
            return None if self.busy else self._readings

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._stopping:
                return
            readings: list[Reading] | None = None
            try:
                readings = self.sensor.read()
                self.failure = None
            except Exception as exc:
                self.failure = exc
            with self._answered:
                self._readings = readings
                self._done = self._round
                self._answered.notify_all()
