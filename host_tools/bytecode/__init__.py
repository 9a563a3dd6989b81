"""From the firmware's sources to the files of a board's flash: linked, compiled, measured. See docs/memory.md."""
