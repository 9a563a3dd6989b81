"""The link: frames out of the outbox to the gateway, acknowledgements back, over one MQTT session that may break.

A state machine that the application's loop steps, on the network's clock; docs/link.md has the bound of each call:

    PAUSE -> WIFI -> RESOLVING -> CONNECTING -> GREETING -> SUBSCRIBING -> UP -> (any error) -> PAUSE

The pause is a full-jitter back-off; RESOLVING is left out for a gateway given by address.

Rules of delivery (design section 3): frames go in order of (boot, seq), at most `window` unacknowledged; an ack frees
the outbox; without progress for the ack time-out everything from the watermark on is sent again, after three such
rounds the session is renewed, which publishes `meta` and with it the floor. Event frames overtake a backlog. Must not
know sensors, filters or the flash.
"""

from micropython import const

from isocore import topics
from isonode import acks
from isonode.errors import LinkError, LinkRefused

STATE_NAMES = ("pause", "wifi", "resolving", "connecting", "greeting", "subscribing", "up")

_PAUSE = const(0)
_WIFI = const(1)
_RESOLVING = const(2)
_CONNECTING = const(3)
_GREETING = const(4)
_SUBSCRIBING = const(5)
_UP = const(6)

_SENDS_MAX = const(4)
_BACKOFF_MS = const(500)
_WIFI_MS = const(30000)  # for joining; then the radio is switched off and on
_ROUNDS_MAX = const(3)  # ack time-outs in a row before the session is renewed
_NEAR_RECORDS = const(32)  # an event this close behind what was sent needs not overtake


class Link:
    """port: the hal, or what stands for it in a test; session: mqtt.Session; options: config.LINK_FIELDS."""

    def __init__(self, port, poll, session, outbox, config):
        self._port = port
        self._poll = poll
        self._session = session
        self._outbox = outbox
        self._config = config
        self._options = config.link
        self._ack_topic = topics.topic(config.device, topics.ACK).encode()
        self._stem = self._ack_topic[: -len(topics.ACK)]  # of all the board's topics
        self._keys_topic = self._topic(topics.KEYS_SET) if config.root_key else None
        session.on_message = self._message
        session.set_last_will(topics.topic(config.device, topics.STATUS), b"offline", True)
        self.on_model = None  # called with a memoryview of a model/set message, valid until it returns
        self.on_keys = None  # the same for keys/set
        self.on_ack = None  # called with (unix seconds, ms) of each of the gateway's acks
        self.on_known = None  # called with the highest boot the gateway knows, its answer to a meta without a floor
        self.describe = None  # called with a leaf, returns the bytes of its retained message, or None for none
        self.asking = False  # `meta` asks which boots are known: no frame is sent before the answer
        self.state = _PAUSE
        self.sock = None
        self._raw = None  # the socket under a TLS session
        self.boot = 0
        self.head_seq = 0  # last seq appended, kept by the application
        self.hurry_seq = 0  # send without lingering up to this one
        self.last_error = self.last_reason = ""
        self.linger_ms = config.link["linger_ms"]  # how long a report waits for company; events never do
        self.frames_sent = self.retransmits = self.connects = self.bad_messages = 0
        self._dirty = []  # leaves of retained messages to be published
        self._finder = None  # of a gateway given by name
        self._until = port.net_ticks_ms()
        self._attempt = 0
        self._in_flight = []  # (boot, first seq, last seq)
        self._cursor_boot = self._cursor_seq = 0
        self._rounds = self._ack_by = self._last_in = 0
        self._resent = self._pinged = self._polled_out = self._more = False
        self._linger_until = None

    # ---- for the application ---------------------------------------------------------------------------------------

    def retain(self, leaf):
        """A retained message changed: publish it when connected. What it says is asked for at that moment."""
        if self.state == _UP and leaf not in self._dirty:
            self._dirty.append(leaf)

    def appended(self, seq, urgent):
        """Records up to `seq` are in the outbox; urgent: there is an event among the new ones. Allocates nothing."""
        self.head_seq = seq
        if urgent:
            self.hurry_seq = seq

    def step(self, events):
        """One bounded step; `events` are the socket's poll events. Never raises for what the network does."""
        now = self._port.net_ticks_ms()
        self._more = False
        try:
            if self.state > _WIFI and not self._port.wifi_up():
                raise LinkError("wifi", "lost")
            if self.state == _UP:
                self._step_up(now)
            elif self.state == _PAUSE:
                if self._passed(now, self._until):
                    self._join(now)
            elif self.state <= _RESOLVING:
                self._step_wifi(now)
            elif self.state == _CONNECTING:
                self._step_connecting(now, events)
            else:
                self._step_greeting(now)
            self._watch_output()
        except LinkError as error:
            self._fail(error)

    def next_ms(self):
        """Milliseconds of network time after which `step` has something to do without the socket being ready."""
        if self._more:
            return 0
        port = self._port
        now = port.net_ticks_ms()
        if self.state != _UP:
            left = port.ticks_diff(self._until, now)
            if _PAUSE < self.state <= _RESOLVING or self._raw is not None:
                left = min(left, 200)
        else:
            left = port.ticks_diff(self._ping_at(), now)
            if self._in_flight or self.asking:
                left = min(left, port.ticks_diff(self._ack_by, now))
            if self._linger_until is not None:
                left = min(left, port.ticks_diff(self._linger_until, now))
        return left if left > 0 else 0

    def is_told(self):
        """No retained message waits that this session could still bring."""
        return self.state != _UP or not (self._dirty or self._session.sending)

    def is_quiet(self):
        """Connected, all said and all of it confirmed."""
        return self.state == _UP and self.is_told() and self._outbox.floor() >= (self.boot, self.head_seq + 1)

    def leave(self):
        """End the session in good order, so that the broker does not publish the will. The next `step` begins anew."""
        if self.state == _UP:
            try:
                self._session.put_disconnect()
                self._session.flush()
            except LinkError:
                pass  # it was gone already
        self.close()
        self._until = self._port.net_ticks_ms()

    def renew(self):
        """The boot number is settled: say so in `meta`, and begin to send."""
        self._rounds = 0
        self._rewind()
        self.retain(topics.META)

    def close(self):
        """Drop the session, without a farewell: the broker publishes the will."""
        self._close_socket()
        self.state = _PAUSE

    # ---- connecting ------------------------------------------------------------------------------------------------

    def _passed(self, now, deadline):
        return self._port.ticks_diff(now, deadline) >= 0

    def _join(self, now):
        try:
            self._port.wifi_begin(self._config.ssid, self._config.wifi_password)
        except OSError as error:
            self._port.wifi_end()
            raise LinkError("wifi", str(error))
        self.state = _WIFI
        self._until = self._port.ticks_add(now, _WIFI_MS)
        self._step_wifi(now)

    def _step_wifi(self, now):
        """WIFI: until the board has an address. RESOLVING: until the gateway has one."""
        if self.state == _RESOLVING or self._port.wifi_up():
            self._find(now)
        elif self._port.wifi_gave_up() or self._passed(now, self._until):
            why = self._port.wifi_why()
            self._port.wifi_end()
            raise LinkError("wifi", why)

    def _find(self, now):
        """Where the gateway is: known at once when it is given by address; else one step of asking, 4 s in all."""
        host = self._config.host
        if self._config.named:
            if self._finder is None:
                from isonode.finder import Finder

                self._finder = Finder(self._port, self._poll, host, self._config.fallback)
            finder = self._finder
            if self.state != _RESOLVING:
                self.state = _RESOLVING
                finder.begin(now)
            host = finder.step(now)
            if finder.error is not None:  # told even where a fallback serves
                self.last_error = str(finder.error)
                self.last_reason = finder.error.reason
                finder.error = None
        if host is not None:
            self._connect(host, now)

    def _connect(self, host, now):
        """Open a TCP connection to an address: returns at once, POLLOUT tells of its end."""
        self.state = _CONNECTING
        try:
            self.sock = self._port.open_socket(self._port.socket_address(host, self._config.port))
        except OSError as error:
            raise LinkError("connect", repr(error))
        self._session.attach(self.sock)
        self._poll.register(self.sock, self._port.POLLIN | self._port.POLLOUT)
        self._polled_out = True
        self._until = self._port.ticks_add(now, self._options["connect_timeout_ms"])

    def _step_connecting(self, now, events):
        if events & (self._port.POLLERR | self._port.POLLHUP):
            raise LinkError("connect", "refused")
        if events & self._port.POLLOUT:
            if self._config.tls is not None:
                self._secure()
            self.state = _GREETING
            self._until = self._port.ticks_add(now, self._options["connect_timeout_ms"])
            self._session.put_connect()
            self._session.flush()
        elif self._passed(now, self._until):
            raise LinkError("timeout", "connecting")

    def _secure(self):
        """Go on with TLS. The handshake takes place in GREETING, driven by reading and writing."""
        from isonode import secure

        raw = self.sock
        self._poll.unregister(raw)
        self._raw = raw
        self.sock = None  # not registered while this may fail
        self.sock = secure.wrap(raw, self._config.tls, self._port.idf_heap_free_bytes())
        self._session.attach(self.sock, False)
        self._poll.register(self.sock, self._port.POLLIN)
        self._polled_out = False

    def _step_greeting(self, now):
        """GREETING: until CONNACK. _SUBSCRIBING: until all subscriptions are granted."""
        self._session.receive()
        if self.state == _GREETING:
            if self._session.flush() and self._session.accepted:
                self.state = _SUBSCRIBING
                self._session.put_subscribe(self._ack_topic)
                if self._keys_topic:  # before the models that its keys sign
                    self._session.put_subscribe(self._keys_topic)
                self._session.put_subscribe(self._topic(topics.MODEL_SET))
                self._session.flush()
        elif self._session.flush() and self._session.granted >= (3 if self._keys_topic else 2):
            self._came_up(now)
            return
        if self._passed(now, self._until):
            raise LinkError("timeout", STATE_NAMES[self.state])

    def _came_up(self, now):
        self.state = _UP
        if self._finder is not None:
            self._finder.settled()
        self.connects += 1
        self._last_in = now
        self._pinged = False
        self.renew()
        self._set_ack_deadline(now)
        self._dirty = [topics.META, topics.STATUS, topics.MODEL_STATE, topics.HEALTH]
        self._more = True

    def _fail(self, error):
        self.last_error = str(error)
        self.last_reason = error.reason
        if self._finder is not None:
            if error.reason == "wifi":
                self._finder.renewed()
            elif _RESOLVING < self.state < _UP:
                self._finder.failed()
        self._close_socket()
        self.state = _PAUSE
        ceiling = min(_BACKOFF_MS << min(self._attempt, 16), self._options["backoff_max_ms"])
        if isinstance(error, LinkRefused):
            ceiling = self._options["backoff_max_ms"]
        self._attempt += 1
        pause_ms = 50 + self._port.random_below(ceiling)
        self._until = self._port.ticks_add(self._port.net_ticks_ms(), pause_ms)

    def _close_socket(self):
        if self._finder is not None:
            self._finder.stop()
        sock, raw = self.sock, self._raw
        self.sock = self._raw = None
        if sock is not None:
            try:
                self._poll.unregister(sock)
            except (KeyError, OSError):
                pass  # never registered: nothing to undo
        try:
            self._session.close()
        finally:
            if raw is not None:  # a socket left open costs a TLS session's memory, and five of them the connection
                raw.close()
        self._linger_until = None
        self._dirty = []

    def _watch_output(self):
        """Ask for POLLOUT only while something waits for us to send it, or the poll would never wait."""
        shaking = self._raw is not None and self.state == _GREETING  # waits for the other side's bytes
        wanted = self._session.sending and not shaking
        if self.sock is not None and self.state > _CONNECTING and wanted != self._polled_out:
            self._polled_out = wanted
            self._poll.modify(self.sock, self._port.POLLIN | (self._port.POLLOUT if self._polled_out else 0))

    # ---- up --------------------------------------------------------------------------------------------------------

    def _ping_at(self):
        """When the broker's silence asks for a ping, or, after it, for giving up: 0.5 and 1.5 keep-alives."""
        half_ms = self._options["keepalive_s"] * 500
        return self._port.ticks_add(self._last_in, half_ms * 3 if self._pinged else half_ms)

    def _step_up(self, now):
        if self._session.receive():
            self._last_in = now
            self._pinged = False
        if self._in_flight and self._passed(now, self._ack_by):
            self._no_ack(now)
        if self._pinged and self._passed(now, self._ping_at()):
            raise LinkError("silence", "no answer to a ping")
        if not self._session.flush():
            return
        if not self._pinged and self._passed(now, self._ping_at()):
            self._pinged = True
            self._session.put_ping()
            self._more = self._session.flush()
        elif self._may_send(now):
            self._send(now)

    def _may_send(self, now):
        """False when there is surely nothing for `_send`, whose code is loaded for the occasion."""
        if self._dirty:
            return True
        if self.asking:
            return self._passed(now, self._ack_by)
        if self._cursor_boot == self.boot and self._cursor_seq >= self.head_seq:
            self._linger_until = None
            return False
        if self.hurry_seq > self._cursor_seq or self._cursor_boot < self.boot:
            return True
        if len(self._in_flight) >= self._options["window"]:
            return False
        waited = self._linger_until is None or self._passed(now, self._linger_until)
        return waited or self.head_seq - self._cursor_seq >= self._outbox.batch_records

    def _send(self, now):
        """Put packets into the session as long as it takes them, _SENDS_MAX at most."""
        for _ in range(_SENDS_MAX):
            if not self._put_next(now) or not self._session.flush():
                return
        self._more = True

    def _put_next(self, now):
        """Put the next packet into the session, the most pressing first. False when there is none."""
        while self._dirty:
            leaf = self._dirty.pop(0)
            payload = b"online" if leaf == topics.STATUS else self.describe(leaf)
            if payload is not None:
                self._session.put_publish(self._topic(leaf), payload, True)
                return True
        if self.asking:
            if not self._passed(now, self._ack_by):
                return False
            self._ask(now)
            return True
        frame = self._next_urgent() or self._next_frame(now)
        if frame is None:
            return False
        self.frames_sent += 1
        self._session.put_publish(self._topic(topics.UP), frame)
        return True

    def _ask(self, now):
        """Publish `meta`, and do so again when no answer came in time."""
        self._rounds = min(self._rounds + 1, 8)  # the ceiling of the back-off
        self._set_ack_deadline(now)
        self._session.put_publish(self._topic(topics.META), self.describe(topics.META), True)

    def _next_urgent(self):
        """A frame of events that a backlog, or a full window, keeps from being sent in its turn."""
        if self.hurry_seq <= self._cursor_seq and self._cursor_boot >= self.boot:
            return None  # already sent in order
        is_near_head = self._cursor_boot == self.boot and self.head_seq - self._cursor_seq <= _NEAR_RECORDS
        if is_near_head and len(self._in_flight) < self._options["window"]:
            return None  # next in order anyway
        return (self._outbox.next_urgent() or (None,))[0]

    def _next_frame(self, now):
        if len(self._in_flight) >= self._options["window"]:
            return None
        if self._cursor_boot == self.boot and self._cursor_seq >= self.head_seq:
            self._linger_until = None
            return None
        lingered = self._linger_until is not None and self._passed(now, self._linger_until)
        hurry = self.hurry_seq > self._cursor_seq or self._cursor_boot < self.boot
        item = self._outbox.next_frame(self._cursor_boot, self._cursor_seq, seal=lingered or hurry)
        if item is None:
            if self._linger_until is None:
                self._linger_until = self._port.ticks_add(now, self.linger_ms)
            return None
        frame, boot, first, last = item
        self._linger_until = None
        if not self._in_flight:
            self._set_ack_deadline(now)
        self._in_flight.append((boot, first, last))
        self._cursor_boot, self._cursor_seq = boot, last
        return frame

    def _set_ack_deadline(self, now):
        wait_ms = self._options["ack_timeout_ms"]
        if self._rounds:
            wait_ms += self._port.random_below(min(wait_ms << self._rounds, self._options["backoff_max_ms"]))
        self._ack_by = self._port.ticks_add(now, wait_ms)

    def _no_ack(self, now):
        self._rounds += 1
        if self._rounds >= _ROUNDS_MAX:
            raise LinkError("no_ack", "from the gateway")
        self.retransmits += len(self._in_flight)
        self._rewind()

    def _rewind(self):
        """Send again from the watermark on."""
        self._in_flight = []
        self._resent = False
        self._linger_until = None  # what lies on flash need not wait
        self._outbox.urgent_again()
        self._cursor_boot, seq = self._outbox.floor()
        self._cursor_seq = seq - 1

    # ---- incoming --------------------------------------------------------------------------------------------------

    def _topic(self, leaf):
        return self._stem + leaf.encode()

    def _message(self, topic, payload):
        if topic == self._ack_topic:
            try:
                self._take_ack(payload)
            except (ValueError, KeyError, TypeError, IndexError, MemoryError):
                self.bad_messages += 1
        elif topic == self._topic(topics.MODEL_SET):
            if payload and self.on_model is not None:
                self.on_model(payload)
        elif topic == self._keys_topic:
            if payload and self.on_keys is not None:
                self.on_keys(payload)
        else:
            self.bad_messages += 1

    def _take_ack(self, payload):
        """Raises what nonsense leads to, before any of it counts."""
        boot, seq, got, top, unix_s, ms = acks.read(payload)
        if (boot, seq) > (self.boot, self.head_seq):
            raise ValueError("acks what was never sent")
        if top is not None and self.on_known is not None:
            self.on_known(top)
        if got is not None:
            if boot == self.boot:
                self._outbox.urgent_got(got[0], got[1])
            self._fast_resend(boot, got[0], got[1])
        self._apply_ack(boot, seq, self._port.net_ticks_ms())
        if self.on_ack is not None and unix_s:
            self.on_ack(unix_s, ms)

    def _apply_ack(self, boot, seq, now):
        if not self._outbox.ack(boot, seq):
            if self._rounds:  # nothing new, but the gateway is back: no reason to wait longer
                self._rounds = 0
                self._set_ack_deadline(now)
            return
        floor = self._outbox.floor()
        self._attempt = 0
        self._rounds = 0
        self._resent = False
        self._in_flight = [flight for flight in self._in_flight if (flight[0], flight[2]) >= floor]
        self._set_ack_deadline(now)
        if (self._cursor_boot, self._cursor_seq + 1) < floor:
            self._cursor_boot, self._cursor_seq = floor[0], floor[1] - 1
        self._more = True

    def _fast_resend(self, boot, first, last):
        """A frame came through that was sent after the oldest in flight: on one TCP connection that one is lost."""
        flight = self._in_flight
        if self._resent or len(flight) < 2 or (boot, first, last) not in flight[1:]:
            return
        if flight[0][0] != boot or flight[0][2] >= first:
            return
        self.retransmits += len(flight)
        self._rewind()
        self._resent = True
