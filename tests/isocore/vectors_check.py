"""The golden vectors against isocore, in code for both interpreters: pytest calls the functions, MicroPython the file.

As a script: arguments are the folder of the firmware and the folder of the vectors; prints how many of each passed.
"""

# MicroPython: the path comes before the imports, and zip knows no strict.
# ruff: noqa: B905, UP031

import json
import sys
from binascii import hexlify, unhexlify

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])

from isocore import frame, payload, sign
from isocore.errors import FrameError, ModelError, SignatureError
from isocore.filter import ChannelFilter
from isocore.model import ChannelParams
from isocore.predict import predict


def load(folder, name):
    with open(folder + "/" + name + ".json") as file:
        return json.load(file)


def hexed(data):
    return hexlify(data).decode()


def check_frame(case):
    key = unhexlify(case["key"]) or None
    records = [tuple(one) for one in case["records"]]
    data = unhexlify(case["hex"])
    made = frame.encode(case["boot"], case["epoch_s"], case["epoch_ms"], records, key)
    assert hexed(made) == case["hex"], case["name"]
    got = frame.decode(data, key)
    assert (got.boot, got.epoch_s, got.epoch_ms) == (case["boot"], case["epoch_s"], case["epoch_ms"]), case["name"]
    assert got.records == records, case["name"]
    assert frame.size_of(data[: frame.HEADER_BYTES]) == len(data), case["name"]
    assert frame.decode(memoryview(data)).records == records, case["name"]


def check_refused_frame(case):
    key = unhexlify(case["key"]) or None
    try:
        frame.decode(unhexlify(case["hex"]), key)
    except FrameError as error:
        assert error.reason == case["reason"], (case["name"], error.reason)
    else:
        raise AssertionError(case["name"] + " was taken")


def check_container(case, public_key):
    got = sign.open_container(unhexlify(case["hex"]), sign.KIND_MODEL, [bytes(64), public_key])
    assert hexed(got) == case["payload"], case["name"]


def check_refused_container(case, public_key):
    try:
        sign.open_container(unhexlify(case["hex"]), sign.KIND_MODEL, [public_key])
    except SignatureError as error:
        assert error.reason == case["reason"], (case["name"], error.reason)
    else:
        raise AssertionError(case["name"] + " was taken")


def check_model(case):
    got = payload.parse(case["payload"].encode())
    assert sorted(got.channels) == sorted(case["channels"])
    for name in case["channels"]:
        for field in case["channels"][name]:
            assert getattr(got.channels[name], field) == case["channels"][name][field], (name, field)
    if sys.implementation.name == "cpython":  # writing payloads is for hosts: MicroPython's json cannot sort keys
        again = payload.to_payload(got)
        assert payload.to_payload(payload.parse(again)) == again


def check_refused_model(case):
    try:
        payload.parse(case["payload"].encode())
    except ModelError as error:
        assert error.field == case["field"], (case["payload"][:80], error.field)
    else:
        raise AssertionError(case["payload"][:80] + " was taken")


def check_filter(case):
    params = ChannelParams()
    for name in case["params"]:
        setattr(params, name, case["params"][name])
    state = ChannelFilter(params)
    for (what, t_ms, value), want in zip(case["events"], case["records"]):
        count = state.fault(value) if what == "fault" else state.step(t_ms // 1000, t_ms % 1000, value)
        got = [[state.kinds[i], state.values[i]] for i in range(count)]
        assert got == want, (case["name"], t_ms, value, got, want)


def check_prediction(case):
    value, trend, elapsed_s, want = case
    assert predict(value, trend, elapsed_s) == want, case


def check_reporting(case):
    """Events are (0 sample, 1 fault or 2 flush, seconds, milliseconds, value); records have trend and stamp as well."""
    params = ChannelParams()
    for name in case["params"]:
        setattr(params, name, case["params"][name])
    state = ChannelFilter(params)
    for (what, t_s, t_ms, value), want in zip(case["events"], case["records"]):
        count = state.step(t_s, t_ms, value) if what == 0 else state.fault(value) if what == 1 else state.flush()
        got = [
            [state.kinds[i], state.values[i], state.trend(i), state.at_s(i, t_s), state.at_ms(i, t_ms)]
            for i in range(count)
        ]
        assert got == want, (case["name"], t_s, t_ms, value, got, want)


def check_all(folder):
    frames = load(folder, "frames")
    for case in frames["frames"]:
        check_frame(case)
    for case in frames["refused"]:
        check_refused_frame(case)
    containers = load(folder, "containers")
    public_key = unhexlify(containers["public_key"])
    for case in containers["accepted"]:
        check_container(case, public_key)
    for case in containers["refused"]:
        check_refused_container(case, public_key)
    models = load(folder, "models")
    for case in models["accepted"]:
        check_model(case)
    for case in models["refused"]:
        check_refused_model(case)
    filters = load(folder, "filters")
    for case in filters["filters"]:
        check_filter(case)
    reporting = load(folder, "reporting")
    for case in reporting["predictions"]:
        check_prediction(case)
    for case in reporting["reporting"]:
        check_reporting(case)
    lists = (
        ("frames", frames["frames"]),
        ("refused_frames", frames["refused"]),
        ("containers", containers["accepted"]),
        ("refused_containers", containers["refused"]),
        ("models", models["accepted"]),
        ("refused_models", models["refused"]),
        ("filters", filters["filters"]),
        ("predictions", reporting["predictions"]),
        ("reporting", reporting["reporting"]),
    )
    return " ".join("%s=%d" % (name, len(cases)) for name, cases in lists)


if __name__ == "__main__":
    print(check_all(sys.argv[2]))
