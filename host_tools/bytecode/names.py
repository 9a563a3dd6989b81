"""Short names for the firmware's own ones, and the way back for whoever reads a traceback.

The image carries the way back as NAMES_FILE: one line a name, short and long. Must not know how sources are rewritten.
"""

from __future__ import annotations

import ast
import itertools
import keyword
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from host_tools.bytecode.errors import BuildError
from host_tools.bytecode.kept import defined, identifiers, words
from host_tools.bytecode.meetings import ANY, Meetings

NAMES_FILE = "names.txt"
_SHORTENED_FROM = 3  # characters; a shorter name is short
_FRAME = re.compile(r'(?P<before>File "(?:cold\.(?P<overlay>\w+)|[^"\n]*)".*, in )(?P<name>\w+)$', re.MULTILINE)
_LOCALS = 48  # short names for arguments and variables, which no name of a file may have


class Names:
    """Old name -> new name, the same in the whole firmware. `back`: new -> old ones, functions first, "/" between them.

    Names that never meet (meetings.py) share a short one; functions, which show in tracebacks, do not share with
    functions while there are spare words. Arguments and variables that nobody names in a call are local, and all
    functions share theirs.
    """

    def __init__(
        self,
        trees: Iterable[ast.AST],
        texts: Iterable[ast.AST],
        kept: AbstractSet[str],
        spare: Iterable[str] = (),
        meet: Meetings | None = None,
    ) -> None:
        """trees: what is rewritten; texts: scripts that are not; kept: names that keep their form; spare: words that
        are names in every image already, to be used first; meet: which names of the trees may not share.
        """
        trees = list(trees)
        texts = list(texts)
        meet = meet or Meetings()
        own_words = set().union(*(identifiers(tree) | words(tree) for tree in (*trees, *texts)))
        self._spare = [word for word in spare if word not in own_words and not keyword.iskeyword(word)]
        self.back: dict[str, str] = {}
        self._said = set(kept).union(*(identifiers(tree) for tree in (*trees, *texts)))
        self.exceptions = _exceptions(trees)
        self._kept = set(kept).union(*(words(tree) for tree in trees), self.exceptions)
        for tree in texts:
            self._kept |= identifiers(tree) | words(tree)
        self._keywords = set(kept).union(*(_keywords(tree) | words(tree) for tree in trees))
        for tree in texts:
            self._keywords |= identifiers(tree)
        self._fresh = self._short_names()
        self._pool: list[_Short] = []
        self._local = [self._short(index) for index in range(_LOCALS)]
        self._new: dict[str, str] = {}
        own = set().union(*(defined(tree) for tree in trees))
        functions = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for name in sorted(own, key=lambda each: (each not in functions, -meet.mentions[each], each)):
            may_change = name not in self._kept and len(name) >= _SHORTENED_FROM and name.isidentifier()
            if may_change and not name.startswith("__"):
                self._new[name] = self._share(name, meet, name in functions)

    def _share(self, name: str, meet: Meetings, is_function: bool) -> str:
        """The first short name that `name` may have. It takes part in all that this one meets from now on."""
        attribute_of = meet.attributes.get(name, set())
        files = meet.files.get(name, set()) | ({ANY} if name in meet.keywords else set())
        for index in itertools.count():
            short = self._short(index)
            if files and index < len(self._local):
                continue
            if _overlap(files, short.files) or _overlap(attribute_of, short.attribute_of):
                continue
            if is_function and short.is_function and index < len(self._spare):
                continue
            short.files |= files
            short.is_function |= is_function
            short.attribute_of |= attribute_of
            self.back[short.name] = f"{self.back[short.name]}/{name}" if short.name in self.back else name
            return short.name
        raise AssertionError("names never end")

    def fresh(self, name: str) -> str:
        """A short name for one more name of a file, `name`."""
        index = len(self._local)
        while self._short(index).files:
            index += 1
        short = self._short(index)
        short.files.add(ANY)
        self.back[short.name] = f"{self.back[short.name]}/{name}" if short.name in self.back else name
        return short.name

    def of(self, name: str) -> str:
        """What `name` becomes."""
        return self._new.get(name, name)

    def for_locals(self, names: AbstractSet[str], start: int) -> dict[str, str]:
        """What the arguments and variables of one function become; start: those of the functions around it."""
        free = sorted(name for name in names if name not in self._keywords and not name.startswith("__"))
        if len(self._local) < start + len(free):
            raise BuildError(f"a function of more than {_LOCALS} variables: {sorted(names)}")
        return {name: self._local[start + index].name for index, name in enumerate(free)}

    def _short(self, index: int) -> _Short:
        while len(self._pool) <= index:
            self._pool.append(_Short(next(self._fresh)))
        return self._pool[index]

    def _short_names(self) -> Iterator[str]:
        yield from self._spare
        for length in itertools.count(1):
            for rest in itertools.product(string.ascii_letters + string.digits, repeat=length):
                for first in string.ascii_letters:
                    name = first + "".join(rest)
                    if name not in self._said and not keyword.iskeyword(name):
                        yield name


@dataclass
class _Short:
    """A short name, and what it stands for already: names of files (a keyword: ANY), a function, class attributes."""

    name: str
    files: set[str] = field(default_factory=set)
    is_function: bool = False
    attribute_of: set[str] = field(default_factory=set)


def _overlap(one: AbstractSet[str], other: AbstractSet[str]) -> bool:
    return bool(one & other) or (bool(one and other) and ANY in one | other)


def _keywords(tree: ast.AST) -> set[str]:
    return {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}


def _exceptions(trees: Iterable[ast.AST]) -> set[str]:
    """Classes whose name shows at the end of a traceback."""
    found = {"Exception"}
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    size = 0
    while size != len(found):
        size = len(found)
        found |= {c.name for c in classes if any(isinstance(base, ast.Name) and base.id in found for base in c.bases)}
    return found


def to_text(back: Mapping[str, str]) -> str:
    """The content of NAMES_FILE."""
    return "".join(f"{short} {long}\n" for short, long in sorted(back.items()))


def from_text(text: str) -> dict[str, str]:
    """Inverse of `to_text`; lines that are none are passed over."""
    return dict(line.split(" ", 1) for line in text.splitlines() if line.count(" ") == 1)


def readable(traceback: str, back: Mapping[str, str]) -> str:
    """A traceback, or an error's text, with the names of the sources.

    Only where a short name can be meant: behind `in` at the end of a frame's line, and in quotes. Functions of an
    overlay, whose frames say `File "cold.NAME"`, stand in `back` as NAME.FUNCTION.
    """

    def frame(found: re.Match[str]) -> str:
        name = found["name"]
        overlay = found["overlay"] and back.get(f"{found['overlay']}.{name}")
        return found["before"] + (overlay or back.get(name, name).partition("/")[0])

    def quoted(found: re.Match[str]) -> str:
        return f"'{back.get(found[1], found[1])}'"

    return re.sub(r"'(\w+)'", quoted, _FRAME.sub(frame, traceback))
