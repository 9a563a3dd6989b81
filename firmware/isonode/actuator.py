"""Alarm outputs: relay, LED or buzzer follow the alarm of one channel at once, with or without a network.

While the channel is in fault its alarm means nothing, so the output takes its configured safe state. Reads the
filter's flags, drives pins that it is given, allocates nothing per sample.
"""


class Output:
    """One pin. `on` is its logical state."""

    def __init__(self, setting, make_pin):
        """make_pin(number, level): an output pin that starts at `level`; called once, with the pin off."""
        self.channel = setting.channel
        self._high = "high" in setting.on
        self._low = "low" in setting.on
        self._rate = "rate" in setting.on
        self._active = setting.active
        self._safe = bool(setting.safe)
        self.on = False
        self._pin = make_pin(setting.pin, 1 - setting.active)

    def follow(self, state):
        """Take over the state of the channel's filter. Returns True if the pin changed."""
        if state.fault_code:
            on = self._safe
        else:
            on = (self._high and state.high) or (self._low and state.low) or (self._rate and state.rate)
        if on == self.on:
            return False
        self.on = on
        self._pin.value(self._active if on else 1 - self._active)
        return True
