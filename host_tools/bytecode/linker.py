"""The linker: makes few modules with short names out of many with long ones, because names and modules cost heap.

On MicroPython every distinct name is kept for ever (its letters and 7 bytes), every module has a dictionary of all that
it defines and imports, and every file a table of the names it uses. Measured on this firmware that is a third of its
heap. So for deployment, and only there:

 1. modules that are always loaded together become one file (program.py says which); imports between them vanish
 2. constants are written where they are used; functions, methods and tables that nobody uses are left out
 3. functions that overlays.toml names leave for files that are loaded for a while (overlays.py)
 4. names that are the firmware's own become short ones. Left as they are: whatever MicroPython, a driver or a library
    gives a meaning to (kept.py), what main.py and boot.py say, any name that also occurs as a string, exceptions, and
    everything of the form __name__

One name has one replacement in the whole firmware, so attributes, methods and keyword arguments fit together. The image
carries the way back for people who read a traceback (names.py). The sources stay what they are, and run unlinked on
both interpreters. Must not know what the firmware does.
"""

from __future__ import annotations

import ast
import copy
import itertools
import keyword
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from host_tools.bytecode import overlays
from host_tools.bytecode.kept import identifiers, words
from host_tools.bytecode.meetings import meetings
from host_tools.bytecode.names import Names
from host_tools.bytecode.program import SHORT_TEXT, Module, Program, Ref, const_value
from host_tools.bytecode.rewriter import Rewriter
from host_tools.bytecode.scopes import bound_names
from host_tools.bytecode.unit import Statement, Unit

APPLICATION = "isonode.app"


@dataclass(frozen=True)
class Linked:
    """files: flash path -> source; names: short name -> the one in the sources."""

    files: Mapping[str, str]
    names: Mapping[str, str]


def link(
    sources: Mapping[str, str],
    texts: Mapping[str, str],
    kept: AbstractSet[str],
    cold: Mapping[str, list[str]] | None = None,
    application: str = APPLICATION,
    spare: Sequence[str] = (),
) -> Linked:
    """sources: flash path -> source to be linked; texts: scripts that stay as they are; kept: see kept.kept_names.

    cold: overlay -> functions, see overlays.py. application: the module that the device spends its life in. spare: see
    kept.spare_words. Raises BuildError.
    """
    program = Program(sources, texts, application)
    cold = dict(cold or {})
    overlays.leave_out(program, cold.pop(overlays.NEVER, []))
    foreign = _foreign_names(program)
    _drop_unused_methods(program, kept | foreign)
    classes = overlays.listed_classes(program, cold)
    functions = overlays.take_out(program, cold, classes, _overlay_names(program, spare))
    trees = [module.tree for module in program.modules.values()]
    reserved = kept | foreign | {function.called for function in functions}
    taken: dict[str, list[ast.FunctionDef]] = {}
    for function in functions:
        taken.setdefault(function.ref.name.rpartition(".")[0], []).extend((function.node, function.stub()))
    everything = [*trees, *(node for function in functions for node in (function.node, function.stub()))]
    by_file = {root: [each.tree for each in program.members(root)] for root in set(program.unit_of.values())}
    free = [word for word in spare if word not in {function.called for function in functions}]
    names = Names(everything, program.texts, reserved, free, meetings(by_file, taken))
    statements = _statements(program, functions)
    stays = _place(program, statements, classes)
    units = _units(program, names, stays)
    homes = {ref: units[one.home] for one in stays if not one.shared for ref in one.defines}
    files = {
        unit.target: unit.source(lambda ref: homes[ref] if ref.name else units[program.unit_of[ref.module]])
        for unit in units.values()
    }
    back = {**names.back, **{f"{one.overlay}.{one.called}": one.ref.name for one in functions}}
    return Linked(files, back)


# ---- names


def _overlay_names(program: Program, spare: Sequence[str]) -> Iterator[str]:
    """What functions of overlays are called, the same in all overlays: words that are names already, and no longer
    than what MicroPython's compiler makes names of when it meets them as strings, as stubs say them."""
    trees = [*(module.tree for module in program.modules.values()), *program.texts]
    said = set().union(*(identifiers(tree) | words(tree) for tree in trees))
    short = [word for word in spare if len(word) <= SHORT_TEXT]
    yield from (word for word in reversed(short) if word not in said and not keyword.iskeyword(word))
    yield from (f"f{number}" for number in itertools.count())


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


# ---- what nobody uses


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


# ---- statements and their files


def _statements(program: Program, functions: list[overlays.ColdFunction]) -> list[Statement]:
    """All top-level statements, in an order in which what is used comes first, and the functions of overlays."""
    found = []
    said = _attributes(program, functions) | {"__getattr__"}
    said |= {overlays.LOADER.name, overlays.BINDER.name} if functions else set()
    for root in sorted(set(program.unit_of.values())):
        for module in program.members(root):
            for node in module.tree.body:
                if not _is_dropped(program, node, module.name == root):
                    found.append(_statement(program, module, node, root, said))
    for each in functions:
        module = program.modules[each.ref.module]
        home = f"{overlays.FOLDER}.{each.overlay}"
        found.append(Statement(module, each.node, home, {each.moved}, required=True, called=each.called))
    nameless = Names([], [], set())
    for one in found:  # a first reading, only to see what is used
        rewriter = Rewriter(program, one.module, nameless, lambda ref: " ")
        rewriter.visit(copy.deepcopy(one.node))
        one.refs = {ref for ref in rewriter.refs if ref not in one.defines}
    return found


def _attributes(program: Program, functions: list[overlays.ColdFunction]) -> set[str]:
    """Names by which something may reach into a module from outside."""
    found: set[str] = set()
    trees = [module.tree for module in program.modules.values()]
    for tree in (*trees, *program.texts, *(function.node for function in functions)):
        found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | words(tree)
        found |= {a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names}
    return found


def _is_dropped(program: Program, node: ast.stmt, is_root: bool) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring
    if isinstance(node, ast.ImportFrom):
        is_const = node.module == "micropython" and [alias.name for alias in node.names] == ["const"]
        return is_const or program.own_import(node) is not None
    # what a module finds when asked is found here beforehand
    return isinstance(node, ast.FunctionDef) and node.name == "__getattr__" and not is_root


def _statement(program: Program, module: Module, node: ast.stmt, root: str, said: AbstractSet[str]) -> Statement:
    names = bound_names([node])
    shared = isinstance(node, ast.Import | ast.ImportFrom)
    is_assignment = isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets)
    droppable = shared or is_assignment or isinstance(node, ast.FunctionDef | ast.ClassDef)
    is_constant = is_assignment and names <= set(module.constants)
    from_outside = module.name == root and bool(names & said) and not shared
    if is_constant:  # it stands wherever it is used, but for scripts, and for users who are handed the module itself
        is_value = any(root in each.used_as_value | each.lazy_imports for each in program.modules.values())
        scripts = set().union(*(identifiers(tree) for tree in program.texts))
        from_outside = from_outside and (is_value or bool(names & scripts))
    defines = {Ref(module.name, name) for name in names}
    return Statement(module, node, root, defines, required=not droppable or from_outside, shared=shared)


def _place(program: Program, statements: list[Statement], classes: Mapping[Ref, str]) -> list[Statement]:
    """The statements that stay, each with its file: what the application's does not use itself leaves it for the files
    that do, overlays and those that are imported for a while.

    That holds for functions and values that are the same wherever they are: each such file has its own. A table that
    can change goes only where one file uses it. A class goes when it is listed; others may have objects that live on.
    """
    defining: dict[Ref, list[Statement]] = {}
    for one in statements:
        for ref in one.defines:
            defining.setdefault(ref, []).append(one)
    starts: dict[str, list[Statement]] = {}
    for one in statements:
        if one.required:
            starts.setdefault(one.home, []).append(one)
    by_file = {home: _reached(defining, several) for home, several in sorted(starts.items())}
    living = [
        one
        for one in statements
        if isinstance(one.node, ast.ClassDef)
        and one.home == program.application
        and not one.defines & set(classes)
        and any(id(one) in found for found in by_file.values())
    ]
    resident = _reached(defining, living) | by_file.pop(program.application, set())
    placed = []
    for one in statements:
        users = [home for home, found in by_file.items() if id(one) in found]
        if one.shared or not (id(one) in resident or users):
            continue
        is_free = one.home == program.application and id(one) not in resident and _is_fixed(one.node)
        if is_free and (len(users) == 1 or _is_same_everywhere(one.node)):
            placed += [replace(one, home=home) for home in users]
        else:
            placed.append(one)
    shared = [each for one in statements if one.shared for each in _copies(one, placed)]
    order = {id(one.node): number for number, one in enumerate(statements)}
    return sorted([*placed, *shared], key=lambda one: order[id(one.node)])


def _reached(defining: Mapping[Ref, list[Statement]], starts: list[Statement]) -> set[int]:
    """What the statements in `starts` use, directly or not; functions of overlays are reached through stubs alone."""
    found = {id(one) for one in starts}
    waiting = list(starts)
    while waiting:
        for ref in waiting.pop().refs:
            for other in defining.get(ref, ()):
                if id(other) not in found and not other.called:
                    found.add(id(other))
                    waiting.append(other)
    return found


def _copies(one: Statement, placed: list[Statement]) -> list[Statement]:
    """An import from elsewhere, once for each file that uses it."""
    homes = sorted({user.home for user in placed if user.refs & one.defines})
    return [replace(one, home=home) for home in homes]


def _is_fixed(node: ast.stmt) -> bool:
    """True for what is the same each time it is loaded."""
    if isinstance(node, ast.Assign):
        return isinstance(const_value(node.value), ast.Constant | ast.Tuple | ast.Dict | ast.UnaryOp | ast.BinOp)
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


def _is_same_everywhere(node: ast.stmt) -> bool:
    """True for what several files may each have: nothing in it can change."""
    if isinstance(node, ast.FunctionDef):
        values: list[ast.expr] = [value for value in (*node.args.defaults, *node.args.kw_defaults) if value]
        if any(isinstance(each, ast.Global) for each in ast.walk(node)):
            return False
    elif isinstance(node, ast.Assign):
        values = [const_value(node.value)]
    else:
        return False
    made = (each for value in values for each in ast.walk(value))
    return not any(isinstance(each, ast.Dict | ast.List | ast.Set | ast.Call) for each in made)


def _units(program: Program, names: Names, placed: list[Statement]) -> dict[str, Unit]:
    by_home: dict[str, list[Statement]] = {}
    for one in placed:
        by_home.setdefault(one.home, []).append(one)
    units = {}
    for home, statements in by_home.items():
        is_overlay = home.startswith(overlays.FOLDER + ".")
        target = home.replace(".", "/") + ".py" if is_overlay else program.modules[home].target
        units[home] = Unit(home, target, program, names)
        units[home].claim(statements)
    return units
