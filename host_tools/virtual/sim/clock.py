"""The board's two clocks, and the one place where a virtual board waits.

The board clock (`ticks_ms`) is virtual: while the board computes it follows real time, while the board waits it
advances by exactly what was waited for, and waiting `n` ms takes at most `n / speed` real ms. Pacing is soft: a slow
host runs late, it never makes the board skip anything. The network clock (`net_ticks_ms`) is real time.

Run time counts from the first power-on of the work dir and goes on across restarts; it is kept in seconds and
milliseconds because a board's small integers have 31 bits. Must not know pins, sensors or sockets: it asks `player`
when the next thing happens outside the board and lets it happen.
"""

import select
import sys
import time

from sim import host

TICKS_PERIOD = 1 << 30  # MICROPY_PY_TIME_TICKS_PERIOD of 32-bit ports
TICKS_MASK = TICKS_PERIOD - 1
TICKS_HALF = TICKS_PERIOD // 2
FOREVER = -1
STATUS_PERIOD_MS = 250  # real time between status events
SLICE_MS = 250  # longest single real wait
LAG_MAX_US = 200_000  # how much real time a late board may try to catch up

_real_ms = time.ticks_ms
_real_us = time.ticks_us

if sys.maxsize > TICKS_PERIOD * 2:  # 64-bit interpreter: its own ticks are wider than a board's

    def ticks_add(ticks, delta):
        return (ticks + delta) & TICKS_MASK

    def ticks_diff(end, start):
        return ((end - start + TICKS_HALF) & TICKS_MASK) - TICKS_HALF

    def ticks_cpu():
        return time.ticks_cpu() & TICKS_MASK

else:
    ticks_add = time.ticks_add
    ticks_diff = time.ticks_diff
    ticks_cpu = time.ticks_cpu

speed = 1  # may be a float
run_s = 0  # run time at the last sync
run_ms = 0
boot_s = 0  # run time at the start of this process
boot_ms = 0
link_up = True  # the access point is there (control line `wifi`)
player = None  # set by runner: until_ms(), fire()
on_status = None  # set by runner: called about every STATUS_PERIOD_MS of real time
on_save = None  # set by runner: keep run time where a power cut cannot lose it
timers = None  # set by timer while one runs: until_ms(), fire()
port = None  # set by repl_port on boards with a serial port: arrived(), take_woken(), pending

_offset_ms = 0  # ticks_ms() = real ticks + this
_anchor_ms = 0  # real ticks that belong to run_s, run_ms
_ahead_us = 0  # real time this board must still wait to be no faster than `speed`
_paced_us = 0  # real ticks (us) up to which _ahead_us is settled
_status_ms = 0  # real ticks of the next status event
_slice_ms = SLICE_MS  # board time in SLICE_MS of real time
_port_fd = -1

_POLLIN = select.POLLIN


def net_ticks_ms():
    return _real_ms() & TICKS_MASK


def ticks_ms():
    return ticks_add(_real_ms(), _offset_ms)


def ticks_us():
    # the offset times 1000, modulo the period, in two halves so that no intermediate leaves 31 bits
    low = ticks_diff((_offset_ms & 0xFFFFF) * 1000, 0)
    high = ticks_diff(((_offset_ms >> 20 & 0x3FF) * 1000 & 0x3FF) << 20, 0)
    return ticks_add(ticks_add(_real_us() & TICKS_MASK, low), high)


def start(speed_factor, seconds, milliseconds, first_ticks_ms):
    """Begin at the given run time, with `ticks_ms` at `first_ticks_ms` (a board that booted shows 0 or so)."""
    global run_s, run_ms, boot_s, boot_ms, _offset_ms, _anchor_ms, _paced_us, _status_ms
    set_speed(speed_factor)
    boot_s = run_s = seconds
    boot_ms = run_ms = milliseconds
    _anchor_ms = _real_ms()
    _offset_ms = ticks_diff(first_ticks_ms & TICKS_MASK, _anchor_ms & TICKS_MASK)
    _paced_us = _real_us()
    _status_ms = ticks_add(_anchor_ms, STATUS_PERIOD_MS)


def sync():
    """Bring run_s and run_ms up to now."""
    global run_ms, _anchor_ms
    now = _real_ms()
    run_ms += ticks_diff(now, _anchor_ms)
    _anchor_ms = now
    _carry()


def _carry():
    global run_s, run_ms
    if run_ms >= 1000:
        run_s += run_ms // 1000
        run_ms %= 1000


def uptime_ms():
    """Board time since this boot, for events (may be a big integer: not for hot paths)."""
    sync()
    return (run_s - boot_s) * 1000 + run_ms - boot_ms


def until(seconds, milliseconds):
    """Milliseconds of run time until the given one, at most half a ticks period; 0 when it has passed."""
    ahead_s = seconds - run_s
    if ahead_s > 500_000:
        return TICKS_HALF - 1
    if ahead_s < 0:
        return 0
    return max(0, ahead_s * 1000 + milliseconds - run_ms)


def skip(sleep_ms):
    """Let run time pass while the chip is off (deep sleep)."""
    global run_s, run_ms
    sync()
    run_s += sleep_ms // 1000
    run_ms += sleep_ms % 1000
    _carry()


def set_speed(factor):
    """From now on `factor` seconds of board time pass in a real one while the board waits."""
    global speed, _ahead_us, _slice_ms
    speed = factor
    _ahead_us = 0
    _slice_ms = max(1, int(SLICE_MS * factor))


def _settle():
    """Count the real time since the last wait, in which the board computed, against the pace."""
    global _ahead_us, _paced_us
    now = _real_us()
    spent = ticks_diff(now, _paced_us)
    _paced_us = now
    _ahead_us += int(spent // speed) - spent
    if _ahead_us < -LAG_MAX_US:
        _ahead_us = -LAG_MAX_US


def _advance(from_ticks, waited_ms):
    """The board waited: set its clock to `from_ticks + waited_ms`, however long that really took."""
    global _offset_ms, _anchor_ms, run_ms, _ahead_us, _paced_us
    now = _real_ms()
    _offset_ms = ticks_diff(ticks_add(from_ticks, waited_ms), now & TICKS_MASK)
    _anchor_ms = now
    run_ms += waited_ms
    _carry()
    now = _real_us()
    _ahead_us += int(waited_ms * 1000 // speed) - ticks_diff(now, _paced_us)
    _paced_us = now


def status_if_due():
    global _status_ms
    now = _real_ms()
    if ticks_diff(now & TICKS_MASK, _status_ms) >= 0:
        _status_ms = ticks_add(now & TICKS_MASK, STATUS_PERIOD_MS)
        on_status()


def wait(poller, due_ms, net_timeout_ms):
    """Wait until the board clock advanced by `due_ms`, `net_timeout_ms` of real time passed, or something is ready.

    -1 stands for no bound on that clock. Returns the ready (object, event) pairs, or () when time was up. Things
    outside the board (trace rows, pin edges) happen at their exact time: the clock stops there, they happen, and the
    poller's own objects are asked again.
    """
    ready = poller.check()
    if ready:
        due_ms = 0
    end = ticks_add(ticks_ms(), min(due_ms, TICKS_HALF - 1)) if due_ms >= 0 else 0
    net_end = ticks_add(net_ticks_ms(), min(net_timeout_ms, TICKS_HALF - 1)) if net_timeout_ms >= 0 else 0
    while True:
        status_if_due()
        sync()
        step = player.until_ms()
        if step == 0:
            player.fire()
            ready = poller.check()
            if ready:
                due_ms = 0
                end = ticks_ms()
            continue
        if step < 0 or step > _slice_ms:
            step = _slice_ms
        if timers is not None:
            left = timers.until_ms()
            if left == 0:
                timers.fire()
                continue
            if 0 < left < step:
                step = left
        last = False
        started = ticks_add(_anchor_ms & TICKS_MASK, _offset_ms)  # ticks at the sync above, so that both clocks agree
        if due_ms >= 0:
            left = ticks_diff(end, started)
            if left <= step:
                step = max(0, left)
                last = True
        _settle()
        pause_us = _ahead_us + int(step * 1000 // speed) if step else 0
        pause_ms = (pause_us + 500) // 1000 if pause_us > 0 else 0
        cut = False
        if net_timeout_ms >= 0:
            left = max(0, ticks_diff(net_end, net_ticks_ms()))
            if left < pause_ms or not left:
                pause_ms = left
                cut = True
        found = _poll(poller, pause_ms)
        woken = port is not None and port.take_woken()
        if found or cut or woken:
            # not (surely) the whole step: as much of it as the real time spent is worth
            step = min(step, int(ticks_diff(_real_us(), _paced_us) * speed) // 1000)
        _advance(started, step)
        on_save()
        if port is not None and port.pending:
            port.pending = False
            raise KeyboardInterrupt
        if found:
            return ready + found if ready else found
        if woken:
            ready = poller.check()
            if ready:
                return ready
            last = False
        if last or cut:
            return ready


def _poll(poller, pause_ms):
    """One real poll; control lines and the serial port are served here and are not the firmware's business."""
    found = ()
    native = poller.native if link_up else _control_only
    for item in native.ipoll(pause_ms):
        thing = item[0]
        if isinstance(thing, int):
            _serve(thing)
        else:
            found = poller.add(found, thing, item[1])
    return found


def block(native, timeout_ms):
    """A blocking socket call: wait in real time for the socket in `native`; False when time is up. -1 is for ever."""
    end = ticks_add(net_ticks_ms(), timeout_ms) if timeout_ms >= 0 else 0
    while True:
        status_if_due()
        pause_ms = SLICE_MS
        if timeout_ms >= 0:
            left = ticks_diff(end, net_ticks_ms())
            if left <= 0:
                return False
            pause_ms = min(left, SLICE_MS)
        for item in (native if link_up else _control_only).ipoll(pause_ms):
            if isinstance(item[0], int):
                _serve(item[0])
            else:
                return True
        if port is not None and port.pending:
            port.pending = False
            raise KeyboardInterrupt


def _serve(descriptor):
    if descriptor:
        port.arrived()
    else:
        host.control()


class Idle:
    """A poller with nothing in it: plain sleeping."""

    def __init__(self):
        self.native = _control_only

    def check(self):
        return ()

    def add(self, found, thing, event):
        return found


def control_poll():
    """A real poll object that already watches the control line, and the serial port where there is one."""
    native = select.poll()
    native.register(0, _POLLIN)
    if port is not None:
        native.register(_port_fd, _POLLIN)
    return native


def watch_port(serial_port, descriptor):
    """From now on every wait also serves the board's serial port."""
    global port, _port_fd
    port = serial_port
    _port_fd = descriptor
    _control_only.register(descriptor, _POLLIN)


_control_only = control_poll()
idle = Idle()


def sleep_ms(duration_ms):
    if duration_ms >= TICKS_HALF:
        while duration_ms >= TICKS_HALF:
            wait(idle, TICKS_HALF - 1, FOREVER)
            duration_ms -= TICKS_HALF - 1
    wait(idle, max(0, duration_ms), FOREVER)
