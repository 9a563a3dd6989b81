"""From boards' filters through a real receiver into a lake, and from the lake to a signed model: the whole way."""

from __future__ import annotations

from array import array
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from host_tools import cli, ordinary
from host_tools.commands.push import assign
from host_tools.errors import ModelFileError
from host_tools.history import Run
from host_tools.rollout import FleetView
from isocore import model as iso_model
from isocore.filter import ChannelFilter
from isocore.model import ChannelParams
from tests.support import uplink
from tests.support.uplink import ReceiverProcess

Record = tuple[int, int, int]  # uptime_ms, kind, value


def records(run: Run) -> list[Record]:
    """What a board without a model sends of these samples: its own filter."""
    channel = ChannelFilter(ChannelParams())
    found = []
    for t_ms, value in zip(run.t_ms, run.value, strict=True):
        for i in range(channel.step(t_ms // 1000, t_ms % 1000, value)):
            found.append((t_ms, channel.kinds[i], channel.values[i]))
    return found


def batch(number: int, device: str, first_seq: int, sent: list[Record]) -> bytes:
    """The uplink's batch of these records (docs/uplink.md)."""
    seqs = list(range(first_seq, first_seq + len(sent)))
    uptimes, kinds, values = (list(column) for column in zip(*sent, strict=True))
    steps = [b - a for a, b in pairwise(uptimes)]
    return uplink.pack(
        uplink.document(
            number,
            seqs,
            device,
            uptime_ms=[uptimes[0], *steps[:1], *(b - a for a, b in pairwise(steps))],
            kind=kinds,
            value=[values[0], *(b - a for a, b in pairwise(values))],
        )
    )


def test_a_lake_that_a_receiver_filled_trains_proposes_and_is_signed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, out, keys = str(tmp_path / "lake"), tmp_path / "proposals", str(tmp_path / "keys")
    boards = {f"fridge-{seed}": ordinary.year("fridge", seed, 2).runs[0] for seed in (61, 62)}
    cut = ordinary.DAY_S * 1000
    sent = {name: records(run) for name, run in boards.items()}
    # On the second day one fridge stands 6 degrees warmer for good: what is learnt then differs.
    warm = boards["fridge-61"]
    changed = array("i", (v + 6000 * (t >= cut) for t, v in zip(warm.t_ms, warm.value, strict=True)))
    sent["fridge-61"] = records(replace(warm, value=changed))
    train = ["model", "train", "--fleet", "home", "--target", "class:fridge", "--sequence", "5"]
    rounds = [*train, "--lake", lake, "--every", "day", "--rounds", "1", "--out", str(out)]
    number = 0
    with ReceiverProcess(tmp_path) as receiver:
        receiver.start()
        write = ["cloud", "lake", "write", "--data", str(receiver.data), "--lake", lake]
        for early in (True, False):
            for name, all_sent in sent.items():
                part = [record for record in all_sent if (record[0] < cut) == early]
                number += 1
                first_seq = 1 if early else 1 + sum(record[0] < cut for record in all_sent)
                status, answer = receiver.post(number, batch(number, name, first_seq, part))
                assert status == 200, answer
            assert cli.run(write) == 0
            if early:
                assert cli.run(rounds) == 0
                assert cli.run(rounds) == 0
                assert "class:fridge: nothing new; sequence 5 stands" in capsys.readouterr().out
        assert cli.run(rounds) == 0
        assert receiver.stop() == 0
    assert sorted(path.name for path in out.iterdir()) == [
        f"class-fridge-{sequence}.{suffix}" for sequence in (5, 6) for suffix in ("json", "txt")
    ]
    before, after = (iso_model.parse((out / f"class-fridge-{n}.json").read_bytes()) for n in (5, 6))
    assert after.params("temperature").high_on_milli > before.params("temperature").high_on_milli
    assert before.params("temperature").heartbeat_s == 1800  # five minutes' sampling; two missed within 7500 s
    text = (out / "class-fridge-6.txt").read_text()
    assert "high alarm at or above" in text
    assert "2 board(s)" in text

    # The same rows from the receiver's own store give the same bytes.
    lone = [*train[:-1], "6", "--out", f"{tmp_path}/again.json"]
    for source in (["--lake", lake], ["--store", str(receiver.data)]):
        assert cli.run([*lone, *source]) == 0
        assert (tmp_path / "again.json").read_bytes() == (out / "class-fridge-6.json").read_bytes()

    # Nothing runs it before it is signed.
    proposal, container = f"{out}/class-fridge-6.json", f"{tmp_path}/fridge.model"
    assert cli.run(["keys", "init", "--dir", keys, "--no-passphrase"]) == 0
    assert cli.run(["model", "verify", proposal, "--key", keys]) == 2
    with pytest.raises(ModelFileError, match="is not signed"):
        assign([Path(proposal)], [], FleetView(), "the broker")
    capsys.readouterr()
    assert cli.run(["model", "sign", proposal, "--key", keys, "--out", container]) == 0
    assert cli.run(["model", "verify", container, "--key", keys]) == 0
    assert "good signature; class:fridge, sequence 6" in capsys.readouterr().out
