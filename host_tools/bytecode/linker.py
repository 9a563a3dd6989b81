"""The linker: makes few modules with short names out of many with long ones, because names and modules cost heap.

On MicroPython every distinct name is kept for ever (its letters and 7 bytes), every module has a dictionary of all that
it defines and imports, and every file a table of the names it uses. Measured on this firmware that is a third of its
heap. So for deployment, and only there:

 1. modules that are always loaded together become one file (program.py says which); imports between them vanish
 2. constants are written where they are used; functions, methods and tables that nobody uses are left out
 3. names that are the firmware's own become short ones. Left as they are: whatever MicroPython, a driver or a library
    gives a meaning to (kept.py), what main.py and boot.py say, any name that also occurs as a string, exceptions, and
    everything of the form __name__

One name has one replacement in the whole firmware, so attributes, methods and keyword arguments fit together. The image
carries the way back for people who read a traceback (names.py). The sources stay what they are, and run unlinked on
both interpreters. Must not know what the firmware does.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from host_tools.bytecode.kept import identifiers, words
from host_tools.bytecode.names import Names
from host_tools.bytecode.program import Program
from host_tools.bytecode.unit import Statement, Unit

APPLICATION = "isonode.app"


@dataclass(frozen=True)
class Linked:
    """files: flash path -> source; names: short name -> the one in the sources."""

    files: Mapping[str, str]
    names: Mapping[str, str]


def link(
    sources: Mapping[str, str], texts: Mapping[str, str], kept: AbstractSet[str], application: str = APPLICATION
) -> Linked:
    """sources: flash path -> source to be linked; texts: scripts that stay as they are; kept: see kept.kept_names.

    application: the module that the device spends its life in. Raises BuildError.
    """
    program = Program(sources, texts, application)
    trees = [module.tree for module in program.modules.values()]
    foreign = _foreign_names(program)
    _drop_unused_methods(program, kept | foreign)
    names = Names(trees, program.texts, kept | foreign)
    units = {root: Unit(program, root, names) for root in sorted(set(program.unit_of.values()))}
    for unit in units.values():
        unit.claim_names()
    for unit in units.values():
        unit.rewrite(units)
    _mark(program, units)
    return Linked({unit.target: unit.source() for unit in units.values()}, names.back)


def _foreign_names(program: Program) -> set[str]:
    """Names that come from modules which are not ours."""
    found: set[str] = set()
    for module in program.modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and program.own_import(node) is None):
                for alias in node.names:
                    found.update(alias.name.split("."))
                    found.add(alias.asname or alias.name)
    return found


def _drop_unused_methods(program: Program, kept: AbstractSet[str]) -> None:
    """Leave out methods whose name is said nowhere. What others may call (their names are kept) stays."""
    trees = [module.tree for module in program.modules.values()]
    fixed = set(kept).union(*(words(tree) for tree in trees), *(identifiers(tree) for tree in program.texts))
    while True:
        said = fixed | {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        dropped = 0
        for tree in trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    body = [each for each in node.body if not _is_unused_method(each, said)]
                    dropped += len(node.body) - len(body)
                    node.body = body or [ast.Pass()]
        if not dropped:
            return


def _is_unused_method(node: ast.stmt, said: AbstractSet[str]) -> bool:
    return isinstance(node, ast.FunctionDef) and not node.name.startswith("__") and node.name not in said


def _mark(program: Program, units: Mapping[str, Unit]) -> None:
    """Keep what is reached from each unit's root module and from statements that do something."""
    waiting: list[Statement] = []
    for unit in units.values():
        for statement in unit.statements:
            if statement.does_something:
                statement.kept = True
                waiting.append(statement)
    while waiting:
        for ref in waiting.pop().refs:
            unit = units[program.unit_of[ref.module]]
            for statement in unit.defining.get(ref, ()):
                if not statement.kept:
                    statement.kept = True
                    waiting.append(statement)
