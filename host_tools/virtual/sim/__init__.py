"""The silicon and the image of a virtual board: what a chip and its MicroPython build provide, and nothing above.

Runs on MicroPython only. Must not know the firmware: it offers the modules a board has (machine, network, esp32,
socket, select, time, _onewire and the frozen drivers) and a flash file system, and never looks at what uses them,
except for the counters that the application shows on purpose (see runner.py).
"""
