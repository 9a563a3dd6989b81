"""Runs on MicroPython: cut the power at every program and erase while a crash is logged, and while a good
configuration is kept.

Arguments: folder of the firmware, folder of this file. Each operation is cut clean, torn and just done. Prints a line
of `name=number`.
"""

# MicroPython: the path comes before the imports, and there is no contextlib.
# ruff: noqa: E402, I001, UP031

import sys

sys.path[:0] = sys.argv[1:3]

from isonode import crash, goodconfig
from outbox_flash import RamFlash, cut_everywhere, format_and_mount, unmount

BLOCKS, BLOCK_BYTES = 24, 512
LOG_BYTES_MAX = crash.LOG_BYTES_MAX + crash.ENTRY_BYTES_MAX
FORMER, LATER = b'{"device":"former"}', b'{"device":"later"}'

crash.LOG_PATH, crash.OLD_PATH = "/f/crash.log", "/f/crash.old"
CONFIG_PATH, goodconfig.PATH = "/f/config.json", "/f/config.good"
crash._keep = lambda number, state, stays=None: (
    None
)  # the count is in the RTC's memory, which no cut of a write concerns


class Console:
    """`sys` of crash.py: a traceback of known size, and none of it on the console."""

    @staticmethod
    def print_exception(error, file=None):
        if file is not None:
            file.write("Traceback (most recent call last):\n%s\n%s: %s\n" % ("x" * 300, "ValueError", error))


crash.sys = Console


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


# ---- the crash log: what stood in it stays, the new entry is whole or not there, and the next one goes in


def log(text):
    crash.log(ValueError(text))


def log_new(flash):
    log("new")
    return not flash.dead


def check_log(before, promised, where):
    """The former entries, in one of the two files; the new one behind them or alone; the newest one can be told."""
    new = crash._traceback(ValueError("new"))
    now, old = read(crash.LOG_PATH), read(crash.OLD_PATH)
    whole = (old or b"") + (now or b"")
    assert before in whole, ("former entries are gone", where)
    rest = whole[whole.find(before) + len(before) :]
    assert rest == new or (not promised and rest == b""), ("a torn entry", where, rest)
    told = crash.last_line()
    assert told == "ValueError: new" or (not promised and (told == "" or told.startswith("ValueError: former"))), (
        where,
        told,
    )
    log("next")
    assert crash.last_line() == "ValueError: next", where
    for path in (crash.LOG_PATH, crash.OLD_PATH):
        assert len(read(path) or b"") <= LOG_BYTES_MAX, where


def logged(entries):
    """A flash with so many entries in its log, and the bytes of the last ones."""
    flash = RamFlash(BLOCKS, BLOCK_BYTES)
    format_and_mount(flash)
    for number in range(entries):
        log("former %d" % number)
    before = read(crash.LOG_PATH) or b""
    unmount()
    return flash.data, before


log_cuts = 0
rotated = False
for entries in (0, 1, 5, 6, 12):  # none; one; almost full; full, so that the next one begins a new file; and once more
    data, before = logged(entries)
    rotated = rotated or len(before) > crash.LOG_BYTES_MAX
    log_cuts += cut_everywhere(
        BLOCKS, BLOCK_BYTES, data, log_new, lambda done, where, before=before: check_log(before, done, where)
    )
assert rotated


# ---- the copy of a configuration that ran well: the former or the later one, checked by its CRC


def keep_good(flash):
    goodconfig.keep(CONFIG_PATH)
    return not flash.dead


def check_good(promised, where):
    kept = goodconfig.load()
    assert kept == LATER or (not promised and kept == FORMER), (where, kept)
    goodconfig.keep(CONFIG_PATH)
    assert goodconfig.load() == LATER, ("stuck", where)


flash = RamFlash(BLOCKS, BLOCK_BYTES)
format_and_mount(flash)
write(CONFIG_PATH, FORMER)
goodconfig.keep(CONFIG_PATH)
write(CONFIG_PATH, LATER)
unmount()
good_cuts = cut_everywhere(BLOCKS, BLOCK_BYTES, flash.data, keep_good, check_good)
print("log_cuts=%d good_cuts=%d" % (log_cuts, good_cuts))
