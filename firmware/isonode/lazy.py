"""Code that is needed rarely: loaded for the occasion, and forgotten, so that a board's small heap need not hold it.

`forget` drops a module by name. `cold` serves the overlays that the linker makes of functions listed in
`overlays.toml` (docs/memory.md): each stays loaded until `cool` finds it unused.
On CPython nothing is forgotten: there is room, and tests compare classes by identity.
"""

import gc
import sys

_loaded = {}  # overlay: [its module, used since the last `cool`]
loads = 0  # overlays loaded since the start


def cold(overlay, name, *arguments):
    """Call a function of an overlay."""
    global loads
    entry = _loaded.get(overlay)
    if entry is None:
        __import__(overlay)
        entry = [sys.modules[overlay], True]
        _loaded[overlay] = entry
        loads += 1
    entry[1] = True
    return getattr(entry[0], name)(*arguments)


def method(owner, name, tables):
    """What `name` of an object or a module is where that is in an overlay: what calls it there. Raises AttributeError.

    owner: (the object,), or () for a module. tables: for each overlay of the class or module its name, then each
    function's and what the overlay calls it.
    """
    for table in tables:
        for i in range(1, len(table), 2):
            if table[i] == name:
                return lambda *arguments: cold(table[0], table[i + 1], *(owner + arguments))
    raise AttributeError(name)


def cool(now=False):
    """The regular call: lets go of overlays that were not used since the last one; now: even if they were.

    A call of such an overlay that is still running goes on: it holds on to what it needs.
    """
    for name in list(_loaded):
        entry = _loaded[name]
        if entry[1] and not now:
            entry[1] = False
        else:
            del _loaded[name]
            del entry
            forget(name)


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
