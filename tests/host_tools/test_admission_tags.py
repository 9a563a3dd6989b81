"""A board that tags is given its key as a file of its own, and its configuration only the file's name."""

from __future__ import annotations

import json
from pathlib import Path

from host_tools import admission
from host_tools.keys import fleet as fleets
from isonode import config as board_config
from tests.firmware.test_config import GOOD


def test_a_board_that_tags_is_given_its_key(tmp_path: Path) -> None:
    fleet = fleets.create(tmp_path / "keys", "home", None)
    plain = {name: value for name, value in GOOD.items() if name != "model_keys"}
    assert not admission.tags(plain) and "reading_key" not in admission.board_config(plain, fleet)
    asked = {**plain, "reading_key": "/somewhere"}
    given = fleet.admit("fridge-1", "board", tagged=admission.tags(asked))
    files = admission.board_files(given)
    made = admission.board_config(asked, fleet)
    assert files[made["reading_key"]] == given.reading_key
    assert given.reading_key is not None and given.reading_key.hex() not in json.dumps(made)
    assert board_config.parse(made).config_error is not None  # there is no such file on this machine
    assert admission.READING_KEY not in admission.board_files(fleet.admit("fridge-2", "board"))
