"""Sensors: one small file per driver, one interface.

A sensor object has `channels` (their numbers), `values` (m degC or m%RH) and `faults` (0 or FAULT_*), in step, and

    start(now)    begin a reading; `now` are the board's ticks
    wait_ms(now)  milliseconds until `read` is worth calling, 0 when it is
    read(now)     one bounded step; True when `values` and `faults` are final, False when it wants to be called again

None of them raises, waits, or allocates on the good path as far as the image's driver does not. `values[i]` is only
meaningful where `faults[i]` is 0. Retries are bounded and happen at a later step. Sensors know no filter and no clock
but the ticks that they are given; `make` alone knows all the drivers.
"""


def make(settings, hal):
    """Sensor objects for the configured ones. Sensors on one 1-Wire pin share its bus."""
    made = []
    buses = {}
    for setting in settings:
        if setting.kind == "dht22":
            from isonode.sensors.dht22 import Dht22

            made.append(Dht22(setting, hal))
        elif setting.kind == "ds18b20":
            from isonode.sensors.ds18b20 import Bus, Ds18b20

            if setting.pin not in buses:
                buses[setting.pin] = Bus(setting.pin, hal)
            made.append(Ds18b20(setting, buses[setting.pin], hal))
        else:
            from isonode.sensors.chip import Chip

            made.append(Chip(setting, hal))
    return made
