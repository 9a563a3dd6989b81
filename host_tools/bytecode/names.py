"""Short names for the firmware's own ones, and the way back for whoever reads a traceback.

The image carries the way back as NAMES_FILE: one line a name, short and long. Must not know how sources are rewritten.
"""

from __future__ import annotations

import ast
import itertools
import keyword
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from host_tools.bytecode.kept import defined, identifiers, words
from host_tools.bytecode.scopes import bound_names

NAMES_FILE = "names.txt"
_SHORTENED_FROM = 3  # characters; a shorter name is short


class Names:
    """Old name -> new name, the same in the whole firmware. `back`: new -> old.

    What is known inside one class or one function alone shares its short name with others of that kind: the private
    attributes of a class (not its methods, which show in tracebacks), and arguments that nobody names in a call. These
    are not in `back`.
    """

    def __init__(
        self, trees: Iterable[ast.AST], texts: Iterable[ast.AST], kept: AbstractSet[str], spare: Iterable[str] = ()
    ) -> None:
        """trees: what is rewritten; texts: scripts that are not; kept: names that keep their form; spare: words that
        are names in every image already, to be used first.
        """
        trees = list(trees)
        texts = list(texts)
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
        self._shared: list[str] = []
        self._new: dict[str, str] = {}
        for attributes in _own_attributes(trees):
            for index, name in enumerate(sorted(attributes - self._kept)):
                self._new[name] = self._shared_name(index)
        own = set().union(*(defined(tree) for tree in trees))
        counts = Counter(name for tree in trees for name in _mentions(tree) if name in own)
        for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            may_change = name not in self._kept and len(name) >= _SHORTENED_FROM
            may_change = may_change and not name.startswith("__") and not name.isupper()  # constants vanish anyway
            if may_change and name not in self._new:
                self._new[name] = self.fresh(name)

    def fresh(self, name: str) -> str:
        """A short name that stands nowhere, for `name`."""
        short = next(self._fresh)
        self.back[short] = name
        return short

    def of(self, name: str) -> str:
        """What `name` becomes."""
        return self._new.get(name, name)

    def for_locals(self, names: AbstractSet[str], start: int) -> dict[str, str]:
        """What the arguments and variables of one function become; start: those of the functions around it."""
        free = sorted(name for name in names if name not in self._keywords and not name.startswith("__"))
        return {name: self._shared_name(start + index) for index, name in enumerate(free)}

    def _shared_name(self, index: int) -> str:
        while len(self._shared) <= index:
            self._shared.append(next(self._fresh))
        return self._shared[index]

    def _short_names(self) -> Iterator[str]:
        yield from self._spare
        for length in itertools.count(1):
            for rest in itertools.product(string.ascii_letters + string.digits, repeat=length):
                for first in string.ascii_letters:
                    name = first + "".join(rest)
                    if name not in self._said and not keyword.iskeyword(name):
                        yield name


def _mentions(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


def _keywords(tree: ast.AST) -> set[str]:
    return {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}


def _own_attributes(trees: Iterable[ast.AST]) -> Iterator[set[str]]:
    """For each class: its private attributes that only its own methods mention, through `self`, and that are data."""
    trees = list(trees)
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    related = {base.id for each in classes for base in each.bases if isinstance(base, ast.Name)}
    names = {each.name for each in classes}
    functions = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    everywhere = Counter(node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    for each in classes:
        bases = {base.id for base in each.bases if isinstance(base, ast.Name)}
        if each.name in related or bases & names:
            continue
        body = bound_names(each.body)
        here = Counter(
            node.attr
            for node in ast.walk(each)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        )
        yield {
            name
            for name, count in here.items()
            if name.startswith("_")
            and not name.startswith("__")
            and count == everywhere[name]
            and name not in functions
            and name not in body
        }


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

    Only where a short name can be meant: behind `in` at the end of a frame's line, and in quotes.
    """

    def long(found: re.Match[str]) -> str:
        return found[1] + back.get(found[2], found[2]) + found[3]

    traceback = re.sub(r"(, in )(\w+)()$", long, traceback, flags=re.MULTILINE)
    return re.sub(r"(')(\w+)(')", long, traceback)
