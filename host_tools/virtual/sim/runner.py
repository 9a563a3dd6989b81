"""Start one virtual board: arguments are the spec file, the reset cause, whether the access point is there, and whether
it begins at its prompt (because Ctrl-C ended a program that computed without ever waiting).

Puts the simulated modules in place of the unix port's, mounts the flash as the only file system and boots as a chip
does: boot.py, then main.py, then the (idle) prompt, where an armed watchdog still bites.
Must not know the firmware, except that `isonode.app.node.counters` and `isonode.lazy.loads` are shown to the supervisor
when they exist.
"""

import sys

sys.path[:] = [sys.path[0].rsplit("/", 1)[0], ".frozen"]  # the package of this file, not its folder

import gc  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402

import vfs  # noqa: E402
from sim import clock, flash, heap, host, machine, names, network, player, silicon, sockets, state, timemod  # noqa: E402

_UNIX_2000_S = 946_684_800
_device = None
_repl = None  # the module, on boards with a serial port
_after_soft_reset = None  # file for what outlives a soft reset


def _replace_modules(platform):
    from sim import errno_esp32, esp32, onewire_bus, polling, tlsmod

    replaced = {
        "machine": machine,
        "network": network,
        "socket": sockets,
        "select": polling,
        "time": timemod,
        "tls": tlsmod,
        "_onewire": onewire_bus,
    }
    if platform == "esp32":
        replaced["errno"] = errno_esp32
        replaced["esp32"] = esp32
    else:
        from sim import network_rp2

        replaced["network"] = network_rp2
        tlsmod.has_idf_heap = False
    for name, module in replaced.items():
        sys.modules[name] = module
    from sim.drivers import dht, ds18x20, onewire

    for name, module in (("dht", dht), ("onewire", onewire), ("ds18x20", ds18x20)):
        sys.modules[name] = module


def _counters():
    app = sys.modules.get("isonode.app")
    node = getattr(app, "node", None)
    return getattr(node, "counters", None) or {}


def _status():
    """One counters event: the firmware's own counters and a few of the silicon."""
    machine.report_pins()
    machine.anchor_tap()
    fields = dict(_counters())
    fields["overlay_loads"] = getattr(sys.modules.get("isonode.lazy"), "loads", 0)
    fields["uptime_ms"] = clock.uptime_ms()
    fields["run_ms"] = clock.run_s * 1000 + clock.run_ms
    fields["rows"] = state.rows_fired
    fields["trace_done"] = player.trace_done
    fields["heap_free_bytes"] = gc.mem_free()
    fields["flash_erases"] = _device.erases
    fields["flash_bytes"] = _device.programmed_bytes
    if host.events_dropped:
        fields["events_dropped"] = host.events_dropped
    host.emit("counters", fields)


def _save():
    clock.sync()
    state.run_s = clock.run_s
    state.run_ms = clock.run_ms
    state.save()


def _stop(words):
    _status()
    _save()
    host.emit("off", {"counters": _counters()})
    host.leave(host.EXIT_OFF)


def _speed(words):
    if not player.trace_done and not host.at_prompt:  # after its trace, and for people, a board keeps to real time
        clock.set_speed(float(words[0]))


def _set_up(spec, cause, link_up):
    global _device
    host.start(spec.get("event_fd", 1))
    state.load(spec["state"], spec["rtc_memory"])
    state.boots += 1
    if cause == host.POWER_ON and spec["epoch_s"] is None:
        state.wall_correction_s = -state.run_s  # no battery: the RTC starts again at its epoch
    clock.player = player
    clock.on_status = _status
    clock.on_save = _save
    clock.start(spec["speed"], state.run_s, state.run_ms, spec["ticks_start_ms"])
    _save()
    unique = bytes.fromhex(spec["unique_id"])
    is_esp32 = spec["platform"] == "esp32"
    machine.start(cause, unique)
    if not is_esp32:
        from sim import rp2

        rp2.dress(cause)
    machine.set_epoch(_UNIX_2000_S if spec["epoch_s"] is None else spec["epoch_s"])
    machine.open_tap(spec["tap"])
    timemod.start(_UNIX_2000_S if is_esp32 else 0)
    network.start(link_up, spec["wifi"].get("ssid"), spec["wifi"].get("password"), unique)
    sockets.start(spec["max_sockets"], is_esp32, spec["udp_ports"])
    for description in spec["devices"]:
        silicon.attach(description)
    strobe = spec["strobe_pin"]
    player.start(spec["rows"], None if strobe is None else machine.Pin(strobe, machine.Pin.IN))
    host.commands["stop"] = _stop
    host.commands["speed"] = _speed
    machine.on_soft_reset = _soft_reset
    _device = flash.FileFlash(spec["flash"])


def _soft_reset():
    """What outlives a soft reset: an armed watchdog goes on counting, and the raw REPL stays raw."""
    if _repl is not None:
        _repl.announce_soft_reset()
    left = json.dumps([host.watchdog_left_ms(), _repl is not None and _repl.in_raw_mode()])
    _after_soft_reset.seek(0)
    _after_soft_reset.write(b"%-32s" % left.encode())


def _left_by_soft_reset(path, cause):
    """(watchdog's remaining ms, whether the prompt is raw) as the process before this one left them."""
    global _after_soft_reset
    _after_soft_reset = state.open_file(path)
    left = _after_soft_reset.read() if cause == host.SOFT else b""
    return json.loads(left) if left else (0, False)


def _execute(name, scope):
    """Run one script of the flash as the chip does; True when it came to its end (or is not there)."""
    try:
        with open(name) as file:
            source = file.read()
    except OSError:
        return True
    try:
        code = compile(source, name, "exec")
        source = None
        exec(code, scope)
    except SystemExit:
        machine.soft_reset()  # sys.exit() in main.py is a soft reboot
    except KeyboardInterrupt as error:  # whoever is at the serial port wants the prompt
        _repl.show(error)
        return False
    except BaseException as error:
        text = io.StringIO()
        sys.print_exception(error, text)
        host.emit("error", {"text": text.getvalue(), "script": name})
        if _repl is not None:
            _repl.show(error)
        return False
    return True


def main():
    global _repl
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    cause = int(sys.argv[2]) if len(sys.argv) > 2 else host.POWER_ON
    _set_up(spec, cause, len(sys.argv) < 4 or sys.argv[3] == "1")
    to_prompt = len(sys.argv) > 4 and sys.argv[4] == "1"
    watchdog_ms, raw = _left_by_soft_reset(spec["after_soft_reset"], cause)
    if watchdog_ms:
        host.Watchdog(watchdog_ms)
    scope = {"__name__": "__main__"}
    if spec.get("serial"):
        from sim import repl as _repl

        _repl.start(spec["serial"], scope, spec["platform"], raw and not to_prompt)
        if to_prompt:
            _repl.take_over()
        elif spec["platform"] == "esp32":
            _repl.announce_start(cause)
    _replace_modules(spec["platform"])
    area_bytes, extra_bytes = spec["heap_bytes"], spec["heap_extra_bytes"]
    del spec
    vfs.umount("/")
    flash.mount(_device, "/")
    sys.path[:] = ["", ".frozen", "/lib"]
    names.make_room()
    heap.leave(area_bytes, extra_bytes)
    host.emit(
        "boot",
        {"boot_count": state.boots, "cause": cause, "sim_heap_bytes": gc.mem_alloc(), "heap_free_bytes": gc.mem_free()},
    )
    if _repl is not None:
        _repl.allow_interrupt(True)
    if not to_prompt and _execute("boot.py", scope) and not raw:
        _execute("main.py", scope)
    if _repl is not None:
        _repl.allow_interrupt(False)
        _repl.run()
    while True:  # a prompt that nobody can reach
        clock.wait(clock.idle, clock.FOREVER, clock.FOREVER)


main()
