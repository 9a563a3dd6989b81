"""Which names belong to a function, a class or a module. Follows Python's rules; knows nothing of linking."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Function = ast.FunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_SCOPES = (ast.FunctionDef, ast.Lambda, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Scope:
    """One scope inside a module: its own names, those it declares global, and whether it is a class body.

    renamed: what its names become, where that is not the same as everywhere.
    """

    names: set[str]
    declared_global: set[str] = field(default_factory=set)
    is_class: bool = False
    renamed: dict[str, str] = field(default_factory=dict)


def _nodes(statements: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes of one scope: what stands inside another scope is left out, the node that opens it is not."""
    waiting = list(statements)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _SCOPES):
            waiting.extend(ast.iter_child_nodes(node))


def bound_names(statements: Iterable[ast.AST]) -> set[str]:
    """Names that these statements bind in their own scope."""
    found: set[str] = set()
    for node in _nodes(statements):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler):
            found.add(node.name or "")
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
    return found - {""}


def function_scope(node: Function) -> Scope:
    """Arguments and variables of a function or lambda."""
    body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
    outer = {name for each in _nodes(body) if isinstance(each, ast.Global | ast.Nonlocal) for name in each.names}
    declared_global = {name for each in _nodes(body) if isinstance(each, ast.Global) for name in each.names}
    names = bound_names(body) - outer
    arguments = node.args
    for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        names.add(each.arg)
    for star in (arguments.vararg, arguments.kwarg):
        if star is not None:
            names.add(star.arg)
    return Scope(names, declared_global)


def comprehension_scope(node: Comprehension) -> Scope:
    """The loop variables of a comprehension."""
    return Scope(bound_names([generator.target for generator in node.generators]))


def class_scope(node: ast.ClassDef) -> Scope:
    """The attributes that a class body assigns."""
    return Scope(bound_names(node.body), is_class=True)
