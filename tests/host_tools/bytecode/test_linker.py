"""The linker: a linked program does what its sources do, with fewer names; what others give a meaning to stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from host_tools import compiling, places
from host_tools.bytecode import deploy, kept, names
from host_tools.bytecode.errors import BuildError
from host_tools.bytecode.linker import Linked, link
from host_tools.virtual.interpreter import find_micropython

MAIN = """
from node import app
app.main(7 + app.LIMIT_FOR_SCRIPTS)
"""
ROOT = Path(__file__).resolve().parents[3]
FIRMWARE = ROOT / "firmware"
UMQTT = ROOT / ".tools" / "umqtt"
LAZY = FIRMWARE / "isonode" / "lazy.py"
COLD = {
    "shed": ["node.shapes:Shape.grow", "node.shapes:Square.check", "node.app:Holder.__init__"],
    "loft": ["node.figures:tally_all", "node.figures:Adder", "node.app:Holder.total", "node.app:Holder._half"],
}
SOURCES = {
    "isonode/lazy.py": LAZY.read_text(),
    "node/__init__.py": 'VERSION = "1.2"\n',
    "node/errors.py": '''"""Errors."""
class NodeError(Exception):
    """Base."""
    def __init__(self, reason, detail_text=""):
        super().__init__(reason + detail_text)
        self.reason = reason
class Refused(NodeError):
    """One."""
''',
    "node/figures.py": '''"""Figures."""
from micropython import const
_STEP = const(3)
SPAN = 4 * 1024 + _STEP
BIG = 1 << 80
WORD = "short"
PHRASE = "a text of some length"
TABLE = ("zero", "one")
UNUSED_TABLE = ("nobody", "asks")
_count = 0
def tally(amount, scale_factor=2):
    """Add up."""
    global _count
    _count += amount * scale_factor
    return _count
def tallied():
    return _count
class Adder:
    def __init__(self):
        self.sum_so_far = 0
    def take(self, value):
        self.sum_so_far += value
def tally_all(values, start_at=0):
    adder = Adder()
    for value in values:
        adder.take(value)
    return adder.sum_so_far + start_at
def nobody_calls():
    return UNUSED_TABLE
''',
    "node/port.py": '''"""Handed about as a value."""
import time
LIMIT = 9
ticks_ms = getattr(time, "no_such_thing", None)
def resolve_name(host, port_number=0):
    return host + str(port_number)
''',
    "node/shapes.py": '''"""Classes."""
from node.errors import NodeError
from node.figures import SPAN, tally as add_up
_count = 5  # as in figures, and another thing
class Shape:
    """Base."""
    sides_known = 4
    def __init__(self, width, *rest, **options):
        self._width = width
        self._rest = rest
        self.options = options
        self.on_change = None
    @property
    def area(self):
        return self._width * SPAN + _count
    @staticmethod
    def helper(value):
        return value + Shape.sides_known
    def never_called(self):
        return 1
    def grow(self, by_how_much):
        change = by_how_much
        def apply(more):
            nonlocal change
            change += more
            return change
        def enlarge():
            return [apply(width) for width in range(3) if width]
        result = enlarge()
        if self.on_change is not None:
            self.on_change(change, scale=2)
        return result
class Square(Shape):
    """Derived: has private names like its base."""
    def __init__(self, width):
        super().__init__(width, 1, 2, colour="red")
        self._edge = width
    def check(self):
        try:
            raise NodeError("odd", detail_text=" one")
        except NodeError as error:
            return error.reason, self._edge, self._width, add_up(1, scale_factor=10), {n: v for n, v in enumerate("ab")}
''',
    "node/later.py": '''"""Loaded for a while."""
from node.errors import Refused
from node.shapes import Square
DEPTH = 12
class Parser:
    def parse(self, text):
        if not text:
            raise Refused("empty")
        return Square(len(text)).area
def parse_it(text):
    return Parser().parse(text)
''',
    "node/app.py": '''"""The application."""
from node import VERSION as SOFTWARE
from node import figures, port
from node.figures import BIG, PHRASE, WORD
from node.shapes import Shape, Square
state = None
LIMIT_FOR_SCRIPTS = 3
class Holder:
    def __init__(self, settings, hal):
        for name in ("alpha_field", "beta_field"):
            setattr(self, name, settings.get(name))
        self._hal = hal
    def total(self):
        return self.alpha_field + self.beta_field + self._hal.LIMIT + self._half(2)
    def _half(self, value):
        return value // 2 + figures.tally_all((1, 2), start_at=1)
    def changed(self, amount, scale):
        self.last_change = amount * scale
def main(start_value):
    """Entry."""
    global state
    state = Holder({"alpha_field": 1, "beta_field": start_value}, port)
    square = Square(start_value)
    square.on_change = state.changed
    print(SOFTWARE, WORD, PHRASE, BIG, figures.TABLE[1], figures.SPAN)
    print(state.total(), square.area, Shape.helper(2), square.grow(2), state.last_change, square.options["colour"])
    print(square.check(), sorted([3, 1], key=lambda item: -item), port.resolve_name("h", port_number=5), port.ticks_ms)
    from node import later
    print(later.parse_it("four"), later.DEPTH)
    try:
        later.parse_it("")
    except Exception as error:
        print(type(error).__name__, error)
    print("%s-%d" % tuple(part for part in ("x", figures.tally(0))))
''',
}


def linked(sources: dict[str, str] = SOURCES, cold: dict[str, list[str]] | None = None) -> Linked:
    words = kept.spare_words([])
    return link(sources, {"main.py": MAIN}, kept.kept_names([], []), cold, application="node.app", spare=words)


def run(folder: Path, files: dict[str, str]) -> str:
    """Its output on CPython."""
    for target, text in {**files, "main.py": MAIN, "micropython.py": "const = lambda value: value\n"}.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_text(text)
    done = subprocess.run([sys.executable, "main.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_linked_program_does_the_same(tmp_path: Path) -> None:
    assert run(tmp_path / "linked", dict(linked().files)) == run(tmp_path / "sources", SOURCES)


def test_modules_merge_and_lazy_ones_stay() -> None:
    assert sorted(linked().files) == ["node/app.py", "node/later.py", "node/port.py"]


def test_overlays_do_the_same_and_take_what_only_they_use(tmp_path: Path) -> None:
    whole = linked(cold=COLD)
    made = whole.files
    assert run(tmp_path / "linked", dict(made)) == run(tmp_path / "sources", SOURCES)
    assert {"cold/shed.py", "cold/loft.py"} <= set(made)
    assert "class" in made["cold/loft.py"] and made["node/app.py"].count("class ") == 5  # Adder went along
    half = next(name for name, long in whole.names.items() if long == "Holder._half").removeprefix("loft.")
    assert f"def {half}(" in made["cold/loft.py"]
    assert f"'cold.loft', '{half}'" not in made["node/app.py"]  # _half has no stub: only total calls it


def test_a_class_that_lost_several_methods_has_a_table_of_them_instead_of_stubs(tmp_path: Path) -> None:
    """Bound methods, defaults, bases and what is lacking are as before; what is called with keywords, or stands for a
    method of the base, keeps its stub."""
    desk = "class Desk:\n    def __init__(self):\n        self.drawers_open = 0\n"
    desk += "    def pull_out(self, count=2):\n        self.drawers_open += count\n        return self.tidy_up()\n"
    desk += "    def tidy_up(self):\n        return self.drawers_open * 10\n"
    desk += "    def push_in(self, count):\n        self.drawers_open -= count\n        return self.tidy_up()\n"
    desk += "    def paint_it(self, colour):\n        return colour + str(self.drawers_open)\n"
    low = "class LowDesk(Desk):\n" + "".join(
        f"    def {name}(self):\n        return {value}\n"
        for name, value in (("lie_on", 5), ("step_on", 6), ("sit_on", 7), ("pull_out", 8))
    )
    app = "LIMIT_FOR_SCRIPTS = 3\n" + desk + low + "def main(count):\n    desk = Desk()\n    later = desk.push_in\n"
    app += "    print(desk.pull_out(), desk.pull_out(count), later(1), desk.tidy_up(), desk.paint_it(colour='red'))\n"
    app += "    low = LowDesk()\n    print(low.lie_on(), low.step_on(), low.sit_on(), low.push_in(1), low.pull_out())\n"
    app += "    try:\n        desk.nothing_here\n    except AttributeError as error:\n        print('lacks it')\n"
    sources = {"isonode/lazy.py": LAZY.read_text(), "node/__init__.py": "", "node/app.py": app}
    cold = {
        "shed": [
            "node.app:Desk.pull_out",
            "node.app:Desk.paint_it",
            "node.app:LowDesk.step_on",
            "node.app:LowDesk.sit_on",
            "node.app:LowDesk.pull_out",
        ],
        "loft": ["node.app:Desk.push_in", "node.app:Desk.tidy_up", "node.app:LowDesk.lie_on"],
    }
    made = linked(sources, cold).files
    assert run(tmp_path / "linked", dict(made)) == run(tmp_path / "sources", sources)
    assert made["node/app.py"].count("def __getattr__(") == 2
    assert made["node/app.py"].count("'cold.") == 2 * 2 + 2  # two rows each, and the stubs of paint_it and pull_out


def test_a_module_of_its_own_that_lost_several_functions_has_a_table_of_them(tmp_path: Path) -> None:
    """For whoever reaches them as its attributes; what it calls itself keeps its stub."""
    port = "import time\n" + "".join(
        f"def {name}(first, second=2):\n    return first * second + {number}\n"
        for number, name in enumerate(("lift_it", "lower_it", "swing_it", "brake_it"))
    )
    port += "def stop_now(speed):\n    return brake_it(speed)\n"
    app = "from node import port\nLIMIT_FOR_SCRIPTS = 3\ndef use(crane):\n    return crane.lift_it(1, 5)\n"
    app += "def main(count):\n    later = port.lower_it\n    print(use(port), later(2), port.swing_it(3, 1))\n"
    app += "    print(port.stop_now(4), port.brake_it(5))\n"
    app += "    try:\n        port.nothing_here\n    except AttributeError as error:\n        print('lacks it')\n"
    sources = {"isonode/lazy.py": LAZY.read_text(), "node/__init__.py": "", "node/app.py": app, "node/port.py": port}
    cold = {"shed": ["node.port:lift_it", "node.port:lower_it", "node.port:brake_it"], "loft": ["node.port:swing_it"]}
    made = linked(sources, cold).files
    assert run(tmp_path / "linked", dict(made)) == run(tmp_path / "sources", sources)
    assert made["node/port.py"].count("def __getattr__(") == 1
    assert made["node/port.py"].count("'cold.") == 2 + 1


def test_what_only_overlays_and_passing_modules_use_is_theirs(tmp_path: Path) -> None:
    """A constant or a plain function in each of them; what may change stays in one place."""
    figures = SOURCES["node/figures.py"] + "from micropython import const\nMAGIC = b'four'\n_BIG = const(1 << 31)\n"
    figures += (
        "SEEN = {}\ndef spell(value):\n    SEEN[value] = 1\n    return MAGIC + bytes([value & 1]), _BIG, len(SEEN)\n"
    )
    later = SOURCES["node/later.py"] + "from node.figures import spell\ndef spell_it():\n    return spell(2)\n"
    app = "from node.figures import spell\nLIMIT_FOR_SCRIPTS = 3\ndef one(value):\n    return spell(value)\n"
    app += "def other(value):\n    return spell(value)\n"
    app += "def main(count):\n    from node import later\n    print(one(1), other(2), later.spell_it())\n"
    sources = {**SOURCES, "node/figures.py": figures, "node/later.py": later, "node/app.py": app}
    made = linked(sources, {"shed": ["node.app:one"], "loft": ["node.app:other"]}).files
    assert run(tmp_path / "linked", dict(made)) == run(tmp_path / "sources", sources)
    having = [target for target, text in sorted(made.items()) if "b'four'" in text]
    assert having == ["cold/loft.py", "cold/shed.py", "node/later.py"]
    assert [target for target, text in made.items() if "= {}" in text and "lazy" not in target] == ["node/app.py"]


def test_a_library_that_the_firmware_imports_is_linked_without_what_must_never_run(tmp_path: Path) -> None:
    """Where umqtt.simple lies in /lib, frozen or both makes no difference then: the image of the pinned one runs."""
    other = tmp_path / "other.py"
    other.write_text("import umqtt\n")
    found = {**compiling.sources(FIRMWARE), **compiling.sources(UMQTT, "lib"), "lib/other.py": other}
    made = deploy.linked(found, tmp_path, ["boot.py", "main.py"])
    assert [target for target in made if target.startswith("lib/")] == ["lib/other.py"]
    texts = {target: path.read_text() for target, path in made.items() if target.startswith(("isonode/", "cold/"))}
    whole = "\n".join(texts.values())
    assert "b'0\\x00\\x00\\x00'" in texts["cold/talk.py"]  # the parent's PUBLISH
    assert "setblocking(True)" not in whole and "usocket" not in texts["isonode/app.py"].replace("('socket'", "")
    assert "import umqtt" not in whole and "from umqtt" not in whole


def test_what_must_never_run_is_left_out_or_missed() -> None:
    before, after = (linked(cold=cold).files["node/app.py"] for cold in ({}, {"never": ["node.shapes:Shape.grow"]}))
    assert "nonlocal" in before and "nonlocal" not in after
    with pytest.raises(BuildError, match="defines no tally_all"):  # somebody calls it
        linked(cold={"never": ["node.figures:tally_all"]})
    with pytest.raises(BuildError, match=r"never: node.figures:Adder.give: there is no such function"):
        linked(cold={"never": ["node.figures:Adder.give"]})


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("node.nowhere:f", "there is no such module"),
        ("node.shapes:Circle.grow", "there is no such class"),
        ("node.shapes:Shape.shrink", "there is no such function"),
        ("node.shapes:Shape.helper", "decorators"),
        ("node.shapes:Square.__init__", "super"),
        ("node.figures:tally", "global"),
        ("node.figures:tallied", "an old value"),
    ],
)
def test_what_cannot_be_an_overlay_is_named(function: str, says: str) -> None:
    with pytest.raises(BuildError, match=says):
        linked(cold={"shed": [function]})


def test_a_function_is_in_one_overlay_once() -> None:
    name = "node.figures:tally"
    for cold in ({"shed": [name, name]}, {"shed": [name], "loft": [name]}):
        with pytest.raises(BuildError, match=r"node.figures:tally stands in shed and in (shed|loft): a function is in"):
            linked(cold=cold)


def test_what_nobody_uses_is_left_out_and_constants_stand_where_they_are_used() -> None:
    text = linked().files["node/app.py"]
    assert "nobody" not in text and "4099" in text and "never_called" not in linked().names.values()
    assert "Entry" not in text  # a docstring


def test_own_names_are_short_and_those_of_others_stay() -> None:
    made = linked()
    everything = "\n".join(made.files.values())
    assert "start_value" not in everything and "scale_factor" not in everything and "resolve_name" not in everything
    for stays in ("alpha_field", "Refused", "NodeError", "ticks_ms", "main"):
        assert stays in everything


def test_names_that_never_meet_share_a_short_one_and_others_do_not() -> None:
    """Two classes share; one class with its base does not, nor does what is set from outside."""
    shapes = "class Near:\n    def __init__(self):\n        self.first_own = self.second_own = 1\n"
    shapes += "class Nearer(Near):\n    def grown(self):\n        self.third_own = self.first_own + self.second_own\n"
    shapes += "class Far:\n    def __init__(self):\n        self.fourth_own = 5\n"
    app = "from node.figures import Far, Nearer\nLIMIT_FOR_SCRIPTS = 3\ndef main(count):\n    near = Nearer()\n"
    app += "    near.given_later = 2\n    near.grown()\n    far = Far()\n"
    app += "    print(near.first_own, near.third_own, near.given_later, far.fourth_own)\n"
    made = linked({**SOURCES, "node/figures.py": shapes, "node/app.py": app})
    short = {long: name for name, several in made.names.items() for long in several.split("/")}
    assert short["fourth_own"] in {short[name] for name in ("grown", "first_own", "second_own")}
    assert len({short[name] for name in ("first_own", "second_own", "third_own", "given_later")}) == 4
    assert short["given_later"] != short["fourth_own"]


def test_tracebacks_can_be_read_again() -> None:
    made = linked()
    short = {long: name for name, several in made.names.items() for long in several.split("/")}
    text = f"Traceback:\n  File \"node/app.py\", line 1, in {short['parse_it']}\nAttributeError: no '{short['grow']}'\n"
    back = names.from_text(names.to_text(made.names))
    assert "in parse_it\n" in names.readable(text, back) and "'grow'" in names.readable(text, back)
    back = {**back, "boot.frozenset": "wake_up", "frozenset": "Other.name"}
    frames = '  File "cold.boot", line 1, in frozenset\n  File "isonode.app", line 1, in frozenset\nValueError: x'
    said = names.readable(frames, back).splitlines()
    assert [line.rpartition(" ")[2] for line in said] == ["wake_up", "Other.name", "x"], "each file has its own"


@pytest.mark.parametrize(
    ("target", "text", "says"),
    [
        ("node/app.py", "def main(:\n", "node/app.py, line 1"),
        ("node/app.py", "from node.figures import NO_SUCH\ndef main(): return NO_SUCH\n", "defines no NO_SUCH"),
        ("node/app.py", "from node.nowhere import x\n", "there is no such module"),
        ("node/app.py", "import node.figures\n", "from package import module"),
    ],
)
def test_mistakes_are_named(target: str, text: str, says: str) -> None:
    with pytest.raises(BuildError, match=says):
        linked({**SOURCES, target: text})


def test_a_local_name_never_hides_a_linked_one(tmp_path: Path) -> None:
    """`keys` is a method of MicroPython's dict and keeps its form: here a function, there a local variable."""
    figures = SOURCES["node/figures.py"] + "def keys():\n    return 1\n"
    app = "from node.figures import keys as _keys\nLIMIT_FOR_SCRIPTS = 3\n"
    app += "def main(count):\n    keys = [2]\n    print(keys, _keys())\n"
    files = linked({**SOURCES, "node/figures.py": figures, "node/app.py": app}).files
    assert run(tmp_path, dict(files)) == "[2] 1\n"


@pytest.mark.micropython
def test_all_of_micropythons_names_are_kept() -> None:
    """Attributes of the interpreter's own types and modules: renaming one of them would break a call into C."""
    script = Path(__file__).with_name("interpreter_names.py")
    interpreter = find_micropython()
    done = subprocess.run(
        [*interpreter.command, "-X", "heapsize=2m", str(script)], capture_output=True, text=True, check=True
    )
    missing = set(done.stdout.split()) - kept.MICROPYTHON
    # what the linker never renames by its form: constants, exceptions, private names
    assert not {name for name in missing if not name.startswith("_") and not name.isupper() and "Error" not in name}


def test_the_firmware_links_and_its_flash_use_is_told() -> None:
    found = {**compiling.sources(FIRMWARE), **compiling.sources(UMQTT, "lib")}
    files = compiling.compiled_once(found, places.compiled_folder())
    assert "isonode/app.mpy" in files and "isonode/link.mpy" not in files and "main.py" in files
    sizes = {target: path.stat().st_size for target, path in files.items()}
    assert sum(sizes.values()) < deploy.flash_bytes(sizes) < 400_000
    assert f"about {deploy.flash_bytes(sizes) // 1024} KiB of flash" in deploy.flash_summary(files)
