"""The board's `select` module: `poll` over sockets, over streams of the firmware's own, and over virtual time.

`poll.poll` and `poll.ipoll` take their time-out in board time, as on a chip. `virtual_wait` exists on virtual boards
only and bounds the wait on both clocks at once: board time until something is due, real time for the network.
Must not know what the objects are for.
"""

import select as _native

from sim import clock, sockets

POLLIN = _native.POLLIN
POLLOUT = _native.POLLOUT
POLLERR = _native.POLLERR
POLLHUP = _native.POLLHUP
_MP_STREAM_POLL = 3
_ALWAYS = POLLERR | POLLHUP | 32  # and MP_STREAM_POLL_NVAL


class poll:
    def __init__(self):
        self.native = clock.control_poll()
        self._sockets = {}  # id of the real socket -> [socket, mask]
        self._streams = []  # [stream with ioctl, mask]

    def register(self, obj, eventmask=POLLIN | POLLOUT):
        if isinstance(obj, sockets.socket):
            self.native.register(obj.native, eventmask)
            self._sockets[id(obj.native)] = [obj, eventmask]
        elif hasattr(obj, "ioctl"):
            for entry in self._streams:
                if entry[0] is obj:
                    entry[1] = eventmask
                    return
            self._streams.append([obj, eventmask])
        else:
            self.native.register(obj, eventmask)

    def modify(self, obj, eventmask):
        if isinstance(obj, sockets.socket):
            if id(obj.native) not in self._sockets:
                raise OSError(2)
            self.register(obj, eventmask)
        elif hasattr(obj, "ioctl"):
            for entry in self._streams:
                if entry[0] is obj:
                    entry[1] = eventmask
                    return
            raise OSError(2)
        else:
            self.native.modify(obj, eventmask)

    def unregister(self, obj):
        if isinstance(obj, sockets.socket):
            if self._sockets.pop(id(obj.native), None):
                self.native.unregister(obj.native)
        elif hasattr(obj, "ioctl"):
            for i in range(len(self._streams)):
                if self._streams[i][0] is obj:
                    self._streams.pop(i)
                    return
        else:
            self.native.unregister(obj)

    def poll(self, timeout_ms=-1):
        return list(clock.wait(self, timeout_ms, clock.FOREVER))

    def ipoll(self, timeout_ms=-1, flags=0):
        return iter(clock.wait(self, timeout_ms, clock.FOREVER))

    # ---- for clock.wait

    def check(self):
        """The firmware's own streams that are ready, and room in send buffers while the access point is away."""
        ready = ()
        for entry in self._streams:
            event = entry[0].ioctl(_MP_STREAM_POLL, entry[1]) & (entry[1] | _ALWAYS)
            if event:
                ready = self._append(ready, entry[0], event)
        if not clock.link_up:
            for entry in self._sockets.values():
                event = entry[0].room_while_down(entry[1])
                if event:
                    ready = self._append(ready, entry[0], event)
        return ready

    def add(self, found, thing, event):
        entry = self._sockets.get(id(thing))
        return self._append(found, entry[0] if entry else thing, event)

    def _append(self, found, thing, event):
        if not found:
            return [(thing, event)]
        found.append((thing, event))
        return found


def virtual_wait(poller, due_ms, net_timeout_ms):
    """Wait on `poller` until board time advanced by `due_ms` or `net_timeout_ms` of real time passed; -1: no bound.

    Returns an iterable of ready (object, event) pairs, empty when time was up.
    """
    return clock.wait(poller, due_ms, net_timeout_ms)
