"""The board's `machine.SoftI2C`: transfers to the chips on two pins, and the errors that the ports raise.

As MicroPython's ports do: an address that nobody acknowledges is OSError(ENODEV), a clock that is held is ETIMEDOUT,
and `writeto` returns how many bytes were acknowledged instead of raising. A wedged slave holds the data line: every
address then seems acknowledged and all reads are zeros, until nine clocks on the pin have made it let go. `short` is
the clock held to ground, which nothing frees. Must not know what the bytes mean, and imports the simulation only where
it is one, so that CPython's tests use this very file.
"""

ENODEV = 19
CLOCKS_TO_FREE = 9  # NXP UM10204, section 3.1.16

etimedout = 116  # newlib's number; machine.ETIMEDOUT follows the chip
_wires = {}  # (scl, sda) -> Wire


class Wire:
    """Two lines and the chips on them. `world`: what has `fault`, and the FAULT_ numbers."""

    def __init__(self, world):
        self.chips = {}
        self._world = world
        self._clocks = 0
        self._let_go = False  # the wedged slave of the present row has been clocked free

    def clock(self, level):
        """A level that the master's pin puts on the clock line."""
        if not level:
            self._clocks += 1
            if self._clocks >= CLOCKS_TO_FREE:
                self._let_go = True

    def held(self):
        """True when the data line is held low. Raises OSError when the clock is."""
        world = self._world
        if world.fault == world.FAULT_SHORT and self.chips:
            world.was_read()
            raise OSError(etimedout)
        if world.fault != world.FAULT_WEDGED:
            self._let_go = False
            self._clocks = 0
        return world.fault == world.FAULT_WEDGED and not self._let_go

    def chip(self, address):
        """The chip that acknowledges an address. Raises OSError."""
        chip = self.chips.get(address)
        world = self._world
        if chip is not None and world.fault == world.FAULT_MISSING:
            world.was_read()
            chip = None
        if chip is None:
            raise OSError(ENODEV)
        return chip


class SoftI2C:
    """As in `machine`; also stands for the hardware buses."""

    def __init__(self, scl, sda, *, freq=400_000, timeout=50_000):
        self.wire = wire_at(scl.number, sda.number)
        scl.init(scl.OPEN_DRAIN, value=1)
        sda.init(sda.OPEN_DRAIN, value=1)
        scl.watch = self.wire.clock

    def scan(self):
        found = []
        for address in range(8, 0x78):
            try:
                self.writeto(address, b"")
                found.append(address)
            except OSError:
                pass
        return found

    def writeto(self, address, data, stop=True):
        if self.wire.held():
            return len(data)
        chip = self.wire.chip(address)
        if not chip.awake():
            raise OSError(ENODEV)
        return chip.write(data) if data else 0

    def readfrom_into(self, address, buf, stop=True):
        if self.wire.held():
            self._zeros(buf)
            return
        chip = self.wire.chip(address)
        if not chip.awake() or not chip.read_into(buf):
            raise OSError(ENODEV)
        if self.wire._world.fault == self.wire._world.FAULT_ZERO:
            self._zeros(buf)

    def readfrom(self, address, count, stop=True):
        buf = bytearray(count)
        self.readfrom_into(address, buf)
        return bytes(buf)

    def readfrom_mem_into(self, address, register, buf, *, addrsize=8):
        self.writeto(address, bytes((register,)))
        self.readfrom_into(address, buf)

    def readfrom_mem(self, address, register, count, *, addrsize=8):
        buf = bytearray(count)
        self.readfrom_mem_into(address, register, buf)
        return bytes(buf)

    def writeto_mem(self, address, register, data, *, addrsize=8):
        self.writeto(address, bytes((register,)) + bytes(data))

    @staticmethod
    def _zeros(buf):
        for i in range(len(buf)):
            buf[i] = 0


def wire_at(scl, sda):
    """The wire on two pins; a bare one where nothing has been soldered."""
    if (scl, sda) not in _wires:
        from sim import player

        _wires[(scl, sda)] = Wire(player)
    return _wires[(scl, sda)]


def attach(description):
    """Solder one chip of the spec to its pins."""
    from sim import clock, i2c_chips, player

    wire = wire_at(description["scl"], description["sda"])
    kind = i2c_chips.KINDS[description["type"]]
    wire.chips[description["address"]] = kind(player, clock, description)
