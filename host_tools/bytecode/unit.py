"""One file of the image: the statements that belong to it, what it calls their names, and its text."""

from __future__ import annotations

import ast
import copy
import keyword
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from host_tools.bytecode.names import Names
from host_tools.bytecode.program import SHORT_TEXT, Module, Program, Ref
from host_tools.bytecode.rewriter import Rewriter


@dataclass
class Statement:
    """A top-level statement: where it came from, the names it defines and uses, and the file it goes to.

    required: it does something, or others reach it by name from outside. shared: an import from elsewhere, which each
    file that needs it repeats.
    """

    module: Module
    node: ast.stmt
    home: str
    defines: set[Ref]
    required: bool
    shared: bool = False
    called: str = ""  # the name that a function of an overlay must have
    refs: set[Ref] = field(default_factory=set)


class Unit:
    """`claim` the names of all units first, then take each unit's `source`."""

    def __init__(self, name: str, target: str, program: Program, names: Names) -> None:
        self.name = name
        self.target = target
        self._program = program
        self._names = names
        self._statements: list[Statement] = []
        self._bound: dict[Ref, str] = {}  # its own module-level name -> what this file calls it
        self._imported: dict[Ref, tuple[Unit, str, str]] = {}  # another file's: the file, what it calls it, our name
        self._taken: set[str] = set()

    def claim(self, statements: list[Statement]) -> None:
        """Give each module-level name its own. The root module's come first: others reach them as attributes."""
        self._statements = statements
        for statement in sorted(statements, key=lambda one: (one.module.name != self.name, not one.called)):
            for ref in sorted(statement.defines, key=lambda one: one.name):
                new = statement.called or self._names.of(ref.name)
                if not statement.shared and ref not in self._bound and self._must_differ(statement, ref, new):
                    new = self._names.fresh(ref.name)
                self._taken.add(new)
                self._bound[ref] = new

    def _must_differ(self, statement: Statement, ref: Ref, new: str) -> bool:
        """True when `new` is another's already, or a name that keeps its form and so may be one of a local variable."""
        if new in self._taken:
            return True
        inner = not statement.called and statement.module.name != self.name
        return inner and new == ref.name and new not in self._names.exceptions

    def source(self, home: Callable[[Ref], Unit]) -> str:
        """The file's text. home: the unit in which a name of another file is found."""
        body: list[ast.stmt] = []
        said: set[str] = set()
        for statement in self._statements:
            rewriter = Rewriter(self._program, statement.module, self._names, lambda ref: self._bind(ref, home))
            made = rewriter.visit(copy.deepcopy(statement.node))
            if statement.shared:
                text = ast.unparse(ast.fix_missing_locations(made))
                if text in said:
                    continue
                said.add(text)
            body.append(made)
        body[:0] = [self._import(ref) for ref in self._imported]
        body[:0] = _names_first(body)
        return ast.unparse(ast.fix_missing_locations(ast.Module(body, []))) + "\n"

    def _bind(self, ref: Ref, home: Callable[[Ref], Unit]) -> str:
        """What this file calls a module-level name, or a module (name ""), of any unit."""
        if ref in self._bound:
            return self._bound[ref]
        if ref not in self._imported:
            unit = home(ref)
            there = unit._bound[ref] if ref.name else ref.module.rpartition(".")[2]
            here = self._names.fresh(ref.name or there) if there in self._taken else there
            self._taken.add(here)
            self._imported[ref] = (unit, there, here)
        return self._imported[ref][2]

    def _import(self, ref: Ref) -> ast.ImportFrom:
        unit, there, here = self._imported[ref]
        source = unit.name if ref.name else ref.module.rpartition(".")[0]
        return ast.ImportFrom(source, [ast.alias(there, None if here == there else here)], 0)


_ONE_BYTE_NAMES = 126  # bytecode says a name by its place in the file's table; the first 128 places take one byte


def _names_first(body: list[ast.stmt]) -> list[ast.stmt]:
    """A statement that does nothing, but makes the compiler meet the most frequent names first (0.5 KB of bytecode)."""
    counts = Counter(name for statement in body for name in _operands(statement))
    first = [name for name, _ in counts.most_common(_ONE_BYTE_NAMES) if _is_name(name)]
    if len(counts) <= _ONE_BYTE_NAMES:
        return []
    chain: ast.expr = ast.Name("__name__", ast.Load())
    for name in first:
        chain = ast.Attribute(chain, name, ast.Load())
    return [ast.Expr(ast.BoolOp(ast.Or(), [ast.Name("__name__", ast.Load()), chain]))]


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


def _operands(statement: ast.stmt) -> Iterator[str]:
    """Names that the bytecode of functions says, as often as it does; local variables are numbers there."""
    for function in (node for node in ast.walk(statement) if isinstance(node, ast.FunctionDef)):
        local = {
            node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        local |= {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute):
                yield node.attr
            elif isinstance(node, ast.Name) and node.id not in local:
                yield node.id
            elif isinstance(node, ast.arg):
                yield node.arg
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) <= SHORT_TEXT:
                yield node.value
        yield function.name
