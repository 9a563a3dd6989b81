"""Modules that are needed rarely: forget them after use, so that their bytecode does not sit in a board's small heap.

On CPython nothing is forgotten: there is room, and tests compare classes by identity.
"""

import gc
import sys


def forget(name):
    """Drop a module, such as "isonode.config". What still refers to its classes or functions keeps it alive."""
    if sys.implementation.name != "micropython" or name not in sys.modules:
        return
    del sys.modules[name]
    package, _, leaf = name.rpartition(".")
    try:
        delattr(sys.modules[package], leaf)
    except (KeyError, AttributeError):
        pass  # not bound in its package: dropped already
    gc.collect()
