"""Which names meet, so that those that never do may share one short name.

Two names meet when one object, one file or one function may hold both: attributes of one class (with the classes that
it inherits from and those that inherit from it), names of one file, arguments and what a function reads from its file.
An attribute that is set from outside its class may belong to any object, and so meets all attributes. This proves more
than it needs: no type of any expression has to be known, because a name keeps one replacement in the whole firmware.
What the proof rests on: the firmware never asks whether one of its own objects has an attribute (strings are kept).

Must not know short names.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from host_tools.bytecode.scopes import bound_names

ANY = "*"


@dataclass
class Meetings:
    """attributes: name -> classes (ANY: all) that it is an attribute of; files: name -> files that define it; keywords:
    arguments that calls name, which meet the names of all files; mentions: name -> how often it is said.
    """

    attributes: dict[str, set[str]] = field(default_factory=dict)
    files: dict[str, set[str]] = field(default_factory=dict)
    keywords: set[str] = field(default_factory=set)
    mentions: Counter[str] = field(default_factory=Counter)


def meetings(trees: Mapping[str, list[ast.Module]], methods: Mapping[str, list[ast.FunctionDef]]) -> Meetings:
    """trees: file -> its modules; methods: class -> those that were taken out of it, "": functions taken out."""
    found = Meetings()
    modules = [(file, tree) for file, several in trees.items() for tree in several]
    for file, tree in modules:
        names = bound_names(tree.body).union(*(n.names for n in ast.walk(tree) if isinstance(n, ast.Global)))
        for name in names:
            found.files.setdefault(name, set()).add(file)
    for function in methods.get("", ()):  # some module has it still, in a table if not by a stub
        found.files.setdefault(function.name, set()).add(ANY)
    taken = [node for several in methods.values() for node in several]
    inside = _read_classes(found, [tree for _, tree in modules], methods)
    for root in (*(tree for _, tree in modules), *taken):
        for node in ast.walk(root):
            _count(found, node)
            if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load) and id(node) not in inside:
                found.attributes.setdefault(node.attr, set()).add(ANY)
    return found


def _count(found: Meetings, node: ast.AST) -> None:
    if isinstance(node, ast.Attribute):
        found.mentions[node.attr] += 1
    elif isinstance(node, ast.Name):
        found.mentions[node.id] += 1
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
        found.mentions[node.name] += 1
    elif isinstance(node, ast.arg):
        found.mentions[node.arg] += 1
    elif isinstance(node, ast.keyword) and node.arg:
        found.keywords.add(node.arg)


def _read_classes(found: Meetings, trees: list[ast.Module], methods: Mapping[str, list[ast.FunctionDef]]) -> set[int]:
    """Fill `found.attributes` with what classes bind and say of `self`; returns the ids of the nodes that do."""
    bodies: dict[str, list[ast.stmt]] = {name: list(several) for name, several in methods.items() if name}
    parents: dict[str, str] = {}
    for each in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        bodies.setdefault(each.name, []).extend(each.body)
        for base in each.bases:
            parents[_family(parents, each.name)] = _family(parents, ast.unparse(base).rpartition(".")[2])
    inside: set[int] = set()
    for name, body in bodies.items():
        family = _family(parents, name)
        for attribute in bound_names(body):
            found.attributes.setdefault(attribute, set()).add(family)
        for function in body:
            first = function.args.args[:1] if isinstance(function, ast.FunctionDef) else []
            for node in ast.walk(function):
                if not (first and isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                    continue
                if node.value.id == first[0].arg:
                    inside.add(id(node))
                    found.attributes.setdefault(node.attr, set()).add(family)
    return inside


def _family(parents: Mapping[str, str], name: str) -> str:
    while parents.get(name, name) != name:
        name = parents[name]
    return name
