"""What a board answers on its serial port: the friendly prompt, the raw REPL and raw-paste mode.

From MicroPython's documentation, "The MicroPython Interactive Interpreter Mode", sections "Raw mode" and "Raw-paste
mode". Ctrl-A, B, C, D and E mean what they mean there. While someone holds the prompt the board's clock runs at real
speed and a strobed trace waits. Must not know which program speaks on the other side.
"""

import builtins
import gc
import io
import sys

from sim import clock, host, machine, player, repl_line
from sim import repl_port as port

CTRL_A, CTRL_B, CTRL_C, CTRL_D, CTRL_E = 1, 2, 3, 4, 5
PASTE_WINDOW_BYTES = 128  # half of MICROPY_REPL_STDIN_BUFFER_MAX
SOFT_REBOOT = b"MPY: soft reboot\r\n"
_SIM = __file__.rsplit("/", 1)[0]  # frames of these files are no business of whoever reads a traceback

# Reset reasons as the ESP32's ROM prints them (ESP32 Technical Reference Manual, "Reset Source")
_ROM_WORDS = {
    host.POWER_ON: b"0x1 (POWERON_RESET)",
    host.HARD: b"0xc (SW_CPU_RESET)",
    host.WATCHDOG: b"0x8 (TG1WDT_SYS_RESET)",
    host.DEEP_SLEEP: b"0x5 (DEEPSLEEP_RESET)",
}

_scope = None
_raw_mode = False
_banner = ""


def start(serial, scope, platform, raw_mode):
    """Open the line. raw_mode: the soft reset that ended the process before this one was asked for in the raw REPL."""
    global _scope, _raw_mode, _banner
    _scope = scope
    _raw_mode = raw_mode
    _banner = '%s; Virtual board with %s\r\nType "help()" for more information.\r\n' % (
        sys.version.split("; ")[1],
        platform.upper(),
    )
    port.start(serial["input_fd"], serial["interrupt_flag"], platform)
    if not hasattr(machine, "mem32"):
        machine.mem32 = port.mem32
    builtins.input = _input
    if raw_mode:
        _hold()


def announce_start(cause):
    """What a chip's ROM says tells whoever listens that scripts run from here on, and why."""
    if cause in _ROM_WORDS:
        port.write_raw(b"rst:%s,boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n" % _ROM_WORDS[cause])


def take_over():
    """Begin at the prompt, in place of a process that was interrupted."""
    port.write("\nKeyboardInterrupt: \n")
    _hold()


def in_raw_mode():
    return _raw_mode


def announce_soft_reset():
    """Say so. A chip runs all finalisers then (gc_sweep_all), which closes files that were left open: so here."""
    for name in [name for name in sys.modules if name.split(".")[0] != "sim"]:
        del sys.modules[name]
    _scope.clear()
    gc.collect()
    port.write_raw(SOFT_REBOOT)


def allow_interrupt(allowed):
    """Scripts and commands may be interrupted, the prompt itself reads Ctrl-C."""
    port.kbd_intr(CTRL_C if allowed else -1)


def show(error):
    """Print an exception as a board does, without the simulation's own frames."""
    try:
        text = io.StringIO()
        sys.print_exception(error, text)
        lines = text.getvalue().split("\n")
        text = "\n".join([line for line in lines if _SIM not in line])
    except MemoryError:
        text = "MemoryError: and no memory left to say where\n"
    port.write(text)


def _hold():
    """Someone is at the prompt."""
    if not host.at_prompt:
        host.at_prompt = True
        clock.set_speed(1)
        player.held = True


def run():
    """Answer for ever; only a reset ends it."""
    _hold()
    while True:
        host.emit("prompt", {"mode": "raw" if _raw_mode else "friendly"})
        if _raw_mode:
            _raw()
        else:
            _friendly()


def _execute(source, kind, framed):
    """Compile and run. framed: end the output, and the traceback after it, with Ctrl-D each."""
    leaving = False
    failure = None
    try:
        code = compile(source, "<stdin>", kind)
        source = None
        allow_interrupt(True)
        exec(code, _scope)
    except SystemExit:
        leaving = True
    except BaseException as error:
        failure = error
    allow_interrupt(False)
    if framed:
        port.write_raw(b"\x04")
    if failure is not None:
        show(failure)
        failure = None
    if framed:
        port.write_raw(b"\x04")
    if leaving:
        machine.soft_reset()


def _input(prompt=""):
    """`input()`: a line from the console; Ctrl-C interrupts, Ctrl-D ends."""
    port.kbd_intr(-1)
    try:
        line = repl_line.edit(str(prompt))
    finally:
        port.kbd_intr(CTRL_C)
    if line == CTRL_C:
        raise KeyboardInterrupt
    if line == CTRL_D:
        raise EOFError
    return "" if isinstance(line, int) else line


# ---- raw REPL


def _raw():
    """Serve the raw REPL until Ctrl-B."""
    global _raw_mode
    port.write_raw(b"raw REPL; CTRL-B to exit\r\n>")
    line = bytearray()
    while True:
        char = port.read_byte()
        if char == CTRL_A:
            if len(line) != 2 or line[0] != CTRL_E:
                return  # begin again
            _paste_raw(line[1])
        elif char == CTRL_B:
            port.write_raw(b"\r\n")
            _raw_mode = False
            return
        elif char == CTRL_C:
            line = bytearray()
            continue
        elif char == CTRL_D:
            port.write_raw(b"OK")
            if not line:
                port.write_raw(b"\r\n")
                machine.soft_reset()
            source = bytes(line)
            line = None
            _execute(source, "exec", True)
            source = None
        else:
            line.append(char)
            continue
        line = bytearray()
        port.write_raw(b">")


def _paste_raw(command):
    """Raw-paste mode: take the source in windows, tell the sender when the next fits, compile at its end."""
    if command != 65:  # "A" is the only one there is
        port.write_raw(b"R\x00")
        return
    # the increment tells that one window is free, the 0x01 that a second one is
    port.write_raw(b"R\x01" + bytes((PASTE_WINDOW_BYTES & 0xFF, PASTE_WINDOW_BYTES >> 8, 1)))
    left = PASTE_WINDOW_BYTES
    source = bytearray()
    full = False
    while True:
        char = port.read_byte()
        if char == CTRL_C or char == CTRL_D:
            break
        if not full:
            try:
                source.append(char)
            except MemoryError:  # as a chip does: end the paste early, then swallow it up to the sender's Ctrl-D
                full = True
                source = None
                gc.collect()
                port.write_raw(b"\x04")
        left -= 1
        if not left and not full:
            port.write_raw(b"\x01")
            left = PASTE_WINDOW_BYTES
    if full:
        port.write_raw(b"\x04MemoryError: the source does not fit into memory\r\n\x04")
        return
    port.write_raw(b"\x04")
    if char == CTRL_C:
        port.write_raw(b"\x04KeyboardInterrupt: \r\n\x04")
        return
    source = bytes(source)
    _execute(source, "exec", True)


# ---- friendly prompt


def _friendly():
    """Serve the prompt until Ctrl-A."""
    global _raw_mode
    port.write_raw(_banner.encode())
    while True:
        line = repl_line.edit(">>> ")
        if line == CTRL_A:
            port.write_raw(b"\r\n")
            _raw_mode = True
            return
        if line == CTRL_B:
            port.write_raw(b"\r\n" + _banner.encode())
        elif line == CTRL_C:
            port.write_raw(b"\r\n")
        elif line == CTRL_D:
            port.write_raw(b"\r\n")
            machine.soft_reset()
        elif line == CTRL_E:
            _paste()
        else:
            _statement(line)


def _statement(line):
    """One statement, read on over more lines while it is not complete."""
    while repl_line.wants_more(line):
        more = repl_line.edit("... ", repl_line.indent_of(line))
        if more == CTRL_C:
            port.write_raw(b"\r\n")
            return
        if isinstance(more, int):
            continue
        line += "\n" + more
    if line.strip():
        _execute(line, "single", False)


def _paste():
    """Paste mode: take lines as they are, without indenting, until Ctrl-D."""
    port.write_raw(b"\r\npaste mode; Ctrl-C to cancel, Ctrl-D to finish\r\n=== ")
    text = bytearray()
    while True:
        char = port.read_byte()
        if char == CTRL_C:
            port.write_raw(b"\r\n")
            return
        if char == CTRL_D:
            port.write_raw(b"\r\n")
            _execute(bytes(text), "exec", False)
            return
        if char == 13:
            text.append(10)
            port.write_raw(b"\r\n=== ")
        else:
            text.append(char)
            port.write_raw(bytes((char,)))
