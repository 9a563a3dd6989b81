"""Segments: the part of the outbox that lies on flash. One folder of append-only files, oldest number first.

    write     appends one sealed frame as an entry (isonode.entries); durable when it returns True
    next      reads entries in order from anywhere above the floor
    ack       moves the floor; a segment is deleted, whole, when the floor has passed its last entry
    evict     gives up the oldest reports, events only when there are no reports left: rewrites one segment
              (tmp, close, rename) together with a small predecessor, see isonode.compact

The floor is the identity before which nothing needs to be accounted for. Whatever is missing above it (damage, a
segment given up whole) is delivered as a LOST record, so the receiver's sequence stays gapless.

A `reserve` file keeps blocks for one compaction when others have filled the file system (LittleFS, and any file system
that writes elsewhere before it frees, needs room to shrink a file).

This file must not know the RAM part, the link, or any clock. Errors of the file system are counted, never raised.
"""

import os

from isonode.compact import Compactor
from isonode.entries import ENTRY_BYTES, FAILED, READY, TORN, Walker, header, segment_path
from isonode.reader import Reader

_ENOENT = 2
_ENOSPC = 28
_EVICTIONS_PER_WRITE = 8  # compactions one write may cause; each frees about a segment, a write needs a part of one
_READ_TRIES = 8  # failed reads in a row before a segment is left out
_ZEROS = bytes(256)


class SegmentStore:
    """The segment files of one folder."""

    def __init__(self, root, batch, counts, segment_bytes, capacity_bytes, block_bytes, key):
        """batch: scratch Batch, free during any call. block_bytes: what a file's size is rounded up to."""
        self._root = root
        self._batch = batch
        self._counts = counts
        self._segment_bytes = segment_bytes
        self._block_bytes = block_bytes
        self._key = key
        self._segments = []  # numbers, rising
        self._next_number = 1
        self._last_bytes = 0  # size of the newest segment
        self._appendable = False  # the newest segment ends in a whole entry
        self._evict_from = 0  # no segment with a lower number holds anything but events and LOST
        self._head = Walker(root, counts)  # stands before the oldest entry not acknowledged, its header loaded
        self._reader = Reader(root, counts, self._segments, key)
        self._reserved = False
        self._reserve_tried = -1
        self.reserve_bytes = 2 * segment_bytes
        self.capacity_bytes = max(capacity_bytes, 3 * self._rounded(segment_bytes))
        self.used_bytes = 0
        self.boot_last = 0  # highest boot found by `open`
        self.floor_boot = 0
        self.floor_seq = 1

    def __len__(self):
        return len(self._segments)

    # ---- open ----

    def open(self):
        """Take stock of the folder, after a power cut at any moment. Returns False if it cannot be used (counted)."""
        try:
            self._make_folder()
            numbers = self._list()
        except OSError:
            self._counts.io_errors += 1
            return False
        replaced = set()
        walker = Walker(self._root, self._counts)
        for number in reversed(numbers):
            if number in replaced:
                self._remove(segment_path(self._root, number))
            else:
                replaced.add(self._survey(walker, number))
        walker.close()
        self._segments.reverse()
        if self._segments:
            self._head.seek(self._segments[0])
            self._settle_head()
        if self._segments:
            self.floor_boot = self._head.boot
            self.floor_seq = self._head.first
        self._limit_capacity()
        return True

    def close(self):
        """Let go of any file. The store stays usable."""
        self._reader.close()
        self._head.close()

    def _make_folder(self):
        try:
            os.stat(self._root)
        except OSError:
            os.mkdir(self._root)

    def _list(self):
        numbers = []
        for name in os.listdir(self._root):
            stem, _, end = name.rpartition(".")
            if end == "tmp":
                self._remove(self._root + "/" + name)
            elif end == "seg" and stem.isdigit():
                numbers.append(int(stem))
            elif name == "reserve":
                # one cut short by a power cut would be no reserve
                self._reserved = os.stat(self._root + "/" + name)[6] == self.reserve_bytes
        numbers.sort()
        return numbers

    def _survey(self, walker, number):
        """Count what a segment holds; returns the number of the segment it replaces, or 0. Called newest first."""
        walker.seek(number)
        found = 0
        whole = True
        newest = not self._segments
        while True:
            status = walker.load()
            if status != READY:
                break
            found += 1
            self._counts.reports += walker.reports
            self._counts.events += walker.events
            self._counts.windows += walker.windows
            self.boot_last = max(self.boot_last, walker.boot)
            if walker.reports or walker.windows:
                self._evict_from = number
            if newest:
                whole = self._is_whole(walker)
            walker.skip()
        self._next_number = max(self._next_number, number + 1)
        size = self._size(number)
        replaces = walker.replaces
        walker.close()
        if not found and status != FAILED:
            self._remove(segment_path(self._root, number))
            return replaces
        if newest:
            self._last_bytes = max(size, 0)
            self._appendable = whole and walker.offset == size
        self.used_bytes += self._rounded(size)
        self._segments.append(number)
        return replaces

    def _is_whole(self, walker):
        try:
            return walker.frame() is not None
        except OSError:
            self._counts.io_errors += 1
            return False

    def _limit_capacity(self):
        """Keep the capacity within what the file system can hold now."""
        try:
            stat = os.statvfs(self._root)
        except OSError:
            self._counts.io_errors += 1
            return
        free_bytes = stat[1] * stat[3]
        if not self._reserved:
            free_bytes -= self._rounded(self.reserve_bytes)
        # two blocks for the folder's own metadata, one for the copy that an append makes of the last block
        fits = free_bytes + self.used_bytes - 3 * self._block_bytes
        self.capacity_bytes = max(min(self.capacity_bytes, fits), 3 * self._rounded(self._segment_bytes))

    # ---- reading ----

    def next(self, boot, seq):
        """First frame that reaches past (boot, seq), as (bytes, boot, first_seq, last_seq); None if there is none."""
        if not self._segments:
            self._reader.failed = False
            return None
        return self._reader.next(boot, seq, self._head)

    def failed(self):
        """True if the last `next` returned None because a read failed, not because nothing was left."""
        return self._reader.failed

    # ---- acknowledging ----

    def ack(self, seq):
        """Everything of the floor's boot up to `seq` is safe elsewhere."""
        if seq < self.floor_seq:
            return
        self.floor_seq = seq + 1
        if self._segments:
            self._free_to(seq)

    def _free_to(self, seq):
        head = self._head
        while self._segments and not head.beyond(self.floor_boot, seq):
            self._counts.acked(head.reports, head.events, head.windows)
            head.skip()
            self._settle_head()

    def pass_boot(self, boot):
        """Go on to the oldest boot held, or to `boot` when nothing is held, if the floor's boot is done with."""
        if self._segments:
            boot = min(boot, self._head.boot)
        if boot > self.floor_boot:
            self.floor_boot = boot
            self.floor_seq = 1

    def _settle_head(self):
        """Load the oldest entry, deleting segments that end before one."""
        head = self._head
        tries = 0
        while self._segments:
            status = head.load()
            if status == READY:
                break
            if status == FAILED:
                tries += 1
                if tries < _READ_TRIES:
                    continue
            if status == TORN:
                self._counts.corrupt += 1
            self._drop_first(status != FAILED)
        head.close()

    def _drop_first(self, delete=True):
        """Forget the oldest segment and, unless it could not be read, delete its file."""
        number = self._segments.pop(0)
        self._reader.release(number)
        self.used_bytes -= self._rounded(self._size(number))
        self._head.close()
        if delete:
            self._remove(segment_path(self._root, number))
            self._counts.segments_deleted += 1
        if self._segments:
            self._head.seek(self._segments[0])
        else:
            self._appendable = False
            self._reader.rewind()

    # ---- writing ----

    def write(self, head, data):
        """Append one entry (header and frame). True when it is durable; False if it is not (counted)."""
        need_bytes = ENTRY_BYTES + len(data)
        for _ in range(_EVICTIONS_PER_WRITE):
            if self._fits(need_bytes):
                error = self._append(head, data)
                if error == 0:
                    return True
                if error != _ENOSPC:
                    self._counts.io_errors += 1
                    return False
                self._counts.no_space += 1
            if not self.evict():
                break
        return False

    def _joins(self, need_bytes):
        """True if an entry of this size goes into the newest segment."""
        return self._appendable and self._last_bytes + need_bytes <= self._segment_bytes

    def _fits(self, need_bytes):
        if self._joins(need_bytes):
            growth = self._rounded(self._last_bytes + need_bytes) - self._rounded(self._last_bytes)
        else:
            growth = self._rounded(need_bytes)
        return self.used_bytes + growth <= self.capacity_bytes

    def _append(self, head, data):
        """One attempt: 0, or the error number."""
        fresh = not self._joins(ENTRY_BYTES + len(data))
        number = self._next_number if fresh else self._segments[-1]
        path = segment_path(self._root, number)
        before = 0 if fresh else self._last_bytes
        self._reader.release(number)
        try:
            with open(path, "ab") as file:
                file.write(head)
                file.write(data)
        except OSError as error:
            self._abandon(path, fresh)
            return error.errno or -1
        size = before + len(head) + len(data)
        self.used_bytes += self._rounded(size) - self._rounded(before)
        self._last_bytes = size
        self._appendable = True
        self._counts.entries_written += 1
        if fresh:
            self._next_number = number + 1
            self._segments.append(number)
            self._counts.segments_created += 1
            if len(self._segments) == 1:
                self._head.seek(number)
                self._settle_head()
        return 0

    def _abandon(self, path, fresh):
        """After a failed append nothing may follow in that file: its tail is unknown."""
        self._appendable = False
        if fresh:
            self._next_number += 1
            self._remove(path)

    # ---- evicting ----

    def evict(self):
        """Give up the oldest reports of one segment, or events when no reports are left. False if it did nothing."""
        keep_events = True
        index = self._first_holding(True)
        if index < 0:
            keep_events = False
            index = self._first_holding(False)
        if index < 0:
            return self._give_up_oldest()
        victims = self._segments[index : index + 1]
        if index and self._size(self._segments[index - 1]) * 2 <= self._segment_bytes:
            victims.insert(0, self._segments[index - 1])
        while True:
            error = self._compact(victims, keep_events)
            if error == 0:
                return True
            if error != _ENOSPC:
                self._counts.io_errors += 1
                return False
            self._counts.no_space += 1
            if not self._free_reserve():
                return self._give_up_oldest()

    def _first_holding(self, reports):
        """Index of the first segment that holds reports (or else events), -1 if none does."""
        walker = Walker(self._root, self._counts)
        for index, number in enumerate(self._segments):
            if reports:
                if number < self._evict_from:
                    continue
                self._evict_from = number
            walker.seek(number, self._head.offset if number == self._head.number else 0)
            while walker.load() == READY:
                if (walker.reports or walker.windows) if reports else walker.events:
                    walker.close()
                    return index
                walker.skip()
        walker.close()
        return -1

    def _give_up_oldest(self):
        """Last resort, no room even to compact: delete the oldest segment whole. `next` reports the hole as LOST."""
        if not self._segments:
            return False
        head = self._head
        number = head.number
        while head.load() == READY:
            self._counts.evicted(head.reports, head.events, head.windows)
            head.skip()
        self._drop_first()
        self._settle_head()
        return head.number != number or not self._segments

    def _compact(self, victims, keep_events):
        """Rewrite the victims as one segment under the last one's number. 0, or the error number."""
        number = victims[-1]
        path = segment_path(self._root, number)
        temporary = self._root + "/" + str(number) + ".tmp"
        self._reader.rewind()
        freed_bytes = 0
        for victim in victims:
            freed_bytes += self._rounded(self._size(victim))
        try:
            with open(temporary, "wb") as file:
                compactor = self._copy(file, victims, keep_events)
            os.rename(temporary, path)
        except OSError as error:
            self._remove(temporary)
            return error.errno or -1
        self._counts.compactions += 1
        counts = self._counts
        counts.acked(compactor.acked_reports, compactor.acked_events, compactor.acked_windows)
        counts.evicted(compactor.evicted_reports, compactor.evicted_events, compactor.evicted_windows)
        if len(victims) == 2:
            self._remove(segment_path(self._root, victims[0]))
            self._segments.remove(victims[0])
        size = self._size(number)
        self.used_bytes += self._rounded(size) - freed_bytes
        if number == self._segments[-1]:
            self._last_bytes = size
            self._appendable = size > 0
        if self._head.number in victims:
            self._head.close()
            self._head.seek(number)
            self._settle_head()
        return 0

    def _copy(self, file, victims, keep_events):
        if len(victims) == 2:
            file.write(header(b"", victims[0], 0, 0, 0, 0, 0, 0))
        compactor = Compactor(file, self._batch, self._key, keep_events, self.floor_boot, self.floor_seq)
        walker = Walker(self._root, self._counts)
        try:
            for number in victims:
                walker.seek(number, self._head.offset if number == self._head.number else 0)
                while walker.load() == READY:
                    compactor.feed(walker, walker.frame())
                    walker.skip()
        finally:
            walker.close()
        compactor.finish()
        return compactor

    # ---- the reserve and small helpers ----

    def keep_reserve(self):
        """Lay the reserve down if it is missing; again only after something was freed. Returns True if it wrote."""
        freed = self._counts.segments_deleted + self._counts.compactions
        if self._reserved or freed == self._reserve_tried:
            return False
        self._reserve_tried = freed
        self._lay_reserve()
        return True

    def _lay_reserve(self):
        path = self._root + "/reserve"
        try:
            with open(path, "wb") as file:
                for _ in range(0, self.reserve_bytes, len(_ZEROS)):
                    file.write(_ZEROS)
        except OSError as error:
            if error.errno == _ENOSPC:
                self._counts.no_space += 1
            else:
                self._counts.io_errors += 1
            self._remove(path)
            return
        self._reserved = True

    def _free_reserve(self):
        if not self._reserved:
            return False
        self._reserved = False
        self._remove(self._root + "/reserve")
        return True

    def _rounded(self, size_bytes):
        """What a file of this size takes; nothing for one that is not there."""
        return (max(size_bytes, 0) + self._block_bytes - 1) // self._block_bytes * self._block_bytes

    def _size(self, number):
        """Size of a segment in bytes, -1 if it cannot be told."""
        try:
            return os.stat(segment_path(self._root, number))[6]
        except OSError:
            return -1

    def _remove(self, path):
        try:
            os.remove(path)
        except OSError as error:
            if error.errno != _ENOENT:
                self._counts.io_errors += 1
