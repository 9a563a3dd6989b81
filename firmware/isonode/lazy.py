"""Code that is needed rarely: loaded for the occasion, and forgotten, so that a board's small heap need not hold it.

`forget` drops a module by name. `cold` serves the overlays that the linker makes of functions listed in
`overlays.toml` (docs/memory.md): the one in use stays loaded until another is wanted, or until `cool` finds it unused.
On CPython nothing is forgotten: there is room, and tests compare classes by identity.
"""

import gc
import sys

_loaded = ["", None, False]  # overlay, its module, used since the last `cool`


def cold(overlay, name, *arguments):
    """Call a function of an overlay."""
    if _loaded[0] != overlay:
        _drop()
        __import__(overlay)
        _loaded[1] = sys.modules[overlay]
        _loaded[0] = overlay
    _loaded[2] = True
    return getattr(_loaded[1], name)(*arguments)


def cool(now=False):
    """The regular call: lets go of the overlay if it was not used since the last one; now: even if it was."""
    if _loaded[2] and not now:
        _loaded[2] = False
    else:
        _drop()


def _drop():
    """A call of this overlay that is still running goes on: it holds on to what it needs."""
    name = _loaded[0]
    if name:
        _loaded[0] = ""
        _loaded[1] = None
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
