"""The board as the application sees it: pins, clocks, radio, sockets, waiting.

The only file that imports machine, network, esp32, select and socket. It knows how ports differ and nothing about
readings, MQTT or the outbox. Runs on ESP32, RP2 (Pico W), the unix port and the virtual board. The application's one
waiting point is `wait`.
"""

import errno
import gc
import os
import select
import socket
import sys
import time

import machine
from micropython import const

try:
    import network
except ImportError:  # unix port: the host's network is always up
    network = None
try:
    import esp32
except ImportError:
    esp32 = None

IS_RP2 = sys.platform == "rp2"

# `ticks_*` wrap at 2^30 ms and may only be compared with ticks_diff.
ticks_ms = time.ticks_ms
ticks_add = time.ticks_add
ticks_diff = time.ticks_diff
# A virtual board's clock may run faster than the network's; on a chip they are one.
net_ticks_ms = getattr(time, "net_ticks_ms", time.ticks_ms)

POLLIN = select.POLLIN
POLLOUT = select.POLLOUT
POLLERR = select.POLLERR
POLLHUP = select.POLLHUP

# Called for each sample and each record, when the board offers it (virtual boards do); see app.py.
tap = getattr(machine, "tap", None)

RESET_UNKNOWN, RESET_POWER_ON, RESET_HARD, RESET_WATCHDOG, RESET_DEEP_SLEEP, RESET_SOFT = range(6)
RESET_NAMES = ("unknown", "power_on", "hard", "watchdog", "deep_sleep", "soft")

_FEED_MS = const(1000)  # well within any watchdog
# RP2040 datasheet, section 4.7.6: WATCHDOG_BASE, REASON at 0x08 (bit 1 FORCE), SCRATCH0 at 0x0c. The boot ROM uses
# scratch registers 4 to 7 (section 2.8.1.1); the lower ones are free. RP2350: the same registers, elsewhere; where an
# RP2040 has its watchdog an RP2350 has the clock of its USB.
_RP2_WATCHDOG = 0x400D8000 if IS_RP2 and "RP2350" in sys.implementation[2] else 0x40058000
_RP2_SCRATCHES = const(2)
_WDT_RP2_MAX_MS = const(8388)  # RP2040 datasheet, section 4.7: 24-bit counter at 1 us that counts down by two
_I2C_HZ = const(100000)  # standard mode: for wires of a metre or two
_I2C_HELD_US = const(5000)  # none of our chips stretches the clock: held so long, the bus is stuck
_EPOCH_2000_UNIX_S = 946684800
_EPOCH_2025_UNIX_S = 1735689600  # isocore.frame.EPOCH_BASE_UNIX_S
# EINPROGRESS is 115 on Linux and 119 in lwIP's errno.h, which the boards use.
_IN_PROGRESS = (115, 119, getattr(errno, "EINPROGRESS", 119))

_virtual_wait = getattr(select, "virtual_wait", None)


# ---- waiting -------------------------------------------------------------------------------------------------------


def poller():
    """A new poll object for `wait`."""
    return select.poll()


_WAIT_MS_MAX = 1 << 28  # 3 days; ticks wrap at 2^30 ms


def wait(poll, sock, due_ms, net_timeout_ms):
    """Wait until the board clock advanced `due_ms`, the network clock `net_timeout_ms`, or something is ready.

    -1: no bound on that clock; at least one must be bounded. Returns the poll events of `sock`, 0 if there are none.
    Never waits longer than a quarter of the ticks' span, so that whoever accumulates ticks cannot miss a wrap.
    """
    if due_ms < 0 or due_ms > _WAIT_MS_MAX:
        due_ms = _WAIT_MS_MAX
    if _virtual_wait is not None:
        ready = _virtual_wait(poll, due_ms, net_timeout_ms)
    else:
        timeout_ms = due_ms
        if timeout_ms < 0 or 0 <= net_timeout_ms < timeout_ms:
            timeout_ms = net_timeout_ms
        ready = poll.ipoll(timeout_ms)
    events = 0
    for item in ready:
        if item[0] is sock:
            events |= item[1]
    return events


# ---- pins, watchdog, resets ----------------------------------------------------------------------------------------


def pin_open(number):
    """A pin for a driver that sets its own mode (1-Wire, DHT)."""
    return machine.Pin(number)


def pin_out(number, level):
    """An output that starts at `level`."""
    return machine.Pin(number, machine.Pin.OUT, value=level)


def i2c_open(scl, sda):
    """An I2C bus on any two pins, in software: the same errors on every port, and a bound when a slave holds the clock.

    Its calls raise OSError: ENODEV when nobody acknowledges the address, ETIMEDOUT when the clock is held.
    """
    return machine.SoftI2C(machine.Pin(scl), machine.Pin(sda), freq=_I2C_HZ, timeout=_I2C_HELD_US)


def on_rising(number, handler):
    """Call handler(pin) on each rising edge of an input."""
    pin = machine.Pin(number, machine.Pin.IN)
    pin.irq(handler=handler, trigger=machine.Pin.IRQ_RISING)
    return pin


_watchdog = None


def watchdog(timeout_ms):
    """Start the watchdog, or change its time-out; shortened to what the chip can do. It cannot be stopped again.

    Returns it, None where there is none (unix port).
    """
    global _watchdog
    maker = getattr(machine, "WDT", None)
    if maker is not None:
        _watchdog = maker(timeout=min(timeout_ms, _WDT_RP2_MAX_MS) if IS_RP2 else timeout_ms)
    return _watchdog


def sleep_fed_ms(duration_ms):
    """Do nothing for so long, feeding the watchdog; only on the way to a reset or in a sleep."""
    while duration_ms > 0:
        if _watchdog is not None:
            _watchdog.feed()
        piece_ms = min(duration_ms, _FEED_MS)
        time.sleep_ms(piece_ms)
        duration_ms -= piece_ms


CAN_DEEP_SLEEP = hasattr(machine, "deepsleep") and not IS_RP2  # RP2 has no memory that survives it


def deep_sleep(duration_ms):
    """Switch off until a timer starts the board anew, with the cause RESET_DEEP_SLEEP. Does not return."""
    machine.deepsleep(duration_ms)


def reset():
    """Restart the board as after a reset pulse."""
    machine.reset()


def reset_cause():
    """Why the board started: a RESET_* number, the same on every port."""
    cause = getattr(machine, "reset_cause", None)
    if cause is None:
        return RESET_UNKNOWN
    value = cause()
    names = ("PWRON_RESET", "HARD_RESET", "WDT_RESET", "DEEPSLEEP_RESET", "SOFT_RESET")
    for i, name in enumerate(names):
        if getattr(machine, name, None) == value:
            # machine.reset() goes through the watchdog there: its REASON register tells a forced reset from a bite
            if IS_RP2 and i + 1 == RESET_WATCHDOG and machine.mem32[_RP2_WATCHDOG + 8] & 2:
                return RESET_HARD
            return i + 1
    return RESET_UNKNOWN


def rtc_memory():
    """Bytes that survive all resets but a power cut."""
    if IS_RP2:
        words = [machine.mem32[_RP2_WATCHDOG + 12 + 4 * i] for i in range(_RP2_SCRATCHES)]
        return b"".join([word.to_bytes(4, "little") for word in words])
    try:
        return bytes(machine.RTC().memory())
    except AttributeError:
        return b""


def set_rtc_memory(data):
    """Keep `data` over resets. Returns whether the chip can; RP2 keeps 8 bytes and refuses more."""
    if IS_RP2:
        if len(data) > 4 * _RP2_SCRATCHES:
            return False
        for i in range(0, len(data), 4):
            machine.mem32[_RP2_WATCHDOG + 12 + i] = int.from_bytes(data[i : i + 4], "little")
        return True
    try:
        machine.RTC().memory(data)
        return True
    except AttributeError:
        return False


def set_tap_boot(boot):
    """Tell a virtual board's tap which boot the records belong to."""
    if tap is not None:
        machine.tap_boot = boot


# ---- figures -------------------------------------------------------------------------------------------------------


def chip_temperature_milli():
    """Temperature of the chip in m degC, or None where it has no sensor."""
    if esp32 is not None:
        if hasattr(esp32, "mcu_temperature"):  # ESP32-S2, S3, C3: whole degC
            return int(esp32.mcu_temperature() * 1000)
        if hasattr(esp32, "raw_temperature"):  # ESP32: whole degF
            return (int(esp32.raw_temperature()) - 32) * 5000 // 9
    if IS_RP2:
        # RP2040 datasheet section 4.9.5: T = 27 - (V - 0.706) / 0.001721, V = 3.3 * reading / 65535; in microvolts
        microvolts = machine.ADC(4).read_u16() * 3300 // 65535 * 1000
        return 27000 - (microvolts - 706000) * 1000 // 1721
    return None


def heap_free_bytes():
    """Free bytes of the MicroPython heap once its garbage is collected, which takes a few ms."""
    gc.collect()
    return gc.mem_free()


def largest_block_bytes():
    """Size of the largest piece that the heap could give now, to 1 %, on ports whose heap does not grow; else None.

    Found by trying, and where a failed try makes the heap grow into ESP-IDF's memory (MicroPython 1.21 and newer on
    ESP32) trying would do the harm that it looks for.
    """
    if esp32 is not None and sys.platform == "esp32":
        return None
    low, high = 0, heap_free_bytes()
    while high - low > high // 100 + 16:
        size = (low + high) // 2
        try:
            bytearray(size)
            low = size
        except MemoryError:
            high = size
    gc.collect()
    return low


def idf_heap_free_bytes():
    """Free bytes of ESP-IDF's data heap, from which sockets and TLS live; None elsewhere."""
    if esp32 is None or not hasattr(esp32, "idf_heap_info"):
        return None
    return sum(region[1] for region in esp32.idf_heap_info(esp32.HEAP_DATA))


def flash_free_bytes(path="/"):
    """Free bytes of the file system."""
    figures = os.statvfs(path)
    return figures[0] * figures[3]


def wall():
    """Wall clock as (seconds since 2025-01-01T00:00:00Z, milliseconds). Makes garbage: not for hot paths."""
    base = _EPOCH_2000_UNIX_S if time.gmtime(0)[0] == 2000 else 0
    if hasattr(time, "time_ns"):
        ns = time.time_ns()
        return ns // 1000000000 + base - _EPOCH_2025_UNIX_S, ns // 1000000 % 1000
    return int(time.time()) + base - _EPOCH_2025_UNIX_S, 0


def random_below(limit):
    """A random integer in 0..limit-1 (limit at most 2^24), from the chip's own source."""
    raw = os.urandom(3)
    return (raw[0] | raw[1] << 8 | raw[2] << 16) % limit


# ---- network -------------------------------------------------------------------------------------------------------

_station = []  # the radio, once it is in use: a list, because overlays see changes of it, and not of a variable


_CONNECTING = const(1001)  # STAT_CONNECTING of ESP32
_RECONNECTS = const(3)


def wifi_begin(ssid, password):
    """Switch the radio on and start joining. Returns at once; "" as ssid means that the network needs no joining.

    Raises OSError when the chip does not take it, or has lost its address: it wants `wifi_end` then.
    """
    if network is None or not ssid:
        return
    if not _station:
        _station.append(network.WLAN(network.STA_IF))
    wlan = _station[0]
    wlan.active(True)
    if IS_RP2:  # power save loses packets for seconds there; must follow active(True)
        wlan.config(pm=network.WLAN.PM_NONE)
    else:  # without a bound ESP32 tries for ever, and says "connecting" whatever is wrong
        wlan.config(reconnects=_RECONNECTS)
    if wlan.isconnected():
        if wlan.ifconfig()[0] == "0.0.0.0":  # ESP32 does not notice
            raise OSError("address lost")
    elif wlan.status() != _CONNECTING:  # ESP32 has begun by itself after a loss, and refuses to be asked twice
        wlan.connect(ssid, password or None)


def wifi_end():
    """Leave the network and switch the radio off, so that the next wifi_begin starts afresh."""
    if _station:
        try:
            _station[0].disconnect()
        except OSError:
            pass  # ESP-IDF: not connected, which is what is wanted
        _station[0].active(False)


def wifi_up():
    """True while the board has an address."""
    return not _station or _station[0].isconnected()


def wifi_gave_up():
    """True once the chip tries no longer: RP2's errors are below 0, ESP32's states from 1000 on, its errors below."""
    return bool(_station) and _station[0].status() < (0 if IS_RP2 else 1000)


def wifi_why():
    """Why there is no address yet, in a word or two, from the port's status code (network.WLAN.status)."""
    if not _station:
        return "not joined"
    status = _station[0].status()
    if status in (201, -2):  # ESP32: STAT_NO_AP_FOUND; RP2 (cyw43.h): CYW43_LINK_NONET
        return "no such network"
    if status in (15, 202, 204, -3):  # ESP32: WPA2's handshake timed out, or was refused; CYW43_LINK_BADAUTH
        return "wrong password"
    if status == 210:  # WIFI_REASON_NO_AP_FOUND_W_COMPATIBLE_SECURITY
        return "password missing"
    if IS_RP2 and status == 2:  # CYW43_LINK_NOIP; on ESP32 a reason of the access point's
        return "no address given"
    if status in (1001, 1):  # STAT_CONNECTING; CYW43_LINK_JOIN
        return "stuck connecting"
    return "not joined (%s)" % status


def rssi_dbm():
    """Signal strength, or None."""
    if not _station or not _station[0].isconnected():
        return None
    try:
        return _station[0].status("rssi")
    except (OSError, ValueError, TypeError):
        return None


def socket_address(host, port):
    """What sockets take for a dotted address and a port. Returns at once; a name may not come here (resolver.py)."""
    return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0][-1]


ROUTER, NAME_SERVER = 2, 3  # places in WLAN.ifconfig()


def neighbour(which):
    """Address of the network's router or name server, or "" where it is not known. Returns at once."""
    try:
        return _station[0].ifconfig()[which] if _station else ""
    except OSError:
        return ""


def is_again(error):
    """Whether an OSError only says that nothing is there yet."""
    return error.args and error.args[0] in (errno.EAGAIN, 11)


def open_datagram(address):
    """A non-blocking UDP socket that only talks with `address`, or with anyone for None. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if address is not None:
            sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def open_socket(address):
    """A non-blocking TCP socket on its way to `address`; POLLOUT says when it has arrived. Raises OSError."""
    sock = socket.socket()
    try:
        sock.setblocking(False)
        if hasattr(socket, "TCP_NODELAY"):
            sock.setsockopt(getattr(socket, "IPPROTO_TCP", 6), socket.TCP_NODELAY, 1)
        sock.connect(address)
    except OSError as error:
        if error.args and error.args[0] in _IN_PROGRESS:
            return sock
        sock.close()
        raise
    return sock
