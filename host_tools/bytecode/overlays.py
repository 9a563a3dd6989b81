"""Overlays: functions that a board needs for seconds of its life, in files of their own that come and go.

`firmware/overlays.toml` names them: one table, one list of functions a file. A method that is listed leaves its class;
where it is called from outside its overlay, a stub of its name and arguments stands in its place, which has
isonode.lazy load the file, call the function and let the file go again when it was not used for a while. A class
without a base that lost several has one `__getattr__` with a table of them instead: 8 bytes a method, where a stub
takes 48; so has a module with a file of its own, for functions that others reach as its attributes.
Listed methods call each other directly, even where a derived class has one of that name. Functions and tables that only
one overlay uses move there by themselves, and so do listed classes, whose objects must not outlive the call. The list
`never` makes no file: what it names is left out of the image.

Must not know names' short forms.
"""

from __future__ import annotations

import ast
import copy
import tomllib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from host_tools.bytecode.errors import BuildError
from host_tools.bytecode.kept import words
from host_tools.bytecode.program import LOADER_MODULE, Module, Program, Ref

FOLDER = "cold"
NEVER = "never"  # no overlay: functions of a library that no board runs
LOADER = Ref(LOADER_MODULE, "cold")
BINDER = Ref(LOADER_MODULE, "method")
_LOADER = " cold"  # stands in a tree for LOADER, the next for BINDER, the next, before "module:name", for a function
_BINDER = " method"  # that moved, and the last, as a text, for what a name becomes; no source can say them
_MOVED = " moved "
_NAME = " name "
_TABLE_FROM = 3  # methods of a class from which on a table takes less than stubs


@dataclass
class ColdFunction:
    """A function that moved. ref: its module and `function` or `Class.method`; called: its name in the overlay."""

    overlay: str
    ref: Ref
    called: str
    node: ast.FunctionDef
    body: list[ast.stmt]  # where it stood
    at: int

    @property
    def moved(self) -> Ref:
        """What it is known as from now on, beside the stub."""
        return _moved(self.ref)

    @property
    def name(self) -> str:
        """What it was called where it stood."""
        return self.ref.name.rpartition(".")[2]

    def stub(self) -> ast.FunctionDef:
        """def name(self, a, b=1): return cold("cold.overlay", "f3", self, a, b)"""
        given = [ast.Name(argument.arg, ast.Load()) for argument in self.node.args.args]
        where = [ast.Constant(f"{FOLDER}.{self.overlay}"), ast.Constant(self.called)]
        call: ast.stmt = ast.Return(ast.Call(ast.Name(_LOADER, ast.Load()), [*where, *given], []))
        if self.name == "__init__":
            call = ast.Expr(call.value)  # type: ignore[attr-defined]
        made = copy.copy(self.node)
        made.name = self.name
        made.body = [call]
        return made


def _moved(ref: Ref) -> Ref:
    return Ref(ref.module, ref.name + _MOVED)


def read(path: Path) -> dict[str, list[str]]:
    """Overlay -> functions, each as `module:function` or `module:Class.method`. Raises BuildError."""
    if not path.exists():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BuildError(f"{path}: {error}") from error
    for name, functions in table.items():
        if not name.isidentifier() or not isinstance(functions, list) or not all(isinstance(f, str) for f in functions):
            raise BuildError(f"{path}: {name}: must be a list of functions, each as module:Class.method")
    return table


def leave_out(program: Program, functions: list[str]) -> None:
    """Take functions out of their modules for good. Raises BuildError where there is none of that name."""
    for text in functions:
        module, _, name = text.partition(":")
        found = _find(program, Ref(module, name), NEVER, "")
        found.body.remove(found.node)
        found.body[:] = found.body or [ast.Pass()]
        program.modules[module].defined.discard(name)


def listed_classes(program: Program, overlays: Mapping[str, list[str]]) -> dict[Ref, str]:
    """The classes among what is listed, with their overlays: all their objects end with the overlay."""
    found = {}
    for ref, overlay in _listed(overlays).items():
        if ref.module in program.modules:
            for node in program.modules[ref.module].tree.body:
                if isinstance(node, ast.ClassDef) and node.name == ref.name:
                    found[ref] = overlay
    return found


def _listed(overlays: Mapping[str, list[str]]) -> dict[Ref, str]:
    found: dict[Ref, str] = {}
    for overlay, functions in overlays.items():
        for text in functions:
            module, _, name = text.partition(":")
            ref = Ref(module, name)
            if ref in found:
                raise BuildError(f"{text} stands in {found[ref]} and in {overlay}: a function is in one overlay, once")
            found[ref] = overlay
    return found


def take_out(
    program: Program, overlays: Mapping[str, list[str]], classes: Mapping[Ref, str], called: Iterator[str]
) -> list[ColdFunction]:
    """Move the listed functions out of their modules, leaving stubs. called: what each overlay's first, second, ...
    function is called there. Raises BuildError naming the function.
    """
    homes = {ref: overlay for ref, overlay in _listed(overlays).items() if ref not in classes}
    taken: list[ColdFunction] = []
    known: list[str] = []
    for ref, overlay in homes.items():
        number = sum(one.overlay == overlay for one in taken)
        while len(known) <= number:
            known.append(next(called))
        taken.append(_find(program, ref, overlay, known[number]))
    for each in sorted(taken, key=lambda one: one.at, reverse=True):
        each.body.remove(each.node)
    for each in taken:
        _Companions(each, program.modules[each.ref.module], homes).visit(each.node)
    trees: list[ast.AST] = [*(module.tree for module in program.modules.values()), *(one.node for one in taken)]
    said = _said(trees)
    keyworded = _called_with_keywords(trees)
    tables: dict[tuple[str, str], list[ColdFunction]] = {}
    for each in sorted(taken, key=lambda one: one.at):
        class_name = each.ref.name.rpartition(".")[0]
        fits = each.name in said - keyworded and not each.name.startswith("__")
        module = program.modules[each.ref.module]
        if fits and (
            _asks_nobody(program, module, class_name, each.name, homes)
            if class_name
            else each.name not in _said_by_name(program, module, taken)
        ):
            tables.setdefault((each.ref.module, class_name), []).append(each)
        elif not class_name or each.name in said or each.name.startswith("__"):
            each.body.insert(min(each.at, len(each.body)), each.stub())
    for owner in [owner for owner, methods in tables.items() if len(methods) < _TABLE_FROM]:
        for each in tables.pop(owner):
            each.body.insert(min(each.at, len(each.body)), each.stub())
    for (name, class_name), methods in tables.items():
        module = program.modules[name]
        bases = _bases(program, module, class_name) if class_name else None
        more = [tables.get(base, []) for base in bases or ()]
        methods[0].body.append(_table(sum(more, methods), bool(class_name)))
    for each in taken:
        each.body[:] = each.body or [ast.Pass()]
        each.node.name = f"{_MOVED}{each.ref.module}:{each.ref.name}"
        program.modules[each.ref.module].defined.add(each.moved.name)
    return taken


def meant(name: str) -> Ref | None:
    """What a name stands for that this file put into a tree; None for any other name."""
    if name in (_LOADER, _BINDER):
        return LOADER if name == _LOADER else BINDER
    if name.startswith(_MOVED):
        module, _, function = name.removeprefix(_MOVED).partition(":")
        return _moved(Ref(module, function))
    return None


def named(text: object) -> str | None:
    """The name whose new form a text of a tree stands for; None for any other text or value."""
    return text.removeprefix(_NAME) if isinstance(text, str) and text.startswith(_NAME) else None


def _asks_nobody(program: Program, module: Module, class_name: str, method: str, homes: Mapping[Ref, str]) -> bool:
    """Whether a method that the class lacks is nowhere: all bases are ours, none has it or had it, and no `__getattr__`
    of the class or of a base makes it. homes: all that was listed."""
    family = _bases(program, module, class_name)
    if family is None:
        return False
    for name, base in [(module.name, class_name), *family]:
        own = {node.name for node in _class(program.modules[name], base).body if isinstance(node, ast.FunctionDef)}
        if "__getattr__" in own or method in own:
            return False
    return not any(Ref(name, f"{base}.{method}") in homes for name, base in family)


def _bases(program: Program, module: Module, class_name: str) -> list[tuple[str, str]] | None:
    """(module, class) of all that a class inherits from, the nearest first; None when one of these is not ours."""
    found = []
    for base in _class(module, class_name).bases:
        ref = Ref(module.name, "")
        if isinstance(base, ast.Name):
            ref = module.imports.get(base.id, Ref(module.name, base.id))
        if ref.name not in program.modules[ref.module].defined:
            return None
        further = _bases(program, program.modules[ref.module], ref.name)
        if further is None:
            return None
        found += [(ref.module, ref.name), *further]
    return found


def _class(module: Module, name: str) -> ast.ClassDef:
    return next(node for node in module.tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def _said_by_name(program: Program, module: Module, taken: list[ColdFunction]) -> set[str]:
    """Names of a module that it or another says itself, and not as attributes of the module; all that it has, when it
    is merged into another's file, where there is no module to ask."""
    if program.unit_of.get(module.name) != module.name or module.name == program.application:
        return set(module.defined)
    trees = [module.tree, *(one.node for one in taken if one.ref.module == module.name)]
    found = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return found | {ref.name for one in program.modules.values() for ref in one.imports.values()}


def _called_with_keywords(trees: list[ast.AST]) -> set[str]:
    """Methods that some call hands arguments by name, which a stub takes and a table does not."""
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call) and node.keywords]
    return {node.func.attr for node in calls if isinstance(node.func, ast.Attribute)}


def _said(trees: list[ast.AST]) -> set[str]:
    found: set[str] = set()
    for tree in trees:
        found |= words(tree)
        found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found


def _find(program: Program, ref: Ref, overlay: str, called: str) -> ColdFunction:
    label = f"overlays: {overlay}: {ref.module}:{ref.name}"
    if ref.module not in program.modules:
        raise BuildError(f"{label}: there is no such module")
    body = program.modules[ref.module].tree.body
    class_name, _, name = ref.name.rpartition(".")
    if class_name:
        classes = [node for node in body if isinstance(node, ast.ClassDef) and node.name == class_name]
        if not classes:
            raise BuildError(f"{label}: there is no such class")
        body = classes[0].body
    for at, node in enumerate(body):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            _check(label, node, _rebound(program.modules[ref.module].tree))
            return ColdFunction(overlay, ref, called, node, body, at)
    raise BuildError(f"{label}: there is no such function")


def _rebound(tree: ast.AST) -> set[str]:
    """Variables of a module that its functions set anew: an overlay would keep what they were when it was loaded."""
    return {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


def _check(label: str, node: ast.FunctionDef, rebound: AbstractSet[str]) -> None:
    arguments = node.args
    if node.decorator_list or arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
        raise BuildError(f"{label}: decorators and starred arguments cannot be moved")
    for each in ast.walk(node):
        if isinstance(each, ast.Global | ast.Yield | ast.YieldFrom):
            raise BuildError(f"{label}: a function with `global` or `yield` cannot be moved")
        if isinstance(each, ast.Name) and each.id == "super":
            raise BuildError(f"{label}: a method that calls super() cannot be moved")
        if isinstance(each, ast.Name) and each.id in rebound:
            raise BuildError(f"{label}: reads {each.id}, which is set by `global`: it would see an old value")


class _Companions(ast.NodeTransformer):
    """`self.other(x)`, or `other(x)`, becomes a direct call where `other` is in the same overlay."""

    def __init__(self, function: ColdFunction, module: Module, homes: Mapping[Ref, str]) -> None:
        self._module = module
        self._class = function.ref.name.rpartition(".")[0]
        arguments = function.node.args.args
        self._self = arguments[0].arg if self._class and arguments else ""
        self._overlay = function.overlay
        self._homes = homes

    def _companion(self, ref: Ref) -> ast.Name | None:
        if self._homes.get(ref) != self._overlay:
            return None
        return ast.Name(f"{_MOVED}{ref.module}:{ref.name}", ast.Load())

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        function = node.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and self._self:
            other = self._companion(Ref(self._module.name, f"{self._class}.{function.attr}"))
            if function.value.id == self._self and other is not None:
                node.func = other
                node.args.insert(0, ast.Name(self._self, ast.Load()))
        elif isinstance(function, ast.Name):
            ref = self._module.imports.get(function.id, Ref(self._module.name, function.id))
            node.func = self._companion(ref) or function
        return node


def _table(methods: list[ColdFunction], of_class: bool) -> ast.FunctionDef:
    """def __getattr__(self, name): return method((self,), name, (("cold.x", "open", "f3", "close", "f5"), ...))"""
    rows: dict[str, list[ast.expr]] = {}
    for each in methods:
        row = rows.setdefault(each.overlay, [ast.Constant(f"{FOLDER}.{each.overlay}")])
        row += [ast.Constant(_NAME + each.name), ast.Constant(each.called)]
    table = ast.Tuple([ast.Tuple(row, ast.Load()) for row in rows.values()], ast.Load())
    owner = ast.Tuple([ast.Name("self", ast.Load())] if of_class else [], ast.Load())
    given = [owner, ast.Name("name", ast.Load()), table]
    made = ast.parse(f"def __getattr__({'self, ' if of_class else ''}name): pass").body[0]
    assert isinstance(made, ast.FunctionDef)
    made.body = [ast.Return(ast.Call(ast.Name(_BINDER, ast.Load()), given, []))]
    return made
