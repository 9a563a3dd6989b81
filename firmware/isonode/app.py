"""The board's application: the only file that sees all stages, and the loop that steps them.

    sensors -> filter -> actuators, outbox -> link        and acknowledgements and models back

Each turn of the loop: feed the watchdog, sample what is due, one bounded link step, outbox maintenance, one wait. The
path from a reading to its records allocates nothing (tests/firmware/test_hot_path.py). Importing has no effects:
`main` starts it.
"""

import gc

from micropython import const

from isocore import topics
from isocore.filter import ChannelFilter
from isocore.model import ChannelParams
from isocore.record import BOARD_CHANNEL, BOOT, FAULT, FAULT_RANGE, HIGH_ON, LOW_ON, RATE_ON
from isonode import crash, goodconfig, hal, lazy, report
from isonode.clock import SOURCE_GATEWAY, SOURCE_RTC, SOURCE_SNTP, Clock
from isonode.health import Health, new_counters
from isonode.link import Link
from isonode.models import Models
from isonode.mqtt import Session
from isonode.outbox import Outbox

OUTBOX_FOLDER = "/outbox"
MODEL_FOLDER = "/model"
MESSAGE_BYTES_MAX = 4096 + 128  # a model container and its topic: the largest message that is taken
_EPOCH_BASE_UNIX_S = const(1735689600)
_FIGURES_MS = const(1000)  # network time between looks at the slow figures (free heap walks the heap)
_PROOF_S = const(30)  # uptime after which a new slot that takes readings has proved itself
_JUDGE_S = const(10)  # between looks at whether it has, and whether safe mode is over
_NEVER_S = const(0x3FFFFFFF)
_IDLE_MS = const(100)  # with no sample due within this, maintenance may take longer

node = None  # set by main(); the virtual board's supervisor reads node.counters


class Node:
    """One board. `settings` is a settings.Settings, `boot` the number of this boot."""

    def __init__(self, settings, boot, cause, crashes=0, fresh=0, safe=False, resumed=False):
        """crashes: in a row up to this boot; fresh: see isonode.identity; safe: in safe mode (isonode.crash).

        resumed: a deep sleep is over (isonode.sleeper), and `boot` goes on.
        """
        self.settings = settings
        self.clock = Clock(hal.ticks_ms, hal.ticks_diff)
        self.cause = cause
        self.crashes = crashes
        self.safe = safe
        self.outbox = Outbox(root=OUTBOX_FOLDER, boot=boot, **settings.outbox)
        self.outbox.open(resumed)
        if self.outbox.boot > boot:  # the flash knows a later boot: the counter's files were lost
            boot, fresh = identify(self.outbox.boot)
            self.outbox.boot = boot
        self.fresh = fresh
        self.counters = new_counters(boot)
        self.tap = hal.tap
        self.models = Models(
            MODEL_FOLDER,
            settings.model_keys,
            (settings.fleet, settings.device, settings.device_class, report.FIRMWARE_VERSION),
            settings.trial_samples,
            settings.trial_timeout_ms,
            settings.root_key,
        )
        self.poll = hal.poller()
        self.session = Session(
            settings.device, settings.link["keepalive_s"], MESSAGE_BYTES_MAX, settings.user, settings.password
        )
        self.link = Link(hal, self.poll, self.session, self.outbox, settings)
        self.link.describe = self._describe
        self._be(boot)
        self.link.on_ack = self._on_ack
        self.link.on_model = self._on_model
        self.link.on_keys = self.models.offer_list
        self.health = Health(settings.health_s)
        self.filters = [ChannelFilter(ChannelParams()) for _ in settings.channels]
        self.outputs = None if safe else _outputs(settings.actuators, cause == hal.RESET_POWER_ON)
        self.sensors = _sensors(settings.sensors)
        settings.sensors = ()  # their pins and addresses are asked for no more
        self._out_before = [False] * len(self.filters)  # out of range already when the model on trial came
        self._pending = [False] * len(self.sensors)
        self._read_once = [False] * len(self.sensors)
        self._round_s = 0
        self._round_ms = 0
        self._urgent = False
        self._due = hal.ticks_ms()
        self._figures_at = hal.net_ticks_ms()
        self._watchdog = None
        self._judged = False
        self._judge_at_s = 0 if safe else _PROOF_S  # uptime
        self._sntp = None
        self._slot_trial = False
        self.strobe = None
        self.sleeper = None
        self._events = 0

    def _be(self, boot):
        """Go by this boot number."""
        self.boot = boot
        self.counters["boot"] = boot
        self.link.boot = boot
        self.link.asking = self.fresh != 0
        self.link.on_known = self._on_known if self.fresh else None
        hal.set_tap_boot(boot)

    def start(self, resumed=False):
        """Everything that touches hardware or flash beyond the constructor; then the first record: this boot.

        resumed: a deep sleep is over (isonode.sleeper): the same boot goes on.
        """
        settings = self.settings
        if settings.clock == "rtc":
            wall_s, wall_ms = hal.wall()
            self._set_wall(wall_s, wall_ms, SOURCE_RTC)
        elif settings.clock == "sntp":
            from isonode.sntp import Sntp

            self._sntp = Sntp(hal, self.poll, self._time_servers, settings.ntp_port, settings.ntp_every_s)
        self.models.open(self._unix_s(), self.crashes > 0, resumed)
        if self.safe:
            self.models.stand_by()
        self._use_model()
        if settings.strobe_pin is not None:
            from isonode.strobe import Strobe

            self.strobe = Strobe(settings.strobe_pin)
            self.poll.register(self.strobe, hal.POLLIN)
        now = self.clock.advance()
        self._due = now
        if not resumed:
            self._append(BOOT, BOARD_CHANNEL, self.cause, self.clock.s, self.clock.ms)
            self._send_events()
            _greet(self)
        self._watchdog = hal.watchdog(settings.watchdog_ms)
        self._slot_trial = _on_slot_trial()
        gc.collect()

    def run(self):
        """For ever. Whatever is raised out of here is a defect; main.py logs it and resets."""
        while True:
            self.turn()

    def turn(self):
        """One turn of the loop; waits until something is due, at most a second. The watchdog is fed for work done."""
        now = self.clock.advance()
        self.sample(now)
        if self.outputs is not None:
            self.outputs.step(now)
        if self.sleeper is None or self.sleeper.radio:
            self.link.step(self._events)
        self._housekeeping()
        if self._watchdog is not None:
            self._watchdog.feed()
        if self.sleeper is not None:
            self.sleeper.consider()
        due_ms = self._due_ms(hal.ticks_ms())
        net_ms = self.link.next_ms()
        self.outbox.maintain(self.clock.s, due_ms < 0 or due_ms > _IDLE_MS)
        if self.outputs is not None:
            due_ms = self.outputs.sooner_ms(now, due_ms)
        self._events = hal.wait(self.poll, self.link.sock, due_ms, min(net_ms, _FIGURES_MS))

    # ---- sampling: allocates nothing on the good path ---------------------------------------------------------------

    def sample(self, now):
        """Begin a round of readings when it is due, and take every reading that is ready."""
        strobe = self.strobe
        if strobe is not None:
            strobe.held = self._unread()
            if strobe.pending and not strobe.held:
                strobe.pending = False
                self._begin(strobe.ticks, now)
        else:
            late_ms = hal.ticks_diff(now, self._due)
            if late_ms >= 0:
                self._begin(self._due, now)
                period_ms = self.settings.period_ms
                self._due = hal.ticks_add(self._due, period_ms)
                if late_ms >= period_ms:  # the grid stays; what fell between was missed
                    skipped = late_ms // period_ms
                    self.counters["missed"] += skipped
                    self._due = hal.ticks_add(self._due, skipped * period_ms)
                if late_ms > self.counters["lateness_max_ms"]:
                    self.counters["lateness_max_ms"] = late_ms
        for i in range(len(self.sensors)):
            if self._pending[i]:
                sensor = self.sensors[i]
                if sensor.wait_ms(now) == 0:
                    self._read_once[i] = True
                    if sensor.read(now):
                        self._finish(i)
        if strobe is not None and strobe.held:
            strobe.held = self._unread()
        if self._urgent:
            self._send_events()

    def _unread(self):
        """True while a sensor of the present round has not been read at all."""
        for i in range(len(self.sensors)):
            if self._pending[i] and not self._read_once[i]:
                return True
        return False

    def _begin(self, at, now):
        """Start all sensors for the moment `at`. Readings still open end with what is known of them."""
        for i in range(len(self.sensors)):
            if self._pending[i]:
                if self._read_once[i]:
                    self._finish(i)
                else:
                    self._pending[i] = False
                    self.counters["missed"] += 1
        self.clock.at(at)
        self._round_s = self.clock.at_s
        self._round_ms = self.clock.at_ms
        for i in range(len(self.sensors)):
            self.sensors[i].start(now)
            self._pending[i] = True
            self._read_once[i] = False

    def _finish(self, i):
        sensor = self.sensors[i]
        self._pending[i] = False
        channels = sensor.channels
        for j in range(len(channels)):
            if sensor.faults[j]:
                self.fault(channels[j], sensor.faults[j])
            else:
                self.reading(channels[j], sensor.values[j])

    def reading(self, channel, value):
        """One reading of the present round into the filter, and what comes out of it into the outbox."""
        state = self.filters[channel]
        count = state.step(self._round_s, self._round_ms, value)
        if state.sampled:
            self.counters["sampled"] += 1
            self.counters["suppressed"] += 1  # until a report is made of it, at once or after a delay
            if self.tap is not None:
                self.tap(0, channel, value, 0, self._round_s, self._round_ms)
        if self.models.on_trial:
            if state.sampled:
                self.models.on_sample()
            elif state.fault_code == FAULT_RANGE and not self._out_before[channel]:
                self.models.on_out_of_range()
        self._take(state, channel, count)

    def fault(self, channel, code):
        """A sensor failed in the present round."""
        state = self.filters[channel]
        self._take(state, channel, state.fault(code))

    def _take(self, state, channel, count):
        if self.outputs is not None:
            self.outputs.follow(channel, state)
        self.counters["sent"] += state.reported
        self.counters["suppressed"] -= state.reported
        for i in range(count):
            t_s = state.at_s(i, self._round_s)
            t_ms = state.at_ms(i, self._round_ms)
            self._append(state.kinds[i], channel, state.values[i], t_s, t_ms, state.trend(i))

    def _append(self, kind, channel, value, t_s, t_ms, trend=0):
        seq = self.outbox.append(kind, channel, value, t_s, t_ms, trend)
        if HIGH_ON <= kind <= BOOT:
            self._urgent = True
            self.counters["events_sent"] += 1
            if kind == HIGH_ON or kind == LOW_ON or kind == RATE_ON:
                self.counters["alarms"] += 1
            elif kind == FAULT:
                self.counters["faults"] += 1
        self.link.appended(seq, self._urgent)
        if self.tap is not None:
            self.tap(kind, channel, value, seq, t_s, t_ms)

    # ---- beside the hot path ---------------------------------------------------------------------------------------

    def _send_events(self):
        self._urgent = False
        self.outbox.flush_urgent()

    def _due_ms(self, now):
        """Board time until the next round or the next reading, -1 if there is none to wait for."""
        due_ms = -1 if self.strobe is not None else max(0, hal.ticks_diff(self._due, now))
        for i in range(len(self.sensors)):
            if self._pending[i]:
                wait_ms = self.sensors[i].wait_ms(now)
                if due_ms < 0 or wait_ms < due_ms:
                    due_ms = wait_ms
        return due_ms

    def _housekeeping(self):
        if self.models.on_trial and self.models.step(hal.net_ticks_ms(), hal.ticks_diff):
            self._use_model()
        quiet = self.sleeper is not None and not self.sleeper.radio
        if self._sntp is not None and not quiet:
            wall = self._sntp.step()
            if wall is not None:
                self._set_wall(wall[0], wall[1], SOURCE_SNTP)
        if self.models.changed and not quiet:
            self.models.changed = False
            self.link.retain(topics.MODEL_STATE)
        if self.outputs is not None:
            self.outputs.keep()
        report.count(self)
        net_now = hal.net_ticks_ms()
        if hal.ticks_diff(net_now, self._figures_at) < 0:
            return
        self._figures_at = hal.ticks_add(net_now, _FIGURES_MS)
        lazy.cool()
        counters = self.counters
        counters["free_heap_bytes"] = hal.heap_free_bytes()
        counters["model_io_errors"] = self.models.io_errors
        if self.strobe is not None:
            counters["missed"] = self.strobe.overruns
        if self.clock.s >= self._judge_at_s:
            self._judge_at_s = self._judge()
        if self.sleeper is None and self.health.due(self.clock.s, report.note(self)):
            self.link.retain(topics.HEALTH)

    def _judge(self):
        """After a while without a crash: the slot has proved itself, the row is over, or safe mode is.

        Returns the uptime in seconds at which there may be something to judge again.
        """
        now_s = self.clock.s
        if self._slot_trial and now_s >= _PROOF_S and (self.counters["sampled"] or self.counters["faults"]):
            self._slot_trial = _on_slot_trial(True)
        if self.safe:
            if (self.models.applied and self.link.is_told()) or now_s >= crash.stay_s():
                self.restart(crash.on_leaving)
        elif not self._judged and now_s >= crash.HEALTHY_S:
            self._judged = True
            self.crashes = 0
            crash.on_healthy()
            goodconfig.keep(crash.CONFIG_PATH)
        if self.safe or self._slot_trial:
            return now_s + _JUDGE_S
        return _NEVER_S if self._judged else crash.HEALTHY_S

    def restart(self, announce=None):
        """A planned reset: everything is durable first. Returns, with nothing done, where flash does not take it."""
        if self.outbox.close():
            self.link.close()
            (announce or crash.on_planned)()
            hal.reset()

    def _use_model(self):
        current = self.models.current
        default = ChannelParams()  # one for all channels that the model does not mention
        lazy.forget("isocore.fields")
        least_s = 0
        for i in range(len(self.filters)):
            name = self.settings.channels[i].name
            params = (current.channels.get(name) if current is not None else None) or default
            self.filters[i].configure(params)
            if i == 0 or params.min_interval_s < least_s:
                least_s = params.min_interval_s
        self.link.linger_ms = max(self.settings.link["linger_ms"], least_s * 1000)

    def _on_model(self, container):
        if self.models.offer(container, self._unix_s()):
            for i in range(len(self.filters)):
                self._out_before[i] = self.filters[i].fault_code == FAULT_RANGE
                self.filters[i].renew()
            self._use_model()

    def _describe(self, leaf):
        return report.message(self, leaf)

    def _on_known(self, top):
        """The gateway knows boots up to `top`: from here on records may be sent, if need be under a later number."""
        if not self.fresh:
            return
        from isonode import identity

        boot = identity.settle(self.outbox, self.boot, self.fresh, top)
        lazy.forget("isonode.identity")
        lazy.forget("isonode.bootcount")
        if boot:
            self.fresh = 0
            self._be(boot)
            self.link.renew()

    def _on_ack(self, unix_s, ms):
        if self.models.on_trial:
            self.models.on_ack()
        if self.settings.clock != "rtc":
            self._set_wall(unix_s - _EPOCH_BASE_UNIX_S, ms, SOURCE_GATEWAY)

    def _time_servers(self):
        """Servers to ask for the time, the configured one first; the gateway's machine and the router often know it."""
        return (self.settings.ntp_host, self.settings.host, hal.neighbour(hal.ROUTER))

    def _set_wall(self, wall_s, wall_ms, source):
        self.clock.advance()
        if self.clock.set_wall(wall_s, wall_ms, source):
            self.outbox.epoch_s = self.clock.epoch_s
            self.outbox.epoch_ms = self.clock.epoch_ms

    def _unix_s(self):
        """Unix time, or None while unknown."""
        if not self.clock.epoch_s:
            return None
        return _EPOCH_BASE_UNIX_S + self.clock.epoch_s + self.clock.s


def identify(at_least=1):
    """Count this boot: (boot, fresh), see isonode.identity."""
    from isonode import identity

    found = identity.begin(at_least, OUTBOX_FOLDER)
    del identity
    for name in ("identity", "bootcount", "renumber"):
        lazy.forget("isonode." + name)
    return found


def _greet(node):
    from isonode import capacity

    capacity.greet(node)
    del capacity
    lazy.forget("isonode.capacity")


def _sensors(settings):
    from isonode import sensors

    made = sensors.make(settings, hal)
    del sensors
    lazy.forget("isonode.sensors")  # the drivers that it loaded stay
    return made


def _outputs(settings, power_on):
    """Alarm outputs, or None where there are none: then their code is not loaded."""
    if not settings:
        return None
    from isonode.actuator import Outputs

    outputs = Outputs(settings, hal)
    outputs.restore(power_on)
    return outputs


def _on_slot_trial(proved=False):
    from isonode import slots

    going_on = slots.on_trial(proved)
    del slots
    for name in ("isonode.slots", "isocore.slot"):
        lazy.forget(name)
    return going_on


def main(settings, cause, crashes, safe):
    """Build the node and run it for ever. crashes: in a row; safe: in safe mode. What brings it down is raised."""
    global node
    sleeper = None
    if settings.power["mode"] and not safe:
        from isonode.sleeper import Sleeper

        sleeper = Sleeper(settings, cause)
    resumed = sleeper is not None and sleeper.boot > 0
    boot, fresh = (sleeper.boot, sleeper.fresh) if resumed else identify(settings.boot_base + 1)
    node = Node(settings, boot, cause, crashes, fresh, safe, resumed)
    if sleeper is None:
        node.start()
    else:
        sleeper.attend(node)
    lazy.cool(True)
    try:
        node.run()
    finally:
        node.outbox.flush()  # a crash loses no record; a flash that does not take them is counted
