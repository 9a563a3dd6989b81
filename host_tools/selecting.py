"""Which boards are meant: names, globs and classes, as `--to` and the fleet's commands take them. Pure.

fridge-1            that board
fridge-*, cold-?    by glob (fnmatch: * ? [abc])
class:freezer       every board of a class; the class may be a glob too
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from host_tools.errors import InputError
from isocore.topics import is_device_id

_CLASS = "class:"
_GLOB = re.compile(r"[a-z0-9*?\[\]!-]{1,64}")


def is_glob(selector: str) -> bool:
    """Whether it means boards by a pattern."""
    return any(sign in selector for sign in "*?[")


def check(selectors: Iterable[str], option: str) -> None:
    """Raises InputError for what no board can match."""
    for one in selectors:
        name = one.removeprefix(_CLASS)
        if not _GLOB.fullmatch(name) or (not is_glob(name) and not is_device_id(name)):
            raise InputError(f"{option}: {one!r} is no device id, glob or class:NAME")


def matches(selectors: Iterable[str], device: str, device_class: str | None) -> bool:
    """Whether one of the selectors means a board."""
    return any(_one(selector, device, device_class or "") for selector in selectors)


def unmatched(selectors: Iterable[str], boards: Iterable[tuple[str, str | None]]) -> list[str]:
    """The selectors that mean none of the boards."""
    known = list(boards)
    return [one for one in selectors if not any(_one(one, name, kind or "") for name, kind in known)]


def _one(selector: str, device: str, device_class: str) -> bool:
    if selector.startswith(_CLASS):
        return fnmatchcase(device_class, selector[len(_CLASS) :])
    return fnmatchcase(device, selector)
