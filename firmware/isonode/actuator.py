"""Alarm outputs: relay, LED or buzzer follow the alarms of one channel at once, with or without a network.

    following   on while one of its alarms stands
    latching    on from the first alarm until it is released, and then still while an alarm stands
    fault       while the channel is in fault its alarms mean nothing: what is not latched takes the safe state; while
                it is stuck they still count, and a safe state of 1 is added
    release     a button or a power cycle ends a latch. A buzzer's button also silences it until its alarms have ended

Reads the filter's flags, drives its pins, allocates nothing per sample. Latches outlive every reset but a power cycle,
in a small file that is written when one changes. Knows no model and no clock but the ticks that it is given.
"""

from isonode import durable

LATCH_PATH = "/latch.bin"
_MAGIC = b"IBO1"
_BUTTON_MS = 50  # how often a release button is looked at while its output is on


class Outputs:
    """All outputs of a board, in the order of the settings."""

    def __init__(self, settings, hal, latch_path=LATCH_PATH):
        self._outputs = [Output(setting, hal) for setting in settings]
        self._path = latch_path
        self._kept = 0  # the latches that the file holds, a bit each
        self.io_errors = 0

    def restore(self, power_on):
        """After a boot: take the latches up again, or, when the power was off, forget them."""
        data = durable.load(self._path, _MAGIC) or b"\0"
        self._kept = data[0]
        for i, output in enumerate(self._outputs):
            if not power_on and self._kept >> i & 1:
                output.latch()

    def follow(self, channel, state):
        """A sample or a fault of `channel` went through its filter `state`."""
        for output in self._outputs:
            if output.channel == channel:
                output.follow(state)

    def step(self, now):
        """Buttons and blinking; `now` are the board's ticks."""
        for output in self._outputs:
            if output.live:
                output.step(now)

    def sooner_ms(self, now, due_ms):
        """Milliseconds until `step` is worth calling, or `due_ms` if that is less; -1 for either means never."""
        for output in self._outputs:
            if output.live:
                wait_ms = output.wait_ms(now)
                if due_ms < 0 or wait_ms < due_ms:
                    due_ms = wait_ms
        return due_ms

    def keep(self):
        """Write the latches down if they have changed. May allocate and takes a flash write: not for the hot path."""
        latches = 0
        bit = 1
        for output in self._outputs:
            if output.latched:
                latches |= bit
            bit <<= 1
        if latches == self._kept:
            return
        self._kept = latches  # one try a change: a flash that fails is not written in every turn
        try:
            durable.save(self._path, _MAGIC, bytes((latches,)))
        except OSError:
            self.io_errors += 1


class Output:
    """One pin. `on` is its logical state; a blinking one is on in both halves of its period."""

    def __init__(self, setting, hal):
        """Its pin starts off."""
        self.channel = setting.channel
        self._hal = hal
        self._high = "high" in setting.on
        self._low = "low" in setting.on
        self._rate = "rate" in setting.on
        self._active = setting.active
        self._safe = bool(setting.safe)
        self._latching = setting.latching
        self._may_silence = setting.kind == "buzzer"
        self._blink_ms = setting.blink_ms
        self._release_level = setting.release_level
        self._button = None
        if setting.release_pin is not None:
            self._button = hal.pin_open(setting.release_pin)
            self._button.init(
                self._button.IN, self._button.PULL_DOWN if setting.release_level else self._button.PULL_UP
            )
        self.on = False
        self.latched = False
        self._wanted = False  # what alarms and faults ask for, latch and silence aside
        self._silenced = False
        self._lit = False
        self._since = 0  # ticks of the last change of a blinking pin
        self._pin = hal.pin_out(setting.pin, 1 - setting.active)

    @property
    def live(self):
        """It wants `step` between samples: it blinks, or has a button that could do something."""
        return self.on and (self._blink_ms > 0 or self._button is not None)

    def follow(self, state):
        """Take over the state of the channel's filter. Returns True if `on` changed."""
        alarm = (self._high and state.high) or (self._low and state.low) or (self._rate and state.rate)
        if state.fault_code:
            wanted = self._safe
        else:
            wanted = alarm or (state.stuck and self._safe)
            if alarm and self._latching:
                self.latched = True
        self._wanted = wanted
        if not wanted and not alarm:
            self._silenced = False
        return self._settle()

    def step(self, now):
        """Look at the button and go on blinking; `now` are the board's ticks."""
        if self._button is not None and self._button.value() == self._release_level:
            self.release()
        if self._blink_ms and self.on and self._hal.ticks_diff(now, self._since) >= self._blink_ms:
            self._since = now
            self._light(not self._lit)

    def wait_ms(self, now):
        """Milliseconds until `step` is worth calling, while `live`."""
        if not self._blink_ms:
            return _BUTTON_MS
        left = self._blink_ms - self._hal.ticks_diff(now, self._since)
        left = left if left > 0 else 0
        return left if self._button is None else min(left, _BUTTON_MS)

    def latch(self):
        """On until released: a latch from before a reset."""
        self.latched = True
        self._settle()

    def release(self):
        """End the latch; a buzzer falls silent until its alarms have ended."""
        self.latched = False
        self._silenced = self._may_silence and self._wanted
        self._settle()

    def _settle(self):
        on = (self._wanted or self.latched) and not self._silenced
        if on == self.on:
            return False
        self.on = on
        self._since = self._hal.ticks_ms() if self._blink_ms else 0
        self._light(on)
        return True

    def _light(self, lit):
        self._lit = lit
        self._pin.value(self._active if lit else 1 - self._active)
