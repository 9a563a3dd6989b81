"""What sensors make of a value."""

from __future__ import annotations

import pytest

from host_tools.sensing import Sensing


@pytest.mark.parametrize(("milli", "read"), [(21549, 21500), (21550, 21600), (-1, 0), (-50, -100), (-49, 0)])
def test_dht22_tenths(milli: int, read: int) -> None:
    assert Sensing("dht22", True).quantise_temp(milli) == read
    assert Sensing.quantise_humidity(abs(milli)) == abs(read)


@pytest.mark.parametrize(
    # The datasheet's own table: 125, 85, 25.0625, 10.125, 0.5, 0, -0.5, -10.125, -25.0625, -55 °C.
    ("milli", "read"),
    [(125000, 125000), (85000, 85000), (25063, 25062), (10125, 10125), (500, 500), (0, 0), (-500, -500),
     (-10125, -10125), (-25063, -25063), (-55000, -55000)],
)  # fmt: skip
def test_ds18b20_sixteenths(milli: int, read: int) -> None:
    assert Sensing("ds18b20", False).quantise_temp(milli) == read
