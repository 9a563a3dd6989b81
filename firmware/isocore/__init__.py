"""The shared pure core: what a reading, a frame, a model and an alarm are.

The same files run on MicroPython boards, in the gateway and in the host tools. Nothing here reads a clock, opens a
file or a socket, or knows who calls it.
"""

__version__ = "0.1.0"
