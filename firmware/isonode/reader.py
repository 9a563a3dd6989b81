"""Reader: delivers the frames of all segments in order, and tells of holes.

It walks on from where it ended when asked in order, so a long backlog costs one pass; anything else starts at the
oldest entry that is still wanted. What cannot be read becomes a LOST frame, so the receiver's sequence stays gapless.
Small entries (alarms are flushed one by one) that follow one another are joined into one frame, so that a long outage
full of them does not drain one record at a time.

This file must not know how segments come and go: it is told when to let go of one, or to start again.
"""

from isonode import lazy
from isonode.entries import END, FAILED, READY, Walker, lost_frame

_JOIN_BELOW = 8  # records: an entry with more travels as it lies
_READ_TRIES = 8  # failed reads in a row before an entry or a segment is passed over


class Reader:
    """Reads the segments whose numbers stand in the list `segments`, which its owner keeps up to date."""

    def __init__(self, root, counts, segments, key):
        self._counts = counts
        self._segments = segments
        self._key = key
        self._walker = Walker(root, counts)
        self._boot = 0  # everything before the walker's place ends at or before this identity
        self._seq = 0
        self._failures = 0
        self.failed = False  # the last `next` returned None because a read failed, not because nothing was left

    def release(self, number):
        """Segment `number` is about to change at its end, or to go."""
        if self._walker.number == number:
            self._walker.close()

    def close(self):
        """Let go of any file; the place stays."""
        self._walker.close()

    def rewind(self):
        """Segments were rewritten: forget the place."""
        self._walker.seek(0)

    def next(self, boot, seq, head):
        """First frame that reaches past (boot, seq), as (bytes, boot, first_seq, last_seq), or None.

        head: a Walker that stands before the oldest entry wanted.
        """
        self.failed = False
        walker = self._walker
        if not walker.number or (boot, seq) < (self._boot, self._seq):
            walker.seek(head.number, head.offset)
        self._boot = boot
        self._seq = seq
        while self._load():
            if walker.beyond(boot, seq):
                return self._deliver(boot, seq)
            walker.skip()
        return None

    def _load(self):
        """Load the next entry, in the next segment if this one has ended. False at the end, or when a read failed."""
        walker = self._walker
        while True:
            status = walker.load()
            if status == READY:
                return True
            if status == FAILED and self._try_again():
                return False
            number = 0
            for candidate in self._segments:
                if candidate > walker.number:
                    number = candidate
                    break
            if not number:
                walker.close()  # the place stays: the end of the newest segment, where the next entry will stand
                return False
            if status != END:
                self._counts.corrupt += 1
            walker.seek(number)

    def _deliver(self, boot, seq):
        walker = self._walker
        if walker.boot != boot:
            seq = 0
        if walker.first > seq + 1:  # a hole: damage, or a segment given up whole
            return self._lost(walker.boot, seq + 1, walker.first - 1)
        try:
            data = walker.frame()
        except OSError:
            self._counts.io_errors += 1
            walker.close()
            if self._try_again():
                return None
            data = None
        self._failures = 0
        if data is None:
            self._counts.corrupt += 1
            answer = self._lost(walker.boot, seq + 1, walker.last)
        else:
            first = data[8] | data[9] << 8 | data[10] << 16 | data[11] << 24
            if walker.records() < _JOIN_BELOW:
                return self._join(data, first)
            answer = (data, walker.boot, first, walker.last)
        self._boot = walker.boot
        self._seq = walker.last
        walker.skip()
        return answer

    def _join(self, data, first):
        """The loaded entry's frame `data`; with what follows it, when that is as small and goes on without a gap."""
        walker = self._walker
        boot = walker.boot
        last = walker.last
        count = walker.records()
        walker.skip()
        if (
            walker.load() == READY
            and walker.boot == boot
            and walker.first == last + 1
            and walker.records() < _JOIN_BELOW
        ):
            from isonode import join

            data, last = join.join(walker, data, last, count, self._key)
            del join
            lazy.forget("isonode.join")
        self._boot = boot
        self._seq = last
        return data, boot, first, last

    def _try_again(self):
        """After a failed read: True if it is worth another call, False when the damage has to be passed over."""
        self._failures += 1
        self.failed = self._failures < _READ_TRIES
        if not self.failed:
            self._failures = 0
        return self.failed

    def _lost(self, boot, first, last):
        return lost_frame(boot, first, last, 0, 0, 0, 0, self._key), boot, last, last
