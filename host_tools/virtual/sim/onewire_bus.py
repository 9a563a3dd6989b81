"""The board's `_onewire` module: reset, bits and bytes on a pin, answered by the slaves that hang on it.

A slot is a wired AND of all slaves; a bus shorted to ground answers zeros to everything, presence included.
Must not know what the bytes mean.
"""

from sim import player, silicon


def _slaves(pin):
    return silicon.bus_at.get(pin.number, ())


def _shorted(slaves):
    return slaves and player.fault == player.FAULT_SHORT


def reset(pin):
    """A reset pulse; True when some slave pulled the line down after it."""
    present = False
    slaves = _slaves(pin)
    for slave in slaves:
        if slave.reset():
            present = True
    if _shorted(slaves):
        player.was_read()
        return True
    return present


def writebyte(pin, value):
    for slave in _slaves(pin):
        if slave.searching:
            for i in range(8):
                slave.hear_bit(value >> i & 1)
        else:
            slave.hear(value)


def readbyte(pin):
    value = 0xFF
    slaves = _slaves(pin)
    if _shorted(slaves):
        return 0
    for slave in slaves:
        if slave.searching:
            bits = 0
            for i in range(8):
                bits |= slave.say_bit() << i
            value &= bits
        else:
            value &= slave.say()
    return value


def writebit(pin, value):
    for slave in _slaves(pin):
        slave.hear_bit(1 if value else 0)


def readbit(pin):
    bit = 1
    slaves = _slaves(pin)
    if _shorted(slaves):
        return 0
    for slave in slaves:
        bit &= slave.say_bit()
    return bit


def crc8(data):
    return silicon.crc8(data)
