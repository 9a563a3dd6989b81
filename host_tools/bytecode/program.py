"""The firmware as a set of modules: what each defines, imports from the others, and which of them become one file.

Units. A module that is imported inside a function (it is wanted for a while), that main.py names, that lazy.forget
names, or that is used as a value, stays a file of its own. Everything that the application imports at its start
becomes one file, the application's; a helper of one lazily loaded module joins that one, unless it has classes. Must
not know how names are rewritten.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from host_tools.bytecode.errors import BuildError
from host_tools.bytecode.scopes import bound_names

SMALL_INT_MAX = (1 << 30) - 1
LOADER_MODULE = "isonode.lazy"  # loads overlays (overlays.py)
SHORT_TEXT = 10  # longer texts cost more when repeated than the name that they replace


@dataclass(frozen=True)
class Ref:
    """A module-level name."""

    module: str
    name: str


@dataclass
class Module:
    """One source file. imports: local name -> Ref of one of our modules' names, or of a module (name "")."""

    name: str
    target: str
    tree: ast.Module
    imports: dict[str, Ref] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)
    constants: dict[str, int | str] = field(default_factory=dict)
    lazy_imports: set[str] = field(default_factory=set)
    used_as_value: set[str] = field(default_factory=set)


def module_name(target: str) -> str:
    """`isonode/sensors/__init__.py` -> `isonode.sensors`."""
    parts = PurePosixPath(target).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class Program:
    """All modules, and the unit that each belongs to (`unit_of`: module -> root module of its file)."""

    def __init__(self, sources: Mapping[str, str], texts: Mapping[str, str], application: str) -> None:
        """sources: flash path -> source to be linked; texts: scripts that stay as they are; application: a module."""
        self.application = application
        self.modules: dict[str, Module] = {}
        for target, text in sources.items():
            name = module_name(target)
            self.modules[name] = Module(name, target, _parse(target, text))
        if application not in self.modules:
            raise BuildError(f"the firmware holds no {application.replace('.', '/')}.py")
        self.texts = [_parse(target, text) for target, text in texts.items()]
        for module in self.modules.values():
            self._read_imports(module)
            module.defined = bound_names(module.tree.body) - set(module.imports)
            self._read_constants(module)
            self._read_values(module)
        self.unit_of = self._divide(application)

    # ---- modules

    def own_import(self, node: ast.ImportFrom) -> list[tuple[str, Ref]] | None:
        """(local name, what it is) of an import from our own modules; None when it is from elsewhere."""
        if node.level or node.module is None or node.module.partition(".")[0] not in self._packages():
            return None
        found = []
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            ref = Ref(inner, "") if inner in self.modules else Ref(node.module, alias.name)
            if not ref.name or node.module in self.modules:
                found.append((alias.asname or alias.name, ref))
            else:
                raise BuildError(f"{node.module}: there is no such module")
        return found

    def _packages(self) -> set[str]:
        return {name.partition(".")[0] for name in self.modules}

    def _read_imports(self, module: Module) -> None:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import) and any(a.name.partition(".")[0] in self._packages() for a in node.names):
                raise BuildError(f"{module.target}: write `from package import module` for our own modules")
            if not isinstance(node, ast.ImportFrom):
                continue
            own = self.own_import(node)
            if own is None:
                continue
            if node in module.tree.body:
                module.imports.update(own)
            else:
                module.lazy_imports.update(ref.module for _, ref in own)

    def _read_constants(self, module: Module) -> None:
        """Module-level names that are assigned once and hold a small integer or a short text."""
        assigned = [node for node in ast.walk(module.tree) if isinstance(node, ast.Name | ast.Global)]
        counts: dict[str, int] = {}
        for each in assigned:
            if isinstance(each, ast.Global):
                for name in each.names:
                    counts[name] = counts.get(name, 0) + 2
        top = [node for node in module.tree.body if isinstance(node, ast.Assign)]
        for node in ast.walk(ast.Module(module.tree.body, [])):
            if isinstance(node, ast.Assign | ast.AugAssign | ast.For):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if node in module.tree.body or not isinstance(node, ast.Assign):
                    for target in targets:
                        if isinstance(target, ast.Name):
                            counts[target.id] = counts.get(target.id, 0) + 1
        for node in top:
            target = node.targets[0]
            if len(node.targets) == 1 and isinstance(target, ast.Name) and counts[target.id] == 1:
                value = self._constant(module, node.value)
                if value is not None:
                    module.constants[target.id] = value

    def _constant(self, module: Module, node: ast.expr) -> int | str | None:
        node = const_value(node)
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                return node.value if len(node.value) <= SHORT_TEXT else None
            if isinstance(node.value, int) and not isinstance(node.value, bool):
                return node.value if abs(node.value) <= SMALL_INT_MAX else None
            return None
        if isinstance(node, ast.Name):
            return module.constants.get(node.id)
        if isinstance(node, ast.UnaryOp | ast.BinOp):
            try:
                parts = [self._constant(module, part) for part in _operands(node)]
                if any(not isinstance(part, int) for part in parts):
                    return None
                made = _with_operands(node, [ast.Constant(part) for part in parts])
                value = eval(compile(ast.fix_missing_locations(ast.Expression(made)), "", "eval"), {})
            except (ArithmeticError, ValueError):
                return None
            return value if isinstance(value, int) and abs(value) <= SMALL_INT_MAX else None
        return None

    def _read_values(self, module: Module) -> None:
        """Modules that are handed about as objects, such as `Link(hal, ...)`."""
        aliases = {name: ref.module for name, ref in module.imports.items() if not ref.name}
        bases = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Name) and node.id in aliases and id(node) not in bases:
                module.used_as_value.add(aliases[node.id])

    def resolve(self, ref: Ref) -> Ref:
        """Follow a name to the module that defines it."""
        module = self.modules[ref.module]
        if ref.name in module.imports and module.imports[ref.name].name:
            return self.resolve(module.imports[ref.name])
        if ref.name not in module.defined:
            raise BuildError(f"{module.target}: defines no {ref.name}")
        return ref

    # ---- units

    def _divide(self, application: str) -> dict[str, str]:
        roots = {application} | ({LOADER_MODULE} & set(self.modules))
        for module in self.modules.values():
            roots |= module.lazy_imports | module.used_as_value
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Constant) and "." in str(node.value) and node.value in self.modules:
                    roots.add(str(node.value))  # lazy.forget("isonode.models")
        for tree in self.texts:
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom):
                    roots |= {ref.module for _, ref in self.own_import(node) or ()}
        units = {root: root for root in roots}
        self._claim(application, units)
        wanted: dict[str, set[str]] = {}
        for root in sorted(roots - {application}):
            for name in self._reached(root, units):
                wanted.setdefault(name, set()).add(root)
        for name, by in sorted(wanted.items()):
            # objects of its classes may outlive the module that is forgotten
            has_classes = any(isinstance(node, ast.ClassDef) for node in self.modules[name].tree.body)
            units[name] = name if has_classes or len(by) > 1 else next(iter(by))
        return units

    def _claim(self, root: str, units: dict[str, str]) -> None:
        for name in self._reached(root, units):
            units[name] = root

    def _reached(self, root: str, units: Mapping[str, str]) -> set[str]:
        """Modules that `root` imports at its start, directly or not, and that are in no unit yet."""
        found: set[str] = set()
        waiting = [root]
        while waiting:
            for ref in self.modules[waiting.pop()].imports.values():
                name = ref.module if not ref.name else self.resolve(ref).module
                for each in {name, ref.module}:
                    if each not in found and each not in units:
                        found.add(each)
                        waiting.append(each)
        return found

    def members(self, root: str) -> Iterator[Module]:
        """The modules of a unit, each behind those that it imports."""
        done: set[str] = set()

        def visit(name: str) -> Iterator[Module]:
            if name in done or self.unit_of.get(name) != root:
                return
            done.add(name)
            for ref in self.modules[name].imports.values():
                yield from visit(ref.module)
            yield self.modules[name]

        yield from visit(root)


def const_value(node: ast.expr) -> ast.expr:
    """What stands in `const(...)`, or the expression itself."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "const":
        return node.args[0]
    return node


def _operands(node: ast.UnaryOp | ast.BinOp) -> list[ast.expr]:
    return [node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right]


def _with_operands(node: ast.UnaryOp | ast.BinOp, parts: list[ast.Constant]) -> ast.expr:
    if isinstance(node, ast.UnaryOp):
        return ast.UnaryOp(node.op, parts[0])
    return ast.BinOp(parts[0], node.op, parts[1])


def _parse(target: str, text: str) -> ast.Module:
    try:
        return ast.parse(text, target)
    except SyntaxError as error:
        raise BuildError(f"{target}, line {error.lineno}: {error.msg}") from error
