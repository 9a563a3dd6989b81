"""One file of the image: a root module and the modules merged into it."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping
from dataclasses import dataclass

from host_tools.bytecode.names import Names
from host_tools.bytecode.program import Module, Program, Ref
from host_tools.bytecode.rewriter import Rewriter
from host_tools.bytecode.scopes import bound_names


@dataclass
class Statement:
    """A rewritten top-level statement, the module-level names it uses, and whether it stays."""

    node: ast.stmt
    refs: set[Ref]
    does_something: bool
    kept: bool = False


class Unit:
    """`claim_names` on all units first, then `rewrite`, then mark what stays, then `source`."""

    def __init__(self, program: Program, root: str, names: Names) -> None:
        self.root = root
        self.target = program.modules[root].target
        self.statements: list[Statement] = []
        self.defining: dict[Ref, list[Statement]] = {}
        self._program = program
        self._names = names
        self._members = list(program.members(root))
        self._bound: dict[Ref, str] = {}  # module-level name -> what this file calls it
        self._imported: dict[Ref, tuple[str, str]] = {}  # one of another file -> what that one and this one call it
        self._taken: set[str] = set()

    def claim_names(self) -> None:
        """Give each module-level name its own. The root's come first: others reach them as attributes."""
        for module in sorted(self._members, key=lambda member: member.name != self.root):
            shared = _foreign_imports(self._program, module)
            for name in sorted(module.defined):
                new = self._names.of(name)
                if new in self._taken and name not in shared:
                    new = self._names.fresh(name)
                self._taken.add(new)
                self._bound[Ref(module.name, name)] = new

    def bind(self, ref: Ref, units: Mapping[str, Unit]) -> str:
        """What this file calls a module-level name, or a module (name ""), of any unit."""
        if ref in self._bound:
            return self._bound[ref]
        if ref not in self._imported:
            leaf = ref.module.rpartition(".")[2]
            there = units[self._program.unit_of[ref.module]]._bound[ref] if ref.name else leaf
            here = self._names.fresh(ref.name or there) if there in self._taken else there
            self._taken.add(here)
            self._imported[ref] = (there, here)
        return self._imported[ref][1]

    def rewrite(self, units: Mapping[str, Unit]) -> None:
        """Rewrite all statements of the members."""
        for module in self._members:
            is_root = module.name == self.root
            for node in module.tree.body:
                if self._is_dropped(node, is_root):
                    continue
                rewriter = Rewriter(self._program, module, self._names, lambda ref: self.bind(ref, units))
                made = rewriter.visit(copy.deepcopy(node))
                stays = not _is_definition(node) or (is_root and not _is_private_constant(module, node))
                statement = Statement(made, rewriter.refs, stays)
                self.statements.append(statement)
                for name in bound_names([node]):
                    self.defining.setdefault(Ref(module.name, name), []).append(statement)

    def _is_dropped(self, node: ast.stmt, is_root: bool) -> bool:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return True  # a docstring
        if isinstance(node, ast.ImportFrom):
            is_const = node.module == "micropython" and [alias.name for alias in node.names] == ["const"]
            return is_const or self._program.own_import(node) is not None
        # what a module finds when asked is found here beforehand
        return isinstance(node, ast.FunctionDef) and node.name == "__getattr__" and not is_root

    def source(self) -> str:
        """The file's text, of what was marked as kept."""
        used = set().union(*(statement.refs for statement in self.statements if statement.kept))
        body: list[ast.stmt] = [self._import(ref) for ref in self._imported if ref in used]
        said: set[str] = set()
        for statement in self.statements:
            if not statement.kept:
                continue
            if isinstance(statement.node, ast.Import | ast.ImportFrom):
                text = ast.unparse(statement.node)
                if text in said:
                    continue
                said.add(text)
            body.append(statement.node)
        return ast.unparse(ast.fix_missing_locations(ast.Module(body, []))) + "\n"

    def _import(self, ref: Ref) -> ast.ImportFrom:
        there, here = self._imported[ref]
        source = self._program.unit_of[ref.module] if ref.name else ref.module.rpartition(".")[0]
        return ast.ImportFrom(source, [ast.alias(there, None if here == there else here)], 0)


def _is_definition(node: ast.stmt) -> bool:
    """True for what may be left out when nobody uses it."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
        return True
    return isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets)


def _is_private_constant(module: Module, node: ast.stmt) -> bool:
    """True for `_NAME = const(5)`, which stands wherever it is used."""
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    name = node.targets[0].id
    return name.startswith("_") and name in module.constants


def _foreign_imports(program: Program, module: Module) -> set[str]:
    """Names that a plain import from elsewhere binds: the same in all modules of a file."""
    return {
        alias.asname or alias.name
        for node in module.tree.body
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and program.own_import(node) is None)
        for alias in node.names
    }
