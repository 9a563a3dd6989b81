"""Sensors: one small file per driver, one interface.

A sensor object has `channels` (their numbers), `values` (m degC or m%RH) and `faults` (0 or FAULT_*), in step, and

    start(now)    begin a reading; `now` are the board's ticks
    wait_ms(now)  milliseconds until `read` is worth calling, 0 when it is
    read(now)     one bounded step; True when `values` and `faults` are final, False when it wants to be called again

None of them raises, waits, or allocates on the good path as far as the image's driver does not. `values[i]` is only
meaningful where `faults[i]` is 0. Retries are bounded and happen at a later step. Sensors know no filter and no clock
but the ticks that they are given; `make` alone knows all the drivers, and loads those that are configured.
"""


def make(settings, hal):
    """Sensor objects for the configured ones. Sensors on the same pins share a bus."""
    buses = {}
    return [_make_one(setting, hal, buses) for setting in settings]


def _make_one(setting, hal, buses):
    kind = setting.kind
    if kind == "chip":
        from isonode.sensors.chip import Chip

        return Chip(setting, hal)
    if kind in ("dht22", "dht11"):
        from isonode.sensors.dhtxx import Dht

        return Dht(setting, hal)
    if kind == "ds18b20":
        from isonode.sensors.ds18b20 import Bus, Ds18b20

        if setting.pin not in buses:
            buses[setting.pin] = Bus(setting.pin, hal)
        return Ds18b20(setting, buses[setting.pin], hal)
    from isonode.sensors.i2c import Bus

    pins = (setting.scl, setting.sda)
    if pins not in buses:
        buses[pins] = Bus(pins[0], pins[1], hal)
    if kind == "bme280":
        from isonode.sensors.bme280 import Bme280

        return Bme280(setting, buses[pins], hal)
    if kind in ("sht3x", "sht4x"):
        from isonode.sensors.sht import Sht

        return Sht(setting, buses[pins], hal)
    from isonode.sensors.tmp1xx import Tmp1xx

    return Tmp1xx(setting, buses[pins], hal)
