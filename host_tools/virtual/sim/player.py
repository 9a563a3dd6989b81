"""The world outside the board: rows of a trace become what its sensors see, each at its time.

Rows are lines `t_ms,temp_milli,humidity_milli,fault` of a host file, read as a stream. In strobe mode each row makes a
rising edge on one pin, which a board configured for it samples exactly once: a row waits until the pin has a listener
and until a sensor has seen the row before it (at most HOLD_S). In period mode rows just follow the clock.
Must not know how a sensor encodes a value, nor the firmware.
"""

from sim import clock, host, state

FAULT_NONE = 0
FAULT_CRC = 1
FAULT_ZERO = 2
FAULT_MISSING = 3
FAULT_POWER_ON = 4
FAULT_SHORT = 5
FAULT_WEDGED = 6
FAULT_BUSY = 7
_FAULTS = {b"": 0, b"crc": 1, b"zero": 2, b"missing": 3, b"85": 4, b"short": 5, b"wedged": 6, b"busy": 7}

HOLD_S = 5  # board time a row may wait for the one before it to be read
END_S = 2  # board time from the last row to the end: a conversion and its reading fit in
_CHUNK_BYTES = 512
_ROWS, _ENDING, _DONE = 0, 1, 2

temp_milli = 21_000
humidity_milli = 50_000
fault = FAULT_NONE
trace_done = False
held = False  # someone is at the prompt: a strobed trace waits

_file = None
_lines = []
_line_at = 0
_tail = b""
_phase = _DONE
_strobe = None  # the strobed pin
_unread = False
_shown_s = 0  # run time at which the current row came
_shown_ms = 0
# the next row, already parsed
_next_s = 0
_next_ms = 0
_next_temp = 0
_next_humidity = 0
_next_fault = 0
_next_at_bytes = 0
_read_at_bytes = 0  # where the line after it begins


def start(path, strobe_pin):
    """Go on after the last row that an earlier run of this board has seen."""
    global _file, _phase, _strobe, _read_at_bytes, _unread
    _strobe = strobe_pin
    if _strobe is not None:
        _strobe.drive(0)  # whatever pull the firmware gives it, the first pulse is an edge
    if path is None:
        return
    _file = open(path, "rb")
    if state.rows_fired:
        # the row that was current when the board went off is what its sensors still see
        _read_at_bytes = state.rows_offset_bytes
        _file.seek(_read_at_bytes)
        if _parse():
            _become_current()
            _unread = False
    _phase = _ROWS if _parse() else _ENDING


def _line():
    """The next line of the file, or None."""
    global _lines, _line_at, _tail
    while _line_at >= len(_lines):
        chunk = _file.read(_CHUNK_BYTES)
        if not chunk:
            if not _tail:
                return None
            _lines = [_tail]
            _tail = b""
        else:
            _lines = (_tail + chunk).split(b"\n")
            _tail = _lines.pop()
        _line_at = 0
    _line_at += 1
    return _lines[_line_at - 1]


def _parse():
    """Read the next row into the _next_ values; False at the end or at a row that makes no sense."""
    global _next_s, _next_ms, _next_temp, _next_humidity, _next_fault, _next_at_bytes, _read_at_bytes
    line = _line()
    if line is None:
        return False
    try:
        t_ms, temp, humidity, name = line.split(b",")
        t_ms = int(t_ms)
        _next_temp = int(temp) if temp else temp_milli
        _next_humidity = int(humidity) if humidity else humidity_milli
        _next_fault = _FAULTS[name.strip()]
    except (ValueError, KeyError):
        host.emit("error", {"text": "the row at byte %d of the rows file is malformed: trace ended" % _read_at_bytes})
        return False
    _next_s = t_ms // 1000
    _next_ms = t_ms % 1000
    _next_at_bytes = _read_at_bytes
    _read_at_bytes += len(line) + 1
    return True


def _become_current():
    global temp_milli, humidity_milli, fault, _unread
    temp_milli = _next_temp
    humidity_milli = _next_humidity
    fault = _next_fault
    _unread = _strobe is not None


def was_read():
    """A sensor has taken the current row."""
    global _unread
    _unread = False


def until_ms():
    """Board time until the next thing happens: 0 now, -1 never or not before the board does something."""
    if _phase == _DONE or (held and _strobe is not None):
        return -1
    if _phase == _ENDING:
        return clock.until(_shown_s + (HOLD_S if _unread else END_S), _shown_ms)
    if _unread:
        return max(clock.until(_shown_s + HOLD_S, _shown_ms), clock.until(_next_s, _next_ms))
    if _strobe is not None and not _strobe.has_listener():
        return -1
    return clock.until(_next_s, _next_ms)


def fire():
    """Let the next thing happen."""
    global _phase, trace_done, _shown_s, _shown_ms
    if _phase == _ENDING:
        _phase = _DONE
        trace_done = True
        clock.set_speed(1)
        clock.on_status()
        host.emit("rows_end" if _strobe is None else "trace_end", {"rows": state.rows_fired})
        return
    _become_current()
    _shown_s = clock.run_s
    _shown_ms = clock.run_ms
    state.rows_fired += 1
    state.rows_offset_bytes = _next_at_bytes
    if not _parse():
        _phase = _ENDING
    clock.on_save()  # before the edge: a row is never shown to two boots
    if _strobe is not None:
        _strobe.drive(1)
        _strobe.drive(0)
