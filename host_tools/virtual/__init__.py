"""Virtual boards: the real firmware on MicroPython's unix port, simulated only below the drivers' line.

`interpreter` finds MicroPython, `image` fills flash images, `fleet` and `board` run processes; `sim` is what runs
inside them.
"""
