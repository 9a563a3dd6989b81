"""Records in preallocated arrays, for the outbox's ring and its urgent copies. Knows no order and no policy."""

from array import array

from isocore.record import LOST


class Slots:
    """Records in preallocated arrays, one element per field; moving one allocates nothing."""

    def __init__(self, size):
        self.size = size
        self.seq = array("I", bytearray(4 * size))
        self.kind = bytearray(size)
        self.channel = bytearray(size)
        self.value = array("i", bytearray(4 * size))
        self.t_s = array("I", bytearray(4 * size))
        self.t_ms = array("H", bytearray(2 * size))
        self.trend = array("h", bytearray(2 * size))

    def put(self, i, seq, kind, channel, value, t_s, t_ms, trend):
        """Fill slot i."""
        self.seq[i] = seq
        self.kind[i] = kind
        self.channel[i] = channel
        self.value[i] = value
        self.t_s[i] = t_s
        self.t_ms[i] = t_ms
        self.trend[i] = trend

    def move(self, source, target):
        """Copy slot `source` to slot `target`."""
        self.seq[target] = self.seq[source]
        self.kind[target] = self.kind[source]
        self.channel[target] = self.channel[source]
        self.value[target] = self.value[source]
        self.t_s[target] = self.t_s[source]
        self.t_ms[target] = self.t_ms[source]
        self.trend[target] = self.trend[source]

    def into(self, i, batch):
        """Add slot i to a batch; False when the batch must be sealed first."""
        return batch.add(
            self.seq[i], self.kind[i], self.channel[i], self.value[i], self.t_s[i], self.t_ms[i], self.trend[i]
        )

    def first(self, i):
        """First seq that slot i accounts for."""
        return self.seq[i] - self.value[i] + 1 if self.kind[i] == LOST else self.seq[i]
