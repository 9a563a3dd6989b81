"""A checked copy of the last configuration that a board ran well with, for safe mode. Knows bytes, no meaning."""

from isonode import durable

PATH = "/config.good"
MAGIC = b"ISG1"


def load():
    """The copy, None where there is no whole one."""
    return durable.load(PATH, MAGIC)


def keep(path):
    """The board runs well with this file: keep a copy, unless it is the one that is kept. Never raises."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        if load() != data:
            durable.save(PATH, MAGIC, data)
    except OSError:
        pass  # no room for it: the board runs on without
