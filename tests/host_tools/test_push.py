"""`isotherm model push`, `rollback` and `status` over a real broker: canary, halt, resume, and what is remembered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools import cli, journal, rollout
from host_tools.demo.processes import free_port
from host_tools.keys import fleet as fleets
from host_tools.model_library import Library, payload_of
from host_tools.staging import Event
from isocore import model as iso_model
from tests.support.altered import altered
from tests.support.model_board import Board, BoardMaker, boards_at
from tests.support.mosquitto import Mosquitto
from tests.support.secure_broker import SecureBroker

pytestmark = pytest.mark.mosquitto
GOOD = ["trial", "committed"]


class Operator:
    """Someone with keys, a broker and a state folder, who runs commands."""

    def __init__(self, folder: Path, broker: Mosquitto, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.fleet = fleets.create(folder / "keys", "home", None)
        self.address = f"127.0.0.1:{broker.port}"
        self.state = folder / "state"
        self._capsys = capsys

    def container(self, target: str, sequence: int = 1, error_milli: int = 100) -> str:
        params: Any = iso_model.ChannelParams()
        params.error_milli = error_milli
        model = iso_model.Model("home", target, sequence, channels={"temperature": params})
        path = self.folder / f"{sequence}-{target.replace(':', '-').replace('*', 'all')}.model"
        path.write_bytes(self.fleet.model_key().sign(iso_model.to_payload(model)))
        return str(path)

    def run(self, *arguments: str, quick: bool = True) -> tuple[int, str, str]:
        """Exit code, output, error output. quick: no soaking, and silence after 3 s."""
        knobs = ["--soak-s", "0", "--timeout-s", "3"] if quick else []
        given = [*arguments, "--broker", self.address, "--state", str(self.state)]
        code = cli.run(["model", *given, *knobs])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def rollback(self, *arguments: str) -> tuple[int, str, str]:
        return self.run("rollback", "--dir", str(self.folder / "keys"), *arguments)

    def standing(self, output: str) -> dict[str, str]:
        return {name: board["state"] for name, board in json.loads(output)["boards"].items()}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


@pytest.fixture
def operator(tmp_path: Path, broker: Mosquitto, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(tmp_path, broker, capsys)


@pytest.fixture
def board(broker: Mosquitto) -> Iterator[BoardMaker]:
    with boards_at(broker.port) as make:
        yield make


def got(boards: list[Board]) -> list[str]:
    """Who was sent anything."""
    return sorted(made.device for made in boards if made.taken)


def test_canary_then_waves_then_all(operator: Operator, board: BoardMaker) -> None:
    boards = [board(f"b-{n}", GOOD) for n in range(8)]
    away = board("gone", [], online=False)
    code, out, _ = operator.run("push", operator.container("*"), "--wave", "3")
    assert code == 0, out
    assert "canary of 4 waves: 1 boards" in out and "wave 4 of 4 waves: 1 boards" in out
    assert out.splitlines()[-1] == "1 away, 8 committed"
    assert len(got(boards)) == 8
    assert away.taken, "retained for whoever is away"


def test_names_globs_and_classes(operator: Operator, board: BoardMaker) -> None:
    boards = [board("cold-1", GOOD), board("cold-2", GOOD), board("warm-1", GOOD, "room"), board("attic", GOOD, "room")]
    narrow, wide = operator.container("class:room"), operator.container("*")
    assert operator.run("push", wide, "--to", "cold-?")[0] == 0
    assert got(boards) == ["cold-1", "cold-2"]
    assert operator.run("push", wide, narrow, "--to", "class:room", "--to", "cold-1")[0] == 0
    assert got(boards) == ["attic", "cold-1", "cold-2", "warm-1"]
    assert boards[2].taken == [Path(narrow).read_bytes()], "the narrower target wins"
    code, _, err = operator.run("push", wide, "--to", "cold-*", "--to", "cellar-*")
    assert code == 2 and "'cellar-*'" in err
    code, _, err = operator.run("push", wide, "--to", "Bad Name")
    assert code == 2 and "is no device id, glob or class:NAME" in err


@pytest.mark.parametrize(
    ("answers", "options", "says"),
    [
        (["trial", "reverted"], {}, "halted: a-bad reverted"),
        (["refused"], {}, "halted: a-bad refused"),
        (["trial"], {}, "halted: a-bad said nothing final within 1 s"),
        ([], {}, "halted: a-bad said nothing final within 1 s"),
        (GOOD, {"alarms": 4}, "halted: a-bad raised 4 alarms"),
    ],
)
def test_a_bad_canary_halts_it(
    operator: Operator, board: BoardMaker, answers: list[str], options: dict[str, Any], says: str
) -> None:
    boards = [board("a-bad", answers, **options), *(board(f"b-{n}", GOOD) for n in range(5))]
    more = ["--timeout-s", "1", "--soak-s", "0.5"]
    code, out, err = operator.run("push", operator.container("*"), "--json", *more, quick=False)
    assert code == 1 and says in err
    assert got(boards) == ["a-bad"]
    standing = operator.standing(out)
    assert [name for name, state in standing.items() if state == "waiting"] == [f"b-{n}" for n in range(5)]


def test_some_failures_may_be_allowed(operator: Operator, board: BoardMaker) -> None:
    boards = [board(f"b-{n}", ["refused"] if n == 3 else GOOD) for n in range(6)]
    code, out, err = operator.run("push", operator.container("*"), "--failures-max", "1", "--json")
    assert code == 1 and "done, but" in err
    assert len(got(boards)) == 6 and operator.standing(out)["b-3"] == "refused"


def test_a_bad_model_is_taken_back_from_who_is_away(operator: Operator, board: BoardMaker, broker: Mosquitto) -> None:
    made = board("flaky", [])
    made.on_model = lambda: made.retain("status", b"offline")
    code, _, err = operator.run("push", operator.container("*"), "--timeout-s", "1", "--soak-s", "0", quick=False)
    assert code == 1 and "halted" in err
    assert made.withdrawn.wait(10), "what waited for it at the broker is gone"


def test_an_interrupted_rollout_goes_on_where_it_was(operator: Operator, board: BoardMaker) -> None:
    boards = [board(f"b-{n}", GOOD) for n in range(5)]
    slow = board("c-slow", ["trial"])
    container = operator.container("*")
    # The broker is lost while the last wave is under way: a journal as it is left by a kill at that moment.
    operator.address, real = f"127.0.0.1:{free_port()}", operator.address
    assert operator.run("push", container)[0] == 1
    operator.address = real
    with Mosquitto(operator.folder / "own") as own:
        operator.address = f"127.0.0.1:{own.port}"
        with boards_at(own.port) as make:
            here = [make(f"b-{n}", GOOD) for n in range(3)]
            here.append(make("c-slow", ["trial"]))
            here[-1].on_model = own.kill
            code, out, err = operator.run("push", container, "--wave", "1")
            assert code == 1 and "--resume" in err, (out, err)
            code, _, err = operator.run("push", container)
            assert code == 2 and "was interrupted" in err
            for made in here:
                made.close()
        own.start()
        with boards_at(own.port) as make:
            again = [make(f"b-{n}", GOOD) for n in range(3)]
            again.append(make("c-slow", GOOD))
            code, out, err = operator.run("push", "--resume")
            assert code == 0, err
            assert got(again) == ["c-slow"], "those that had committed are not sent to again"
            assert operator.run("push", "--resume")[0] == 2
    assert not slow.taken and not got(boards)


def test_another_rollout_may_be_begun_instead(operator: Operator, board: BoardMaker) -> None:
    board("b-1", GOOD)
    assert operator.run("push", operator.container("*"))[0] == 0
    book = journal.read(next((operator.state / "rollouts").iterdir()))
    book.path.write_bytes(b"".join(book.path.read_bytes().splitlines(keepends=True)[:-1]))
    assert operator.run("push", operator.container("*"))[0] == 2
    assert operator.run("push", operator.container("*"), "--anew")[0] == 0


def test_a_torn_last_line_was_never_done(operator: Operator, board: BoardMaker) -> None:
    board("b-1", GOOD)
    assert operator.run("push", operator.container("*"))[0] == 0
    path = next((operator.state / "rollouts").iterdir())
    events = journal.read(path).events
    path.write_bytes(path.read_bytes()[:-3])
    torn = journal.read(path)
    assert torn.events == events[:-1] and not torn.over
    torn.note(Event("done"))
    assert journal.read(path).events == events
    path.write_bytes(b"{}\n")
    with pytest.raises(Exception, match="line 1: is no journal"):
        journal.read(path)


def test_rollback_brings_the_former_back_signed_anew(operator: Operator, board: BoardMaker) -> None:
    made = board("b-1", GOOD)
    assert operator.rollback()[0] == 1, "nothing was pushed yet"
    for sequence in (1, 2, 3):
        assert operator.run("push", operator.container("*", sequence, 100 * sequence))[0] == 0
    code, out, err = operator.rollback()
    assert code == 0, err
    assert "sequence 4" in out
    assert [channel.error_milli for channel in channels(made)] == [100, 200, 300, 200]
    assert operator.rollback()[0] == 0, "once more goes one further back"
    assert [channel.error_milli for channel in channels(made)][-1] == 100
    assert sequences(made) == [1, 2, 3, 4, 5]
    code, _, err = operator.rollback()
    assert code == 1 and "none before it" in err
    assert operator.rollback("--model", rollout.container_id(made.taken[2]))[0] == 0
    assert channels(made)[-1].error_milli == 300 and sequences(made)[-1] == 6


def channels(made: Board) -> list[Any]:
    return [iso_model.parse(payload_of(container)).params("temperature") for container in made.taken]


def sequences(made: Board) -> list[int]:
    return [iso_model.parse(payload_of(container)).sequence for container in made.taken]


def test_rollback_asks_which_target_and_knows_damage(operator: Operator, board: BoardMaker) -> None:
    board("b-1", GOOD)
    for sequence in (1, 2):
        for target in ("*", "device:b-1"):
            assert operator.run("push", operator.container(target, sequence, sequence))[0] == 0
    code, _, err = operator.rollback()
    assert code == 2 and "--target: choose one of *, device:b-1" in err
    former = Library(operator.state / "models").former("home", "*")
    assert former is not None
    path = operator.state / "models" / f"{former.id}.model"
    path.write_bytes(altered(path.read_bytes()))
    code, _, err = operator.rollback("--target", "*")
    assert code == 2 and "is damaged" in err


def test_the_operators_identity_over_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secure = SecureBroker(tmp_path)
    identity = secure.admit("ops", "operator")
    secure.admit("b-1", "board")
    with secure, boards_at(secure.port, secure.tls("b-1")) as make:
        made = make("b-1", GOOD)
        model = iso_model.Model("home", "*", 1, channels={"temperature": iso_model.ChannelParams()})
        path = tmp_path / "a.model"
        path.write_bytes(secure.fleet.model_key().sign(iso_model.to_payload(model)))
        where = ["--broker", f"127.0.0.1:{secure.port}", "--identity", str(identity)]
        knobs = ["--soak-s", "0", "--timeout-s", "20", "--state", str(tmp_path / "state")]
        assert cli.run(["model", "push", str(path), *where, *knobs]) == 0, capsys.readouterr()
        assert made.taken == [path.read_bytes()]
        assert cli.run(["model", "status", *where]) == 0
        assert "b-1: online, committed" in capsys.readouterr().out


def test_plaintext_only_to_this_machine(operator: Operator) -> None:
    operator.address = "pi.example"
    code, _, err = operator.run("push", operator.container("*"))
    assert code == 2 and "--identity: is needed for pi.example" in err


def test_push_refusals(operator: Operator, tmp_path: Path) -> None:
    code, _, err = operator.run("push", operator.container("*"))
    assert code == 1 and "no board known" in err
    unsigned = tmp_path / "m.json"
    unsigned.write_bytes(b'{"v":1,"fleet":"f","target":"*","sequence":1,"channels":{"t":{}}}')
    code, _, err = operator.run("push", str(unsigned))
    assert code == 2 and "is not signed" in err
    assert operator.run("push")[0] == 2
    assert operator.run("push", operator.container("*"), "--canary", "0")[0] == 2


def test_status_lists_every_board(operator: Operator, board: BoardMaker, capsys: pytest.CaptureFixture[str]) -> None:
    board("cold", GOOD)
    assert operator.run("push", operator.container("*"))[0] == 0
    assert cli.run(["model", "status", "--broker", operator.address]) == 0
    assert "cold: online, committed, sequence 1" in capsys.readouterr().out
    assert cli.run(["model", "status", "--broker", operator.address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cold"]["state"] == "committed"
