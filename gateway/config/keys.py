"""What configuration is declared with: keys, sections, families of tables, and checks that several keys share.

A section is a frozen dataclass whose fields are made by `key`. It may have a method
`wrong(self, beside) -> Iterator[tuple[str, str]]` that yields (key, what is wrong) for what one key alone cannot show;
`beside(name)` gives the path that the file means. Pure, but for `beside`'s user looking whether a file is there.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, field, fields, is_dataclass
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

Check = Callable[[Any], str | None]

# A name's last part tells its unit; `unit=` says what a name cannot.
_UNITS = {"s": "s", "ms": "ms", "rows": "rows", "bytes": "bytes", "days": "days", "dbm": "dBm", "slots": "batches"}
_SEVERAL_MAX = 64


def key(
    default: Any,
    text: str,
    low: float | None = None,
    high: float | None = None,
    *,
    unit: str | None = None,
    check: Check | None = None,
    required: bool = False,
    live: bool = False,
    several_max: int = _SEVERAL_MAX,
) -> Any:
    """A key: `bool`, `int`, `float` or `str`, `tuple[one, ...]` for a list, `dict[str, one]` for a table of values.

    `low` and `high` bound a number, `check` returns what is wrong with a value or None; both look at each item of a
    list or table, which holds `several_max` at most. `live`: a reload takes it up at once.
    """
    metadata = {
        "help": text,
        "low": low,
        "high": high,
        "unit": unit,
        "check": check,
        "required": required,
        "live": live,
        "several_max": several_max,
    }
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type[Any], intro: str = "") -> Any:
    """A table that is always there, such as [mqtt]. `intro` stands before it in the example file."""
    return field(default_factory=kind, metadata={"intro": intro})


def family(intro: str = "", *, name: str = "[a-z0-9_]{1,32}", what: str = "a name here", live: bool = False) -> Any:
    """Tables in any number: `dict[str, Kind]` for [sinks.NAME], `tuple[Kind, ...]` for [[rules]].

    `name` is the pattern of NAME and `what` calls it in an error. `live`: a reload may add, remove and change them.
    """
    return field(default_factory=dict, metadata={"intro": intro, "name": name, "what": what, "live": live})


def listed_family(intro: str = "", *, live: bool = False) -> Any:
    """Tables in any number without names: `tuple[Kind, ...]` for [[rules]]."""
    return field(default=(), metadata={"intro": intro, "live": live})


class Part(NamedTuple):
    """A field of a section: `shape` is one, list or dict of `kind`, which is a dataclass or a plain type."""

    name: str
    shape: str
    kind: Any
    spec: Field[Any]

    @property
    def is_table(self) -> bool:
        return is_dataclass(self.kind)


def parts(kind: type[Any]) -> Iterator[Part]:
    """The keys and tables of a section, in their order; fields without a declaration from here are left out."""
    hints = get_type_hints(kind)
    for spec in fields(kind):
        if "help" in spec.metadata or "intro" in spec.metadata:
            hint = hints[spec.name]
            shape = {dict: "dict", tuple: "list"}.get(get_origin(hint) or hint, "one")
            of = hint if shape == "one" else get_args(hint)[1 if shape == "dict" else 0]
            yield Part(spec.name, shape, of, spec)


def walk(kind: type[Any], before: str = "") -> Iterator[tuple[str, Part, list[Part]]]:
    """Every table below a section as (heading, its declaration, its keys): [mqtt], [sinks.NAME], [[rules]]."""
    for part in parts(kind):
        if part.is_table:
            name = f"{before}{part.name}" + (".NAME" if part.shape == "dict" else "")
            heading = f"[[{name}]]" if part.shape == "list" else f"[{name}]"
            yield heading, part, [inner for inner in parts(part.kind) if not inner.is_table]
            yield from walk(part.kind, f"{name}.")


def unit(part: Part) -> str:
    """A key's unit, or nothing."""
    given = part.spec.metadata["unit"]
    if given is not None:
        return str(given)
    words = [word for word in part.name.split("_") if word not in ("min", "max", "base")]
    return _UNITS.get(words[-1], "") if words and part.kind in (int, float) else ""


def default(part: Part) -> Any:
    """What a key is when it is not given."""
    made = part.spec.default_factory
    return made() if callable(made) else part.spec.default


# -- checks


def one_of(names: Sequence[str]) -> Check:
    """One of a few words, with the nearest in the error."""

    def check(value: str) -> str | None:
        if value in names:
            return None
        return f"must be one of {', '.join(names)}{nearest(value, names, ': did you mean {}?')}"

    return check


def nearest(word: str, known: Sequence[str], text: str) -> str:
    """`text` with the nearest known word in place of {}; empty when none is near."""
    near = difflib.get_close_matches(word, known, 1)
    return text.format(near[0]) if near else ""


def matching(pattern: str) -> Check:
    """A string that a regular expression matches from end to end."""
    compiled = re.compile(pattern)
    return lambda value: None if compiled.fullmatch(value) else f"must match {pattern}"


def listen_address(value: str) -> str | None:
    """An address to listen on: loopback only."""
    if not value:
        return None
    host, _, port = value.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        return 'must be "" or "127.0.0.1:PORT"'
    return None if is_loopback(host) else "must be a loopback address: metrics and status are for this machine only"


def url(value: str) -> str | None:
    """Where batches go: TLS, or a loopback address."""
    try:
        parts_ = urlsplit(value)
        port = parts_.port
    except ValueError as exc:
        return f"is no URL: {exc}"
    secure = {"http": "https", "mqtt": "mqtts"}.get(parts_.scheme, parts_.scheme)
    if secure not in ("https", "mqtts") or not parts_.hostname or port == 0:
        return "must be https://HOST[:PORT][/PATH] or mqtts://HOST[:PORT], or http:// or mqtt:// for a loopback address"
    if not value.startswith(f"{parts_.scheme}://"):
        return f"must begin with {parts_.scheme}://, in lower case"
    if parts_.username or parts_.password:
        return "must not contain credentials: use token_file"
    if parts_.query or parts_.fragment or (secure == "mqtts" and parts_.path.strip("/")):
        return "must have neither query nor fragment, and a broker's no path"
    if parts_.scheme != secure and not is_loopback(parts_.hostname):
        return f"must be {secure}: plain {parts_.scheme} is for a loopback address only"
    return None


def proxy_url(value: str) -> str | None:
    """An HTTP proxy, `none`, or nothing."""
    if value in ("", "none"):
        return None
    try:
        parts_ = urlsplit(value)
        port = parts_.port
    except ValueError as exc:
        return f"is no URL: {exc}"
    if parts_.username or parts_.password:
        return "must not contain credentials: use proxy_login_file"
    good = parts_.scheme in ("http", "https") and parts_.hostname and port != 0 and parts_.path in ("", "/")
    return None if good else "must be http://HOST:PORT or https://HOST:PORT, or none"


def is_loopback(host: str) -> bool:
    """True for localhost and loopback addresses."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
