"""Tables of a TOML document into dataclasses, with every mistake at once: one sentence each, naming section and key.

It knows the declarations (keys.py) and no section. Bounds: FAULTS_MAX sentences.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.config.keys import Part, default, nearest, parts

FAULTS_MAX = 50
_KINDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


class Checker:
    """Collects what is wrong with one document; `beside` gives a path as the file means it."""

    def __init__(self, beside: Callable[[str], Path]) -> None:
        self._beside = beside
        self.faults: list[str] = []

    def section(self, where: str, kind: type[Any], table: Any, **more: Any) -> Any:
        """An instance of `kind` from a table; where a value is wrong its default stands, and `faults` says so.

        `where` is "" for the document itself; `more` are fields that are no keys.
        """
        if not isinstance(table, dict):
            self.faults.append(f"{where} must be a table: [{where}]")
            return kind(**more)
        known = {part.name: part for part in parts(kind)}
        before = len(self.faults)
        prefix = f"{where}." if where else ""
        self._unknown(prefix, table, list(known))
        values = dict(more)
        for name, part in known.items():
            if name in table:
                found = self._tables(prefix, part, table[name]) if part.is_table else self._key(prefix, part, table)
                values[name] = found
            elif not part.is_table and part.spec.metadata["required"]:
                self.faults.append(f"{prefix}{name} is missing: {part.spec.metadata['help']}")
        made = kind(**values)
        if len(self.faults) == before and hasattr(made, "wrong"):
            self.faults += [f"{prefix}{name} {text}" for name, text in made.wrong(self._beside)]
        return made

    def _unknown(self, prefix: str, table: Mapping[str, Any], known: list[str]) -> None:
        for name in table:
            if name not in known:
                hint = nearest(name, known, f"did you mean {prefix}{{}}?") or f"known are {', '.join(known)}"
                self.faults.append(f"unknown key {prefix}{name}: {hint}")

    def _tables(self, prefix: str, part: Part, value: Any) -> Any:
        where = f"{prefix}{part.name}"
        if part.shape == "one":
            return self.section(where, part.kind, value)
        if part.shape == "list":
            if not isinstance(value, list):
                self.faults.append(f"{where} must be a list of tables: [[{where}]]")
                return ()
            return tuple(self.section(f"{where}[{i}]", part.kind, table) for i, table in enumerate(value, 1))
        if not isinstance(value, dict):
            self.faults.append(f"{where} must hold tables such as [{where}.NAME]")
            return {}
        made = {}
        meta = part.spec.metadata
        for name, table in value.items():
            if not re.fullmatch(meta["name"], name):
                self.faults.append(f"{where}.{name}: {meta['what']} must match {meta['name']}")
            else:
                made[name] = self.section(f"{where}.{name}", part.kind, table)
        return made

    def _key(self, prefix: str, part: Part, table: Mapping[str, Any]) -> Any:
        name, value = f"{prefix}{part.name}", table[part.name]
        if part.shape == "one":
            return self._value(name, part, value, default(part))
        several_max = part.spec.metadata["several_max"]
        if not isinstance(value, dict if part.shape == "dict" else list):
            self.faults.append(f"{name} must be a {'table' if part.shape == 'dict' else 'list'}, not {value!r}")
        elif len(value) > several_max:
            self.faults.append(f"{name} holds {len(value)} items, it may hold {several_max}")
        elif isinstance(value, dict):
            return {inner: self._value(f"{name}.{inner}", part, item, item) for inner, item in value.items()}
        else:
            return tuple(self._value(f"{name}[{i}]", part, item, item) for i, item in enumerate(value, 1))
        return default(part)

    def _value(self, name: str, part: Part, value: Any, otherwise: Any) -> Any:
        if part.kind is float and type(value) is int:
            value = float(value)
        wrong = _wrong(part, value)
        if wrong is None:
            return value
        self.faults.append(f"{name} {wrong}")
        return otherwise


def _wrong(part: Part, value: Any) -> str | None:
    """What is wrong with one value, or None."""
    meta = part.spec.metadata
    if type(value) is not part.kind:
        return f"must be {_KINDS[part.kind]}, not {value!r}"
    if meta["low"] is not None and not meta["low"] <= value <= meta["high"]:  # true for NaN as well
        return f"is {value}, it must be {meta['low']} to {meta['high']}"
    if isinstance(value, str) and "\0" in value:
        return "contains a NUL character"
    if meta["required"] and value == "":
        return f"is empty: {meta['help']}"
    found = meta["check"](value) if meta["check"] is not None else None
    return f"is {_masked(repr(value))}, it {found}" if found else None


def _masked(text: str) -> str:
    """Without the password of a URL: what is wrong goes to logs."""
    return re.sub(r"//[^/@]*@", "//***@", text)
