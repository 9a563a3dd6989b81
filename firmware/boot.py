"""First file that runs: picks the slot of the firmware that starts, and counts the starts of one that is on trial.

A slot is the folder /a or /b with main.py, packages, libraries in lib/ and a manifest; /slot says which one
(isocore/slot.py has the format). A slot on trial has so many starts to prove itself (isonode/slots.py), each under a
watchdog; then the former one comes back. Without a /slot that can be trusted the root of the flash starts, and without
the files that it names whatever is there. The slot becomes the working directory, where MicroPython looks for main.py
and first of all for modules. Must not import the application: nothing wrong with a slot may stop this file.
"""

import binascii
import os
import sys

import machine
import micropython

if hasattr(micropython, "alloc_emergency_exception_buf"):  # the unix port may be built without it
    micropython.alloc_emergency_exception_buf(100)


def _line(slot, former, left):
    body = "ISL1 %s %s %d" % (slot, former, left)
    return "%s %08x\n" % (body, binascii.crc32(body.encode()) & 0xFFFFFFFF)


def _read():
    try:
        with open("/slot") as file:
            words = file.read().split()
        if _line(words[1], words[2], int(words[3])).split() == words:
            return words[1], words[2], int(words[3])
    except (OSError, ValueError, IndexError):
        pass  # no slot was ever chosen, or the line was torn
    return "-", "-", -1


def _there(slot):
    try:
        os.stat(("" if slot == "-" else "/" + slot) + "/main.py")
        return True
    except OSError:
        return False


def _woke():
    """A board that sleeps between its readings starts with each: that is no start of a trial."""
    try:
        return machine.reset_cause() == machine.DEEPSLEEP_RESET
    except AttributeError:
        return False  # RP2 and the unix port


def _guard():
    """A watchdog for the trial, so that code which never comes to arming its own ends as well."""
    try:
        machine.WDT(timeout=8388 if sys.platform == "rp2" else 20000)  # RP2040 datasheet 4.7: at most
    except AttributeError:
        pass  # the unix port has none


def _choose():
    slot, former, left = _read()
    if left >= 0 and not _woke():
        if left:
            left -= 1
        else:
            print("isotherm: slot", slot, "did not prove itself, back to", former)
            slot, former, left = former, slot, -2
        try:
            with open("/slot.new", "w") as file:
                file.write(_line(slot, former, left))
            os.rename("/slot.new", "/slot")
        except OSError:
            if left >= 0:
                slot, left = former, -2  # a start that cannot be counted is not tried
    for other in (slot, former, "a", "b", "-"):
        if _there(other):
            break
    if left >= 0 and other == slot:
        _guard()
    if other != "-":
        os.chdir("/" + other)
        sys.path.insert(1, "/" + other + "/lib")  # before .frozen: the pinned libraries, not those of the image


_choose()
# main.py and the prompt share this scope and its heap.
for _name in ("_line", "_read", "_there", "_woke", "_guard", "_choose"):
    globals().pop(_name)
