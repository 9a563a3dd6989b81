"""Runs on MicroPython: replays lives of sensors through the filter with the heap locked, and compares what comes out.

Arguments: folder of the firmware, file of cases. An allocation in a step raises MemoryError. Prints how many steps ran.
"""

# MicroPython: the path comes before the imports, and zip knows no strict.
# ruff: noqa: I001, B905, UP031

import gc
import json
import sys

sys.path.insert(0, sys.argv[1])

import micropython
from isocore.filter import OUT_MAX, ChannelFilter
from isocore.model import ChannelParams


def params_of(values):
    made = ChannelParams()
    for name in values:
        setattr(made, name, values[name])
    return made


stamps_s = [0] * OUT_MAX
stamps_ms = [0] * OUT_MAX
trends = [0] * OUT_MAX


def records_of(state, count):
    out = []
    for i in range(count):
        out.append([state.kinds[i], state.values[i], trends[i], stamps_s[i], stamps_ms[i]])
    return out


def step(state, what, t_s, t_ms, value):
    """One step and the reading of all that it made: the hot path."""
    if what == 0:
        count = state.step(t_s, t_ms, value)
    elif what == 1:
        count = state.fault(value)
    else:
        count = state.flush()
    for i in range(count):
        trends[i] = state.trend(i)
        stamps_s[i] = state.at_s(i, t_s)
        stamps_ms[i] = state.at_ms(i, t_ms)
    return count


steps = 0
with open(sys.argv[2]) as file:
    for line in file:
        case = json.loads(line)
        state = ChannelFilter(params_of(case["params"]))
        for (what, t_s, t_ms, value), want in zip(case["events"], case["records"]):
            micropython.heap_lock()
            count = step(state, what, t_s, t_ms, value)
            micropython.heap_unlock()
            got = records_of(state, count)
            assert got == want, (case["params"], what, t_s, t_ms, value, got, want)
            steps += 1
        gc.collect()
print("steps=%d" % steps)
