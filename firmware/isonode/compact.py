"""Compaction: rewrites segments without what is evicted, leaving LOST records in its place.

Rules:
    1. What stays keeps its identity, time and order; records of different boots or epochs never share a frame.
    2. A run of evicted records becomes one LOST record at the place, seq and time of the last of the run; its value is
       the number of records it accounts for. LOST records next to the run, or to each other, are absorbed: values add.
    3. What lies before the floor was acknowledged: it is left out, and is no loss.
    4. An entry whose frame is damaged is treated as evicted, by what its header says.

This file must not know how segments are named, chosen or replaced; it is given entries and an open file.
"""

from isocore.errors import FrameError
from isocore.frame import decode
from isocore.record import BOARD_CHANNEL, LOST, is_event, is_report
from isonode.entries import times


class Compactor:
    """Takes entries oldest first (`feed`), writes the compacted ones to `file`; `finish` writes what is pending."""

    def __init__(self, file, batch, key, keep_events, floor_boot, floor_seq):
        """batch: an empty Batch to work in. keep_events: False evicts events as well."""
        self._file = file
        self._batch = batch
        self._key = key
        self._keep_events = keep_events
        self._boot = floor_boot  # (boot, seq) of the last record that was taken or left out
        self._seq = floor_seq - 1
        self._epoch_s = 0
        self._epoch_ms = 0
        self._lost = 0  # records in the pending run; the run ends at _seq
        self._lost_s = 0
        self._lost_ms = 0
        batch.begin(0)
        self.acked_reports = 0
        self.acked_events = 0
        self.acked_windows = 0
        self.evicted_reports = 0
        self.evicted_events = 0
        self.evicted_windows = 0

    def feed(self, entry, data):
        """Take one entry: `entry` has the fields of its header, `data` is its frame or None when damaged."""
        if data is not None and self._drop_whole(entry, data):
            return
        try:
            frame = decode(data)
        except FrameError:  # `data` is None, or a frame that no gateway would take either
            self._feed_damaged(entry)
            return
        if frame.boot != self._boot:
            self._turn(frame.boot)
        self._use_epoch(frame.epoch_s, frame.epoch_ms)
        for seq, kind, channel, value, uptime_ms, trend in frame.records:
            if seq <= self._seq:
                self._count_acked(kind)
            else:
                self._take(seq, kind, channel, value, uptime_ms // 1000, uptime_ms % 1000, trend)

    def finish(self):
        """Write what is pending. The file is the caller's to close."""
        self._settle_lost()
        self._write()

    def _drop_whole(self, entry, data):
        """Evict an entry with nothing to keep without looking at its records: the common case, and little garbage."""
        if self._keep_events and entry.events:
            return False
        if entry.boot != self._boot:
            self._turn(entry.boot)
        if entry.first <= self._seq:
            return False  # part of it was acknowledged
        self._drop(entry)
        epoch_s, epoch_ms, self._lost_s, self._lost_ms = times(data)
        self._use_epoch(epoch_s, epoch_ms)
        return True

    def _feed_damaged(self, entry):
        if entry.boot != self._boot:
            self._turn(entry.boot)
        if entry.last > self._seq:
            self._drop(entry)

    def _drop(self, entry):
        self.evicted_reports += entry.reports
        self.evicted_events += entry.events
        self.evicted_windows += entry.windows
        self._lost += entry.last - self._seq
        self._seq = entry.last

    def _turn(self, boot):
        """Go on with the records of another boot."""
        self._settle_lost()
        self._write()
        self._boot = boot
        self._seq = 0
        self._use_epoch(0, 0)

    def _use_epoch(self, epoch_s, epoch_ms):
        if epoch_s != self._epoch_s or epoch_ms != self._epoch_ms:
            self._write()
            self._epoch_s = epoch_s
            self._epoch_ms = epoch_ms

    def _count_acked(self, kind):
        if is_report(kind):
            self.acked_reports += 1
        elif kind == LOST:
            return
        elif is_event(kind):
            self.acked_events += 1
        else:
            self.acked_windows += 1

    def _take(self, seq, kind, channel, value, t_s, t_ms, trend):
        if kind == LOST or not (self._keep_events and is_event(kind)):
            self._count_evicted(kind)
            self._lost += seq - self._seq
            self._lost_s = t_s
            self._lost_ms = t_ms
            self._seq = seq
            return
        if seq != self._seq + 1:  # a hole that damage left: accounted for like the rest
            self._lost += seq - 1 - self._seq
            self._seq = seq - 1
        self._settle_lost()
        self._seq = seq
        self._add(seq, kind, channel, value, t_s, t_ms, trend)

    def _count_evicted(self, kind):
        if is_report(kind):
            self.evicted_reports += 1
        elif kind == LOST:
            return
        elif is_event(kind):
            self.evicted_events += 1
        else:
            self.evicted_windows += 1

    def _settle_lost(self):
        """Turn the pending run into its LOST record."""
        if self._lost:
            self._add(self._seq, LOST, BOARD_CHANNEL, self._lost, self._lost_s, self._lost_ms, 0)
            self._lost = 0

    def _add(self, seq, kind, channel, value, t_s, t_ms, trend):
        batch = self._batch
        if batch.count == 0:
            batch.begin(self._boot)
        if not batch.add(seq, kind, channel, value, t_s, t_ms, trend):
            self._write()
            batch.begin(self._boot)
            batch.add(seq, kind, channel, value, t_s, t_ms, trend)

    def _write(self):
        batch = self._batch
        if batch.count:
            data = batch.seal(self._epoch_s, self._epoch_ms, self._key)
            self._file.write(batch.header(data))
            self._file.write(data)
            batch.begin(0)
