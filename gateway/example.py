"""What the declarations of gateway.config say, as text: the commented example file and the tables of docs/gateway.md.

`python -m gateway.example` writes both anew; a test checks that they are as it would write them.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from gateway.config import Config
from gateway.config.keys import Part, default, unit, walk

_ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = _ROOT / "gateway" / "system" / "gateway.toml"
DOCUMENT = _ROOT / "docs" / "gateway.md"
_MARKS = ("<!-- keys: made by python -m gateway.example -->\n", "<!-- keys end -->\n")
_HEAD = """\
# The gateway's configuration. Every key stands here with its default, behind a `#`; remove the `#` to change it.
# `isotherm-gateway check-config` tells what is wrong, by file and key. `systemctl reload isotherm-gateway` takes up
# what can change at once and says what waits for a restart. docs/gateway.md tells more.
"""


def example() -> str:
    """A valid configuration file in which nothing is set."""
    out = [_HEAD]
    for heading, table, keys in walk(Config):
        out.append("\n")
        intro = table.spec.metadata["intro"].rstrip("\n")
        out += [f"# {line}".rstrip() + "\n" for line in intro.split("\n") if intro]
        if heading == f"[{table.name}]":
            out.append(f"{heading}\n")
        else:
            out.append(f"#\n# All its keys:\n# {heading}\n")
        for key in keys:
            text = key.spec.metadata["help"] + "".join(f"; {part}" for part in (range_of(key), _unit_word(key)) if part)
            out += [line + "\n" for line in textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")]
            out.append(f"#{key.name} = {toml(default(key))}\n")
    return "".join(out)


def tables() -> str:
    """The keys for people, in Markdown."""
    out = []
    for heading, _, keys in walk(Config):
        out.append(
            f"\n### {heading}\n\n| key | default | unit | range | reload | meaning |\n|---|---|---|---|---|---|\n"
        )
        for key in keys:
            meta = key.spec.metadata
            shown = "required" if meta["required"] else f"`{toml(default(key))}`"
            when = "at once" if meta["live"] else ""
            text = meta["help"].replace("|", "\\|")
            out.append(f"| `{key.name}` | {shown} | {unit(key)} | {range_of(key)} | {when} | {text} |\n")
    return "".join(out) + "\n"


def documented(page: str) -> str:
    """A page with the tables between its marks made anew."""
    start, end = (page.index(mark) for mark in _MARKS)
    return page[: start + len(_MARKS[0])] + tables() + page[end:]


def range_of(key: Part) -> str:
    """The bounds of a number, or nothing."""
    low, high = key.spec.metadata["low"], key.spec.metadata["high"]
    return f"{low} to {high}" if low is not None else ""


def _unit_word(key: Part) -> str:
    """The unit where the key's name does not end in it."""
    found = unit(key)
    return "" if not found or key.name.endswith(f"_{found}") else f"in {found}"


def toml(value: object) -> str:
    """A value as TOML spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return str(value)


if __name__ == "__main__":
    EXAMPLE.write_text(example(), encoding="utf-8")
    DOCUMENT.write_text(documented(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
