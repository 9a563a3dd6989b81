"""What the gateway lets pass as a channel's name and unit, the receiver takes: else a whole batch would be refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.describe import channels_of
from host_tools.cloud import wire

EVERYTHING = st.one_of(st.text(max_size=70), st.none(), st.integers(), st.booleans(), st.lists(st.text(max_size=3)))
CHANNEL = st.fixed_dictionaries({"name": EVERYTHING, "unit": EVERYTHING})


@given(st.lists(CHANNEL, max_size=4))
def test_what_passes_is_taken(said: list[dict[str, object]]) -> None:
    channels = channels_of({"channels": said})
    if channels is None:
        return
    sent = [{"name": name, "unit": unit} for name, unit in channels]
    assert wire._devices([{"id": "a", "class": None, "channels": sent}])[0].channels == channels
