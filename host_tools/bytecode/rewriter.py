"""Rewrites one top-level statement: short names, constants in place, imports resolved. Decides nothing about units."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from host_tools.bytecode import overlays
from host_tools.bytecode.errors import BuildError
from host_tools.bytecode.names import Names
from host_tools.bytecode.program import Module, Program, Ref
from host_tools.bytecode.scopes import Comprehension, Scope, class_scope, comprehension_scope, function_scope


class Rewriter(ast.NodeTransformer):
    """`refs` holds, afterwards, every module-level name that the statement uses or defines."""

    def __init__(self, program: Program, module: Module, names: Names, bind: Callable[[Ref], str]) -> None:
        """bind: what the file under construction calls a module-level name, or a module (name "")."""
        self.refs: set[Ref] = set()
        self._program = program
        self._module = module
        self._names = names
        self._bind = bind
        self._scopes: list[Scope] = []

    # ---- names

    def _local(self, name: str) -> str | None:
        """What a name of a function, a class body or a comprehension becomes; None when it is none of theirs."""
        for depth, scope in enumerate(reversed(self._scopes)):
            if name in scope.declared_global:
                return None
            if name in scope.names and (not scope.is_class or depth == 0):
                return scope.renamed.get(name) or self._names.of(name)
        return None

    def _global(self, ref: Ref) -> ast.expr:
        """A module-level name: its constant, or the name that stands for it here."""
        ref = self._program.resolve(ref)
        constants = self._program.modules[ref.module].constants
        if ref.name in constants:
            return ast.Constant(constants[ref.name])
        self.refs.add(ref)
        bound = self._bind(ref)
        for scope in self._scopes:
            hidden = {scope.renamed.get(name) or self._names.of(name) for name in scope.names}
            if bound in hidden and not scope.is_class:
                raise BuildError(f"{self._module.target}: a local name would hide {ref.name} of {ref.module}")
        return ast.Name(bound, ast.Load())

    def _module_object(self, name: str) -> ast.expr:
        ref = Ref(name, "")
        self.refs.add(ref)
        return ast.Name(self._bind(ref), ast.Load())

    def _own_name(self, name: str) -> str:
        """A name that this module binds at its top level, or that a function declares global."""
        ref = Ref(self._module.name, name)
        self.refs.add(ref)
        return self._bind(ref)

    def _stored(self, name: str) -> str:
        """What a name that is bound here becomes."""
        return self._local(name) or self._own_name(name)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        made = overlays.meant(node.id)
        if made is not None:
            self.refs.add(made)
            return ast.Name(self._bind(made), ast.Load())
        local = self._local(node.id)
        if local is not None:
            return ast.Name(local, node.ctx)
        if not isinstance(node.ctx, ast.Load):
            return ast.Name(self._own_name(node.id), node.ctx)
        if node.id in self._module.imports:
            ref = self._module.imports[node.id]
            return self._global(ref) if ref.name else self._module_object(ref.module)
        if node.id in self._module.defined:
            return self._global(Ref(self._module.name, node.id))
        return node  # a builtin

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        name = overlays.named(node.value)
        return node if name is None else ast.Constant(self._names.of(name))

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        base = node.value
        if isinstance(base, ast.Name) and base.id in self._module.imports and self._local(base.id) is None:
            ref = self._module.imports[base.id]
            constants = {} if ref.name else self._program.modules[ref.module].constants
            if not ref.name and (node.attr in constants or self._program.unit_of[ref.module] != ref.module):
                return self._global(Ref(ref.module, node.attr))  # a constant, or the module is merged into some file
        return ast.Attribute(self.visit(base), self._names.of(node.attr), node.ctx)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name) and node.func.id == "const":
            return self.visit(node.args[0])  # type: ignore[no-any-return]
        self.generic_visit(node)
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.keyword:
        name = None if node.arg is None else self._names.of(node.arg)
        return ast.keyword(name, self.visit(node.value))

    def visit_Global(self, node: ast.Global) -> ast.Global:
        return ast.Global([self._own_name(name) for name in node.names])

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.Nonlocal:
        return ast.Nonlocal([self._local(name) or name for name in node.names])

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        name = None if node.name is None else self._stored(node.name)
        kind = None if node.type is None else self.visit(node.type)
        return ast.ExceptHandler(kind, name, [self.visit(each) for each in node.body])

    # ---- scopes

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        moved = overlays.meant(node.name)
        name = self._stored(node.name) if moved is None else self._bind(moved)
        decorators = [self.visit(each) for each in node.decorator_list]
        scope = self._renamed(function_scope(node))
        arguments = self._arguments(node.args, scope)
        self._scopes.append(scope)
        body = [self.visit(each) for each in node.body]
        self._scopes.pop()
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:] or [ast.Pass()]  # the docstring
        made: Any = ast.FunctionDef(name, arguments, body, decorators)
        made.type_params = []
        return made  # type: ignore[no-any-return]

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        scope = self._renamed(function_scope(node))
        arguments = self._arguments(node.args, scope)
        self._scopes.append(scope)
        body = self.visit(node.body)
        self._scopes.pop()
        return ast.Lambda(arguments, body)

    def _arguments(self, node: ast.arguments, scope: Scope) -> ast.arguments:
        def new(each: ast.arg) -> ast.arg:
            return ast.arg(scope.renamed.get(each.arg) or self._names.of(each.arg))

        def renamed(each: ast.arg | None) -> ast.arg | None:
            return None if each is None else new(each)

        def all_renamed(several: list[ast.arg]) -> list[ast.arg]:
            return [new(each) for each in several]

        return ast.arguments(
            posonlyargs=all_renamed(node.posonlyargs),
            args=all_renamed(node.args),
            vararg=renamed(node.vararg),
            kwonlyargs=all_renamed(node.kwonlyargs),
            kw_defaults=[None if each is None else self.visit(each) for each in node.kw_defaults],
            kwarg=renamed(node.kwarg),
            defaults=[self.visit(each) for each in node.defaults],
        )

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        name = self._stored(node.name)
        bases = [self.visit(each) for each in node.bases]
        self._scopes.append(class_scope(node))
        body = [self.visit(each) for each in node.body]
        self._scopes.pop()
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:] or [ast.Pass()]
        if isinstance(body[0], ast.Pass):
            body = []
        # two entries of a class that nobody asks for: methods take their places
        body.insert(0, ast.Delete([ast.Name(each, ast.Del()) for each in ("__module__", "__qualname__")]))
        made: Any = ast.ClassDef(name, bases, [], body, [])
        made.type_params = []
        return made  # type: ignore[no-any-return]

    def _renamed(self, scope: Scope) -> Scope:
        scope.renamed = self._names.for_locals(scope.names, sum(len(outer.renamed) for outer in self._scopes))
        return scope

    def _comprehension(self, node: Comprehension) -> ast.expr:
        # The first iterable belongs to the scope outside; a loop variable of the same name would be bad style anyway.
        self._scopes.append(self._renamed(comprehension_scope(node)))
        self.generic_visit(node)
        self._scopes.pop()
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    # ---- imports

    def visit_Import(self, node: ast.Import) -> ast.Import:
        return ast.Import([self._alias(alias) for alias in node.names])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | list[ast.ImportFrom]:
        own = self._program.own_import(node)
        if own is None:
            return ast.ImportFrom(node.module, [self._alias(alias) for alias in node.names], node.level)
        made = []
        for local, ref in own:  # inside a function: the modules stand alone, and names are reached as attributes
            self.refs.add(ref)
            package, leaf = (ref.module.rpartition(".")[0], ref.module.rpartition(".")[2])
            source, name = (ref.module, self._names.of(ref.name)) if ref.name else (package, leaf)
            new = self._stored(local)
            made.append(ast.ImportFrom(source, [ast.alias(name, None if new == name else new)], 0))
        return made if len(made) > 1 else made[0]

    def _alias(self, alias: ast.alias) -> ast.alias:
        local = alias.asname or alias.name
        if "." in alias.name and alias.asname is None:
            return alias
        new = self._stored(local)
        return ast.alias(alias.name, None if new == alias.name else new)
