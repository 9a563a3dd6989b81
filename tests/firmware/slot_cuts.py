"""Runs on MicroPython: boot.py from a littlefs root, with the power cut at every program and erase of a slot's trial.

Arguments: folder of the firmware, folder of this file. Each operation is cut clean, torn and just done. Prints a line
of `name=number`.
"""

# MicroPython: the path comes before the imports, and there is no contextlib.
# ruff: noqa: E402, I001, SIM105, SIM115, UP031

import sys

sys.path[:0] = sys.argv[1:3]

import os

import vfs
from isocore import slot
from isonode import slots
from outbox_flash import CUT_CLEAN, CUT_DONE, CUT_TORN, RamFlash, format_and_mount, mount, unmount

BLOCKS, BLOCK_BYTES = 24, 512
SOURCE = open(sys.argv[1] + "/boot.py").read()
PATH = list(sys.path)

vfs.umount("/")


def start():
    """What a board does: the folder it starts from."""
    os.chdir("/")
    sys.path[:] = PATH
    exec(SOURCE, {"__name__": "__main__"})
    assert sys.path[1:2] == ([os.getcwd() + "/lib"] if os.getcwd() != "/" else PATH[1:2])
    return os.getcwd()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def flashed(line, *folders):
    """The bytes of a flash with main.py in each folder and this line in /slot."""
    flash = RamFlash(BLOCKS, BLOCK_BYTES)
    format_and_mount(flash, "/")
    for folder in folders:
        if folder:
            os.mkdir(folder)
        write(folder + "/main.py", "")
    if line is not None:
        write("/slot", line)
    unmount("/")
    return flash.data


def on(data, action, *more):
    """Do something with a copy of a flash; the result and the copy."""
    flash = RamFlash(BLOCKS, BLOCK_BYTES, data)
    mount(flash, "/")
    result = action(*more)
    os.chdir("/")
    unmount("/")
    return result, flash.data


def starts(data, count):
    found = []
    for _ in range(count):
        folder, data = on(data, start)
        found.append(folder)
    return found


# Which firmware starts, by the line and by what is there.
for line, folders, want in (
    (None, ("",), "/"),
    (None, ("", "/a"), "/"),  # a first deployment that never came to its end
    (None, ("/a",), "/a"),
    (slot.to_line("a", "-", slot.PROVEN), ("", "/a", "/b"), "/a"),
    (slot.to_line("b", "a", slot.PROVEN), ("/a", "/b"), "/b"),
    (slot.to_line("b", "a", slot.PROVEN), ("/a",), "/a"),  # its files are gone
    (slot.to_line("b", "a", slot.REVERTED), ("/a", "/b"), "/b"),
    ("ISL1 b a -1 00000000\n", ("/a", "/b"), "/a"),
    ("nonsense", ("", "/b"), "/"),
    ("ISL1 b a", ("",), "/"),
    (slot.to_line("b", "a", 2), ("/a",), "/a"),
    (None, (), "/"),
):
    got = on(flashed(line, *folders), start)[0]
    assert got == want, (line, folders, got)

# A trial: three starts, then back for good; proved in time, it stays.
trial = flashed(slot.to_line("b", "a", slot.TRIAL_STARTS), "/a", "/b")
assert starts(trial, 6) == ["/b", "/b", "/b", "/a", "/a", "/a"]
proved = on(on(trial, start)[1], slots.on_trial, True)
assert proved[0] is False
assert starts(proved[1], 5) == ["/b"] * 5
assert on(trial, slots.on_trial)[0] is True
assert on(proved[1], slots.on_trial)[0] is False


# Cuts: after each, the board starts, from a slot that is there; a cut start is at most one more.
def cut_everywhere(data, action, *more):
    cuts = 0
    at = 0
    while True:
        at += 1
        done = False
        for mode in (CUT_CLEAN, CUT_TORN, CUT_DONE):
            flash = RamFlash(BLOCKS, BLOCK_BYTES, data)
            mount(flash, "/")
            flash.dies_at = at
            flash.mode = mode
            try:
                action(*more)
            except OSError:
                pass
            done = done or not flash.dead
            flash.dead = False
            flash.dies_at = 0
            os.chdir("/")
            unmount("/")
            cuts += 1
            yield flash.data, (action, at, mode)
        if done:
            print("cuts=%d" % cuts)
            return


for left in range(slot.TRIAL_STARTS + 1):
    for data, where in cut_everywhere(flashed(slot.to_line("b", "a", left), "/a", "/b"), start):
        found = starts(data, left + 2)
        assert set(found[-1:]) == {"/a"}, (where, left, found)
        assert found.count("/b") in (left, left - 1) or (left == 0 and "/b" not in found), (where, left, found)
for data, where in cut_everywhere(on(trial, start)[1], slots.on_trial, True):
    found = starts(data, 4)
    assert found in (["/b"] * 4, ["/b", "/b", "/a", "/a"]), (where, found)
