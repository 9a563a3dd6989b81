"""The outbox: keeps every record until the gateway has it. RAM first, flash in batches, alarms on flash at once.

    append          hot path: one record into the RAM ring; allocates nothing, touches no flash
    flush           all that was appended is durable when it returns True
    maintain        the app's regular call: spills a full or old batch, in bounded work
    next_frame      what the link sends, in (boot, seq) order, from anywhere above the floor
    next_urgent     alarm and fault records that need not wait for the backlog before them
    ack             what the gateway holds; frees RAM and whole segments

Rules:
    1. Flash holds what is older, RAM what is newer; no record is in both, except in the small ring of urgent copies.
    2. Every seq from the floor to the last one is held, or is covered by one LOST record; so the sequence is gapless.
    3. Full: the oldest reports go first, events last. A full RAM (flash away) evicts in RAM, a full flash on flash.
    4. An ack counts for its own boot only: a later boot's ack proves nothing about the frames of an earlier one.

Uptime comes as small integers (t_s, t_ms); the wall clock only as `epoch_s`, `epoch_ms`, written into frames as they
are sealed, and put into frames of this boot that were sealed before the time was known.

This file must not know the network, the sensors, or how a clock is read.
"""

from isocore.frame import COUNT_MAX, decode, encode
from isocore.record import BOARD_CHANNEL, FAULT_CLEARED, HIGH_ON, LOST, SMALL_INT_MAX, is_event, is_report
from isonode.counts import Counts
from isonode.entries import Batch, lost_frame
from isonode.ring import Slots
from isonode.segments import SegmentStore

URGENT_RECORDS = 16  # alarm and fault records waiting to be sent ahead; past that the oldest only come in their turn
_TREND_MAX = 0x7FFF  # i16 in the frame
_EPOCH_AT = 18  # offset of the epoch fields in a frame, see isocore.frame


class Outbox:
    """The board's store of records. Call `open` before anything else; then read `boot`, which may have been raised."""

    def __init__(
        self,
        root="/outbox",
        boot=1,
        ram_records=64,
        spill_records=32,
        spill_age_s=600,
        segment_bytes=4096,
        capacity_bytes=262144,
        key=None,
        block_bytes=4096,
    ):
        """root: folder on flash, made if missing. ram_records: slots of the RAM ring, 4..255.

        spill_records: records that make a batch for flash; no more than half the ring counts. spill_age_s: the oldest
        record in RAM spills a smaller batch after so long; what a power cut can take is bounded by these two.
        segment_bytes: size of a segment; one flash block is best up to 512 KiB of capacity. capacity_bytes: flash for
        segments, in whole blocks; room for three segments is the least. key: the device's 32-byte key when frames are
        tagged. block_bytes: erase block of the file system.
        """
        if not 4 <= ram_records <= COUNT_MAX:
            raise ValueError("ram_records must be 4..255")
        self.boot = boot
        self.next_seq = 1
        self.epoch_s = 0  # seconds since isocore.frame.EPOCH_BASE_UNIX_S at uptime 0; 0 while unknown
        self.epoch_ms = 0
        self.counts = Counts()
        self.urgent = False  # an alarm or fault record is not on flash yet
        self.urgent_dropped = 0
        self._key = key
        self.batch_records = max(1, min(spill_records, ram_records // 2))
        self._spill_age_s = spill_age_s
        self._ring = Slots(ram_records)
        self._start = 0  # slot of the oldest record in RAM
        self._count = 0
        self._ahead = Slots(URGENT_RECORDS)  # copies, oldest first
        self._ahead_count = 0
        self._ahead_sent = 0  # of these, handed out by next_urgent
        self._ack_boot = 0  # an ack for a later boot than the floor's, kept until the floor comes there
        self._ack_seq = 0
        self._batch = Batch(max(self.batch_records, min(URGENT_RECORDS, ram_records)))
        # what lies on flash; others may read its sizes, and nothing else of it
        self.store = SegmentStore(root, self._batch, self.counts, segment_bytes, capacity_bytes, block_bytes, key)

    # ---- life ----

    def open(self, same_boot=False):
        """Take stock of the flash. Returns False if it cannot be used: the outbox then works in RAM alone.

        Raises `boot` above any boot found on flash: identities must never repeat. same_boot: a deep sleep
        is over, so records of this boot may lie there.
        """
        store = self.store
        usable = store.open()
        if self.boot < store.boot_last or (self.boot == store.boot_last and not same_boot):
            self.boot = store.boot_last + 1
        if not len(store):
            store.floor_boot = self.boot
        if usable:
            store.keep_reserve()
        return usable

    def close(self):
        """Make everything durable and let go of any file, before a planned reset or deep sleep. False as in `flush`."""
        durable = self.flush()
        self.store.close()
        return durable

    # ---- hot path ----

    def append(self, kind, channel, value, t_s, t_ms, trend=0):
        """Take one record at uptime t_s + t_ms (seconds, milliseconds); returns its seq. No allocation, no flash.

        Call `flush_urgent` soon after an alarm or fault (`urgent` is then set), and `maintain` in every loop.
        """
        ring = self._ring
        if self._count == ring.size:
            self._make_room()
        if value > SMALL_INT_MAX:
            value = SMALL_INT_MAX
        elif value < -SMALL_INT_MAX:
            value = -SMALL_INT_MAX
        if trend > _TREND_MAX:
            trend = _TREND_MAX
        elif trend < -_TREND_MAX:
            trend = -_TREND_MAX
        seq = self.next_seq
        self.next_seq = seq + 1
        i = self._start + self._count
        if i >= ring.size:
            i -= ring.size
        ring.put(i, seq, kind, channel, value, t_s, t_ms, trend)
        self._count += 1
        self._count_in(kind)
        if HIGH_ON <= kind <= FAULT_CLEARED:
            self._send_ahead(seq, kind, channel, value, t_s, t_ms, trend)
        return seq

    def _count_in(self, kind):
        if is_report(kind):
            self.counts.reports += 1
        elif is_event(kind):
            self.counts.events += 1
        else:
            self.counts.windows += 1

    def _send_ahead(self, seq, kind, channel, value, t_s, t_ms, trend):
        self.urgent = True
        if self._ahead_count == URGENT_RECORDS:
            self.urgent_dropped += 1
            self._forget_ahead(0)
        self._ahead.put(self._ahead_count, seq, kind, channel, value, t_s, t_ms, trend)
        self._ahead_count += 1

    def _forget_ahead(self, i):
        ahead = self._ahead
        for k in range(i + 1, self._ahead_count):
            ahead.move(k, k - 1)
        self._ahead_count -= 1
        if self._ahead_sent > i:
            self._ahead_sent -= 1

    def _make_room(self):
        """The ring is full because flash could not take it: evict until one slot is free, reports first."""
        if not self._evict_one(False):
            self._evict_one(True)

    def _evict_one(self, events):
        """Merge evictable records into LOST records, oldest first, until that freed a slot. False if it never did."""
        ring = self._ring
        size = ring.size
        k = 0
        while k < self._count:
            i = (self._start + k) % size
            kind = ring.kind[i]
            if kind != LOST and is_event(kind) and not events:
                k += 1
                continue
            if kind != LOST:
                self._count_evicted(kind)
                ring.kind[i] = LOST
                ring.channel[i] = BOARD_CHANNEL
                ring.value[i] = 1
                ring.trend[i] = 0
            before = (i + size - 1) % size
            if k and ring.kind[before] == LOST:
                ring.value[i] += ring.value[before]
                self._close_gap(k - 1)
                return True
            k += 1
        return False

    def _count_evicted(self, kind):
        counts = self.counts
        if is_report(kind):
            counts.reports -= 1
            counts.evicted_reports += 1
        elif is_event(kind):
            counts.events -= 1
            counts.evicted_events += 1
        else:
            counts.windows -= 1
            counts.evicted_windows += 1

    def _close_gap(self, k):
        """Free the k-th record's slot by moving the older ones up."""
        ring = self._ring
        size = ring.size
        while k > 0:
            ring.move((self._start + k - 1) % size, (self._start + k) % size)
            k -= 1
        self._start = (self._start + 1) % size
        self._count -= 1

    # ---- to flash ----

    def maintain(self, now_s, idle=True):
        """The regular call, with the uptime in seconds. Writes at most one batch. Returns True if it used the flash.

        idle: nothing else is due soon. When not, only a ring that is three quarters full is spilled.
        """
        count = self._count
        if count * 4 >= self._ring.size * 3:
            return self._spill()
        if not idle:
            return False
        if count >= self.batch_records or (count and now_s - self._ring.t_s[self._start] >= self._spill_age_s):
            return self._spill()
        return self.store.keep_reserve()

    def flush_urgent(self):
        """Make alarm and fault records durable, if there are any that are not. False if flash did not take them."""
        return self.flush() if self.urgent else True

    def flush(self):
        """Make everything durable. True when it is; False if flash did not take it (counted; it stays in RAM)."""
        while self._count:
            if not self._spill():
                return False
        return True

    def _spill(self):
        """Move the oldest records in RAM, one frame's worth, to flash."""
        data, taken = self._seal(0)
        if not self.store.write(self._batch.header(data), data):
            return False
        self._start = (self._start + taken) % self._ring.size
        self._count -= taken
        if not self._count:
            self.urgent = False
        return True

    def _seal(self, k):
        """One frame of the records in RAM from the k-th on: (bytes, records in it). The batch keeps its tallies."""
        ring = self._ring
        batch = self._batch
        batch.begin(self.boot)
        taken = 0
        while k + taken < self._count and ring.into((self._start + k + taken) % ring.size, batch):
            taken += 1
        return batch.seal(self.epoch_s, self.epoch_ms, self._key), taken

    # ---- to the link ----

    def floor(self):
        """(boot, seq) of the oldest record held, or of the next one when none is held: nothing before it will come."""
        self.store.pass_boot(self.boot)
        return self.store.floor_boot, self.store.floor_seq

    def next_frame(self, boot, seq, seal=False):
        """The first frame that reaches past (boot, seq): (bytes, boot, first_seq, last_seq), or None.

        Frames come in order. From RAM a frame comes when a batch is full, a smaller one only with `seal`. Call it with
        the last identity returned to walk on, with the last acknowledged one (or anything older) to start again.
        """
        floor_boot, floor_seq = self.floor()
        if boot < floor_boot or (boot == floor_boot and seq < floor_seq - 1):
            boot = floor_boot
            seq = floor_seq - 1
        found = self.store.next(boot, seq)
        if found is not None:
            data = found[0]
            if found[1] == self.boot and self.epoch_s and data[_EPOCH_AT + 2 : _EPOCH_AT + 6] == b"\x00\x00\x00\x00":
                return self._with_epoch(found)
            return found
        if self.store.failed() or not self._count:
            return None
        if boot != self.boot:
            seq = 0
        return self._next_from_ram(seq, seal)

    def _next_from_ram(self, seq, seal):
        ring = self._ring
        k = 0
        while k < self._count and ring.seq[(self._start + k) % ring.size] <= seq:
            k += 1
        if k == self._count or (self._count - k < self.batch_records and not seal):
            return None
        i = (self._start + k) % ring.size
        if ring.first(i) > seq + 1:  # a hole that damage on flash left
            last = ring.first(i) - 1
            data = lost_frame(
                self.boot, seq + 1, last, ring.t_s[i], ring.t_ms[i], self.epoch_s, self.epoch_ms, self._key
            )
            return data, self.boot, last, last
        data, _ = self._seal(k)
        return data, self.boot, ring.seq[i], self._batch.last

    def _with_epoch(self, found):
        """Put the epoch into a frame of this boot that was sealed before the time was known."""
        data, boot, first, last = found
        frame = decode(data)
        return encode(boot, self.epoch_s, self.epoch_ms, frame.records, self._key), boot, first, last

    def next_urgent(self):
        """A frame of alarm and fault records not handed out yet, as next_frame's answer, or None.

        One frame holds one run of consecutive seqs. They come again in order later.
        """
        ahead = self._ahead
        k = self._ahead_sent
        if k == self._ahead_count:
            return None
        batch = self._batch
        batch.begin(self.boot)
        while k < self._ahead_count and (not batch.count or ahead.seq[k] == batch.last + 1) and ahead.into(k, batch):
            k += 1
        self._ahead_sent = k
        data = batch.seal(self.epoch_s, self.epoch_ms, self._key)
        return data, self.boot, batch.first, batch.last

    def urgent_got(self, first, last):
        """The gateway has first..last of this boot (or they are on their way in order): they need not be sent ahead."""
        k = 0
        while k < self._ahead_count:
            if first <= self._ahead.seq[k] <= last:
                self._forget_ahead(k)
            else:
                k += 1

    def urgent_again(self):
        """Hand the urgent records that nobody confirmed out once more, after a reconnect or a time-out."""
        self._ahead_sent = 0

    def ack(self, boot, seq):
        """The gateway holds everything of `boot` up to `seq`. Returns True if that was news."""
        store = self.store
        store.pass_boot(self.boot)
        if boot == self.boot and seq >= self.next_seq:
            seq = self.next_seq - 1
        if boot > self.boot or boot < store.floor_boot or seq < 1:
            return False
        if boot > store.floor_boot:
            if (boot, seq) > (self._ack_boot, self._ack_seq):
                self._ack_boot = boot
                self._ack_seq = seq
            return False
        if seq < store.floor_seq:
            return False
        self._free(boot, seq)
        store.pass_boot(self.boot)
        if store.floor_boot == self._ack_boot:
            if self._ack_seq >= store.floor_seq:
                self._free(self._ack_boot, self._ack_seq)
                store.pass_boot(self.boot)
            self._ack_boot = 0
        return True

    def _free(self, boot, seq):
        self.store.ack(seq)
        if boot != self.boot:
            return
        self.urgent_got(1, seq)
        ring = self._ring
        while self._count and ring.seq[self._start] <= seq:
            kind = ring.kind[self._start]
            if kind != LOST:
                report = is_report(kind)
                event = not report and is_event(kind)
                self.counts.acked(1 if report else 0, 1 if event else 0, 0 if report or event else 1)
            self._start = (self._start + 1) % ring.size
            self._count -= 1
        if not self._count:
            self.urgent = False

    # ---- figures ----

    def fill_counters(self, counters):
        """Write the figures that health and the demo report into the dict `counters`."""
        counts = self.counts
        counters["outbox"] = counts.held()
        counters["acked"] = counts.acked_reports
        counters["events_acked"] = counts.acked_events
        counters["evicted"] = counts.evicted_reports
        counters["events_evicted"] = counts.evicted_events
        counters["outbox_used_bytes"] = self.store.used_bytes
        counters["outbox_capacity_bytes"] = self.store.capacity_bytes
        counters["outbox_segments"] = len(self.store)
        counters["outbox_writes"] = counts.entries_written
        counters["outbox_compactions"] = counts.compactions
        counters["outbox_no_space"] = counts.no_space
        counters["outbox_io_errors"] = counts.io_errors
        counters["outbox_corrupt"] = counts.corrupt
        counters["urgent_dropped"] = self.urgent_dropped
