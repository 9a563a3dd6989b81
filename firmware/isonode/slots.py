"""The slot's trial, seen from the firmware in it: has it proved itself? Then it says so, and the trial is over.

Proof is that the loop has turned for a while and that a reading was taken, or that a sensor failed in an orderly way:
app.py decides that. What never gets so far is taken back by boot.py after its last start. Needed once or twice a boot:
the application forgets this module. Knows no stage of the application.
"""

import os

from isocore import slot


def on_trial(proved=False):
    """Whether the firmware that runs has yet to prove itself. `proved`: now it has; True when that cannot be kept."""
    try:
        with open(slot.PATH) as file:
            state = slot.parse(file.read())
        if state is None or state[2] < 0:
            return False
        if proved:
            new = slot.PATH + ".new"
            with open(new, "w") as file:
                file.write(slot.to_line(state[0], state[1], slot.PROVEN))
            os.rename(new, slot.PATH)
            print("isotherm: slot", state[0], "has proved itself")
        return not proved
    except OSError:
        return proved  # no slot was ever chosen; or no room to write, and the trial goes on
