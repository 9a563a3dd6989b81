"""Deep sleep between samples, for boards on batteries. Loaded only where the configuration asks for it.

A wake: load, restore, one round of readings through the filter, the radio only if something must be sent, sleep.
What must be sent: an alarm or fault at once; reports once the oldest has waited for the model's `min_interval_s`, or
when RAM holds a batch that would go to flash; what lies on flash; and, every `radio_s`, health, model updates and the
time. After an attempt that failed the radio rests, twice as long each time, up to an hour; a new alarm tries at once.

A wake is no new boot. Boot, seq, uptime, filters, counters and the records in RAM go through the RTC's memory, under a
CRC. They are taken out of it once, before they are used: a crash, a watchdog's bite or a power cut while awake finds
nothing there and begins a new boot, so no identity is ever used twice. What can be lost then is what any board loses
from its RAM. What does not fit into the memory (2 KB) is flushed to flash first.

RP2 has no such memory (and resets to wake up): there the board stays on with its radio off, everything in RAM, and the
same rules for the radio.
"""

import binascii
import struct
from array import array

from micropython import const

from isocore.record import LOST
from isonode import crash, hal, rtc
from isonode.health import COUNTERS
from isonode.models import REASONS

_MAGIC = const(0x31505349)  # "ISP1"
# magic, boot, fresh, next seq, hurry seq, floor boot, floor seq, uptime s, due s, epoch s, wall s, sleep ms,
# last radio s, rest until s, tried seq, ms of the last wake without and with the radio
_HEAD = "<IIIIIIIIIIiIIIIII"
# uptime ms, due ms, epoch ms, wall ms, attempts, time source, records, channels
_SMALL = "<HHHHBBBB"
_RECORD = "<IBBiIHh"
_REST_S_MAX = const(3600)
_LISTEN_MS = const(500)  # after coming up: a retained model may be on its way
_SLEEP_MS_MIN = const(50)
_LATE_S_MAX = const(120)  # a wall clock that says more than this beyond the sleep was set meanwhile


# Parts of a filter that the model in force does not tell: a wait that began under the model before it.
_WAITS = ("_delay", "_other_delay")


def _integers(thing, out):
    """All integers of an object and of the objects in it, in the order of their names; of a wait, its kind first."""
    for name in sorted(thing.__dict__):
        value = getattr(thing, name)
        if name in _WAITS:
            out.append(0 if value is None else 2 if hasattr(value, "_enough") else 1)
        if isinstance(value, (bool, int)):
            out.append(int(value))
        elif hasattr(value, "__dict__") and name != "params":
            _integers(value, out)
    return out


def _fill(thing, values):
    for name in sorted(thing.__dict__):
        value = getattr(thing, name)
        if name in _WAITS:
            value = _wait(next(values))
            setattr(thing, name, value)
        if isinstance(value, bool):
            setattr(thing, name, bool(next(values)))
        elif isinstance(value, int):
            setattr(thing, name, next(values))
        elif hasattr(value, "__dict__") and name != "params":
            _fill(value, values)


def _wait(kind):
    """A wait as `_integers` names it, to be filled."""
    if kind == 2:
        from isocore.fit import Fit

        return Fit()
    if kind == 1:
        from isocore.delay import Delay

        return Delay()
    return None


# The outbox's RAM lives here as well: boards that never sleep would otherwise carry this code in their heap.


def _records(outbox):
    """What lies in RAM alone, oldest first: [(seq, kind, channel, value, t_s, t_ms, trend)]."""
    ring = outbox._ring
    out = []
    for k in range(outbox._count):
        i = (outbox._start + k) % ring.size
        out.append(
            (ring.seq[i], ring.kind[i], ring.channel[i], ring.value[i], ring.t_s[i], ring.t_ms[i], ring.trend[i])
        )
    return out


def _resume(outbox, next_seq, floor_boot, floor_seq):
    """After `open`: seq goes on, and where nothing lies on flash so does the floor."""
    outbox.next_seq = next_seq
    if not len(outbox.store):
        outbox.store.floor_boot = floor_boot
        outbox.store.floor_seq = floor_seq


def _put_back(outbox, seq, kind, channel, value, t_s, t_ms, trend):
    """A record of `_records`, in their order."""
    ring = outbox._ring
    ring.put((outbox._start + outbox._count) % ring.size, seq, kind, channel, value, t_s, t_ms, trend)
    outbox._count += 1
    if kind != LOST:
        outbox._count_in(kind)


def _say_reverted(models):
    """That a trial ended so is told at the next radio: a wake without one has nobody to tell."""
    digest = models._digests[1 if models._force == 0 else 0]
    models._refused_id = digest
    models._report("reverted", models._reverted_sequence, digest, REASONS[models._reason])


class Sleeper:
    """`boot`, `fresh`: who this wake is, boot 0 when it is a new boot. `radio`: the link may work."""

    def __init__(self, settings, cause):
        """Takes what the sleep left, and leaves nothing there."""
        self._settings = settings
        self.boot = 0
        self.fresh = 0
        self.radio = False
        self._node = None
        self._up_since = None
        self._radio_by = 0
        self._radio_s = 0  # uptime at which the radio was last done
        self._rest_until_s = 0
        self._attempts = 0
        self.wake_ms = 0  # how long the last wake without the radio took, from loading this file on, ...
        self.radio_ms = 0  # ... and the last one with it: what `isotherm board battery` asks for
        self._woke = hal.ticks_ms()
        self._used_radio = False
        self._tried_seq = 0  # events up to here were there when the last attempt began
        self._state = rtc.body()
        if self._state:
            rtc.keep_body(b"")
        if cause != hal.RESET_DEEP_SLEEP or not self._is_whole():
            self._state = b""
            return
        self.boot, self.fresh = struct.unpack_from("<II", self._state, 4)

    def _is_whole(self):
        state = self._state
        if len(state) < struct.calcsize(_HEAD) + struct.calcsize(_SMALL) + 4:
            return False
        (crc,) = struct.unpack_from("<I", state, len(state) - 4)
        if crc != binascii.crc32(memoryview(state)[:-4]) & 0xFFFFFFFF or struct.unpack_from("<I", state)[0] != _MAGIC:
            return False
        return state[struct.calcsize(_HEAD) + struct.calcsize(_SMALL) - 1] == len(self._settings.channels)

    def attend(self, node):
        """Start the node, as a new boot or where it was."""
        self._node = node
        node.sleeper = self
        if self.boot and node.boot != self.boot:
            self._state = b""  # the flash knows a later boot, which is not this one: all that was kept is another's
        if not self._state:
            node.start()
            return
        state = self._state
        self._state = b""
        self._wake(node, state)

    # ---- waking ------------------------------------------------------------------------------------------------------

    def _wake(self, node, state):
        head = struct.unpack_from(_HEAD, state)
        at = struct.calcsize(_HEAD)
        small = struct.unpack_from(_SMALL, state, at)
        at += struct.calcsize(_SMALL)
        self._radio_s, self._rest_until_s, self._tried_seq, self.wake_ms, self.radio_ms = head[12:17]
        self._attempts = small[4]
        clock = node.clock
        elapsed_ms = self._slept_ms(head[10], small[3], head[11], clock)
        clock.s, clock.ms = head[7], small[0] + elapsed_ms
        clock.s += clock.ms // 1000
        clock.ms %= 1000
        node.outbox.epoch_s = clock.epoch_s = head[9]
        node.outbox.epoch_ms = clock.epoch_ms = small[2]
        clock.source = small[5]
        at = self._restore_records(node, state, at, small[6], head)
        node.start(True)
        node._judged = head[7] >= crash.HEALTHY_S  # in the wake before
        values = iter(array("i", state[at : len(state) - 4]))
        for name in COUNTERS:
            node.counters[name] = next(values)
        counts = node.outbox.counts
        counts.acked_reports, counts.acked_events, counts.acked_windows = [next(values) for _ in range(3)]
        counts.evicted_reports, counts.evicted_events, node.models.applied = [next(values) for _ in range(3)]
        good, bad, came, waited_ms, unsaid = [next(values) for _ in range(5)]
        if unsaid & 2:
            _say_reverted(node.models)
        node.models.resume(good, bad, came, hal.ticks_add(hal.net_ticks_ms(), -min(waited_ms, 1 << 28)), unsaid & 1)
        for one in node.filters:
            _fill(one, values)
        now = clock.advance()
        until_due_ms = (head[8] - clock.s) * 1000 + small[1] - clock.ms
        node._due = hal.ticks_add(now, until_due_ms)

    @staticmethod
    def _slept_ms(wall_s, wall_ms, asked_ms, clock):
        """How long the sleep was, by the clock that goes on in it, unless that was set meanwhile."""
        now_s, now_ms = hal.wall()
        slept_s = now_s - wall_s
        if 0 <= slept_s - asked_ms // 1000 + 1 <= _LATE_S_MAX:
            clock.advance()
            return slept_s * 1000 + now_ms - wall_ms
        return asked_ms

    def _restore_records(self, node, state, at, records, head):
        outbox = node.outbox
        _resume(outbox, head[3], head[5], head[6])
        for _ in range(records):
            seq, kind, channel, value, t_s, t_ms, trend = struct.unpack_from(_RECORD, state, at)
            _put_back(outbox, seq, kind, channel, value, t_s, t_ms, trend)
            at += struct.calcsize(_RECORD)
        node.link.head_seq = head[3] - 1
        node.link.hurry_seq = head[4]
        return at

    # ---- deciding ----------------------------------------------------------------------------------------------------

    def consider(self):
        """Called once a turn: switch the radio, or sleep, when the round of readings is over. May not return."""
        node = self._node
        if True in node._pending:
            return
        now = hal.net_ticks_ms()
        if self.radio:
            if not self._is_done(now):
                return
            self._radio_off()
        elif self._must_send():
            self.radio = self._used_radio = True
            self._up_since = None
            self._radio_by = hal.ticks_add(now, self._settings.power["awake_s"] * 1000)
            self._tried_seq = node.link.hurry_seq = node.link.head_seq  # nothing lingers while the radio is on
            return
        self._sleep()

    def _must_send(self):
        node = self._node
        now_s = node.clock.s
        outbox = node.outbox
        if outbox.counts.events and node.link.hurry_seq > self._tried_seq:
            return True
        if now_s < self._rest_until_s:
            return False
        if node.fresh or node.models.changed or now_s - self._radio_s >= self._settings.power["radio_s"]:
            return True
        if outbox.counts.events or outbox.store.used_bytes or (node.models.on_trial and outbox.counts.held()):
            return True
        if outbox._count >= self._settings.outbox["spill_records"]:
            return True
        age_s = now_s - outbox._ring.t_s[outbox._start] if outbox._count else -1
        return age_s >= 0 and age_s * 1000 >= node.link.linger_ms

    def _is_done(self, now):
        """Everything is said and confirmed, or time is up."""
        node = self._node
        if hal.ticks_diff(now, self._radio_by) >= 0:
            self._attempts = min(self._attempts + 1, 12)
            period_s = max(1, self._settings.period_ms // 1000)
            self._rest_until_s = node.clock.s + min(period_s << self._attempts, _REST_S_MAX)
            node.models.changed = True  # who knows what was said
            return True
        if not node.link.is_quiet() or node.fresh:
            return False
        if self._up_since is None:
            self._up_since = now  # every connect says how it is and which model runs
        if hal.ticks_diff(now, self._up_since) < _LISTEN_MS:
            return False
        self._attempts = 0
        self._rest_until_s = 0
        self._radio_s = node.clock.s
        return True

    def _radio_off(self):
        self.radio = False
        self._node.link.leave()
        hal.wifi_end()

    # ---- sleeping ----------------------------------------------------------------------------------------------------

    def _sleep(self):
        node = self._node
        now = node.clock.advance()
        sleep_ms = hal.ticks_diff(node._due, now)
        if sleep_ms < _SLEEP_MS_MIN:
            return
        awake_ms = hal.ticks_diff(hal.ticks_ms(), self._woke)
        if self._used_radio:
            self.radio_ms = awake_ms
        else:
            self.wake_ms = awake_ms
        if not hal.CAN_DEEP_SLEEP:
            hal.sleep_fed_ms(sleep_ms)
            self._woke = hal.ticks_ms()
            self._used_radio = False
            return
        state = self._pack(sleep_ms)
        if len(state) > rtc.BODY_BYTES_MAX:
            if not node.outbox.flush():
                return  # neither place takes the records: stay awake and keep them
            state = self._pack(sleep_ms)
        if len(state) > rtc.BODY_BYTES_MAX or not rtc.keep_body(state):
            hal.sleep_fed_ms(sleep_ms)  # too many channels for the memory: awake, as on a chip without it
            return
        hal.deep_sleep(sleep_ms)

    def _pack(self, sleep_ms):
        node = self._node
        clock = node.clock
        outbox = node.outbox
        wall_s, wall_ms = hal.wall()
        floor_boot, floor_seq = outbox.floor()
        due_ms = clock.ms + sleep_ms
        records = _records(outbox)
        values = [node.counters[name] for name in COUNTERS]
        counts = outbox.counts
        values += [counts.acked_reports, counts.acked_events, counts.acked_windows]
        values += [counts.evicted_reports, counts.evicted_events, node.models.applied]
        good, bad, came, waited_ms = node.models.progress(hal.net_ticks_ms(), hal.ticks_diff)
        models = node.models
        reverted = models.state["state"] == "reverted" and models.state["sequence"] == models._reverted_sequence
        unsaid = int(models.changed) + (2 if reverted else 0)
        values += [good, bad, came, min(waited_ms + sleep_ms, 1 << 28), unsaid]
        for one in node.filters:
            _integers(one, values)
        parts = [
            struct.pack(
                _HEAD,
                _MAGIC,
                node.boot,
                node.fresh,
                outbox.next_seq,
                node.link.hurry_seq,
                floor_boot,
                floor_seq,
                clock.s,
                clock.s + due_ms // 1000,
                clock.epoch_s,
                wall_s,
                sleep_ms,
                self._radio_s,
                self._rest_until_s,
                self._tried_seq,
                self.wake_ms,
                self.radio_ms,
            ),
            struct.pack(
                _SMALL,
                clock.ms,
                due_ms % 1000,
                clock.epoch_ms,
                wall_ms,
                self._attempts,
                clock.source,
                len(records),
                len(node.filters),
            ),
        ]
        for record in records:
            parts.append(struct.pack(_RECORD, *record))
        parts.append(bytes(array("i", values)))
        state = b"".join(parts)
        return state + struct.pack("<I", binascii.crc32(state) & 0xFFFFFFFF)
