"""First file that runs: makes room to report exceptions even when memory is gone. Must not import the application."""

import micropython

if hasattr(micropython, "alloc_emergency_exception_buf"):  # the unix port may be built without it
    micropython.alloc_emergency_exception_buf(100)
