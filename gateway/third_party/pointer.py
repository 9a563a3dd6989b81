"""JSON pointers, RFC 6901. Pure."""

from __future__ import annotations

import re
from typing import Any

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_BAD_ESCAPE = re.compile(r"~(?![01])")
MISSING = object()


def wrong(pointer: str) -> str | None:
    """What is wrong with a pointer, or None."""
    if pointer and not pointer.startswith("/"):
        return 'must be "" for the whole document, or begin with / (RFC 6901)'
    return "has a ~ that is neither ~0 nor ~1 (RFC 6901)" if _BAD_ESCAPE.search(pointer) else None


def resolve(document: Any, pointer: str) -> Any:
    """What the pointer points at, or MISSING."""
    if not pointer:
        return document
    for token in pointer[1:].split("/"):
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            if key not in document:
                return MISSING
            document = document[key]
        elif isinstance(document, list) and _INDEX.fullmatch(key) and int(key) < len(document):
            document = document[int(key)]
        else:
            return MISSING
    return document
