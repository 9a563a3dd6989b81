"""SQL over the lake: what the views hold, what is refused, how it is printed; readers while files are merged away."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import pandas
import pytest

from host_tools.cli import run
from host_tools.cloud.store_read import CloudReader
from host_tools.cloud.windows import Window
from host_tools.history import from_store
from host_tools.lake import printing, query, tables
from host_tools.lake.errors import LakeError, QueryError
from host_tools.lake.query import Answer, ask
from host_tools.lake.reader import LakeReader, at_rest
from host_tools.lake.snapshot import Snapshot, commit, load
from host_tools.lake.storage import Storage, open_storage
from isocore.record import FAULT, HIGH_ON
from tests.support.lake import BARE, DAY_MS, NOON_UNIX_MS, batch, fill, reading, write

ROOT = Path(__file__).resolve().parents[3]


def window(revision: int, mean: int, start_s: int = NOON_UNIX_MS // 1000) -> Window:
    return Window(0, 0, 900, start_s, revision, mean - 1000, mean, mean + 1000, None, 1, 900_000, 0, 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    fill(
        folder,
        batch(1, reading(1), reading(2, value=-40_000), windows=(window(1, 4000),)),
        batch(2, reading(3, NOON_UNIX_MS - DAY_MS, kind=HIGH_ON, value=9001), reading(4, None)),
        batch(1, reading(1, kind=FAULT, value=2, channel=1), gateway="gw-2", device=BARE),
    )
    return folder


@pytest.fixture(scope="module")
def storage(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    opened = open_storage(str(tmp_path_factory.mktemp("lake") / "lake"))
    write(data, opened)
    fill(data, batch(3, windows=(window(2, 5000), window(1, 6000, NOON_UNIX_MS // 1000 + 900))))
    write(data, opened)
    return opened


def rows(storage: Storage, sql: str) -> list[tuple[object, ...]]:
    return ask(storage, sql).rows


def test_the_four_tables(storage: Storage) -> None:
    assert rows(storage, "SELECT device, seq, value FROM readings ORDER BY device, seq") == [
        ("bare-1", 1, 0.002),
        *[("fridge-1", 1, 4.001), ("fridge-1", 2, -40.0), ("fridge-1", 3, 9.001), ("fridge-1", 4, 4.004)],
    ]
    assert rows(storage, "SELECT seq, kind, day::text, gateway FROM alarms ORDER BY ALL") == [
        (1, "fault", "2026-01-01", "gw-2"),
        (3, "high_on", "2025-12-31", "gw-1"),
    ]
    # Of a window only the highest revision; the files keep each.
    assert rows(storage, "SELECT revision, mean, least, last FROM windows ORDER BY start") == [
        (2, 5.0, 4.0, None),
        (1, 6.0, 5.0, None),
    ]
    assert rows(storage, "SELECT count(*) FROM windows_files") == [(3,)]
    assert rows(storage, "SELECT device, class, name FROM devices ORDER BY ALL") == [
        ("bare-1", None, None),
        *[("fridge-1", "fridge", "humidity"), ("fridge-1", "fridge", "temperature")],
    ]
    assert rows(storage, "SELECT seq FROM readings WHERE time IS NULL") == [(4,)]


@pytest.mark.parametrize("sql", ["SUMMARIZE readings", "DESCRIBE windows", "SHOW TABLES", "EXPLAIN FROM readings"])
def test_what_people_ask_first(storage: Storage, sql: str) -> None:
    assert rows(storage, sql)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("", "no SQL was given"),
        ("SELECT 1; SELECT 2", "one question at a time"),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT nope FROM readings", 'Referenced column "nope" not found'),
        ("SELECT * FROM nope", "Table with name nope does not exist"),
        ("SELECT value FROM readings WHERE value = 'warm'", "Could not convert string 'warm'"),
        ("DROP VIEW readings", "DROP is no question"),
        ("CREATE TABLE x AS SELECT 1", "CREATE is no question"),
        ("INSERT INTO readings VALUES (1)", "INSERT is no question"),
        ("SET lock_configuration = false", "SET is no question"),
        ("PRAGMA database_list", "PRAGMA is no question"),
        ("COPY readings TO '{there}/out.csv'", "COPY is no question"),
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO '{there}/out.csv'", "file system operations are disabled"),
        ("ATTACH '{there}/out.db'", "ATTACH is no question"),
        ("INSTALL httpfs", "is no question"),
        ("SELECT * FROM read_csv('{there}/secret.csv')", "file system operations are disabled"),
        ("SELECT * FROM read_text('{there}/secret.csv')", "file system operations are disabled"),
        ("SELECT * FROM glob('{there}/*')", "file system operations are disabled"),
        ("SELECT * FROM '{there}/secret.csv'", "file system operations are disabled"),
        ("SELECT * FROM read_parquet('https://example.org/x.parquet')", "file system operations are disabled"),
        ("SELECT * FROM storage", "does not exist"),
    ],
)
def test_what_is_refused(storage: Storage, tmp_path: Path, sql: str, why: str) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n", encoding="utf-8")
    with pytest.raises(QueryError, match=re.escape(why)):
        ask(storage, sql.format(there=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_an_answer_that_needs_too_much_memory_is_refused(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "MEMORY", "20MB")
    with pytest.raises(QueryError, match="Out of Memory"):
        ask(storage, "SELECT max(length(x)) FROM (SELECT string_agg(range::text, ',') x FROM range(20000000))")


def test_an_answer_that_is_too_long_is_refused_not_cut(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "ROWS_MAX", 5)
    assert len(rows(storage, "FROM range(5)")) == 5
    with pytest.raises(QueryError, match="more than 5 rows: add a LIMIT"):
        ask(storage, "FROM range(6)")


def test_a_reader_starts_anew_when_a_file_was_merged_away(storage: Storage, tmp_path: Path) -> None:
    """What a merge does, between the reader's look at the snapshot and its look at the files."""
    mine = open_storage(str(tmp_path / "lake"))
    for path in storage.list():
        mine.put(path, storage.get(path))
    before = load(mine)
    assert before is not None
    asked: list[int] = []

    def merged(snapshot: Snapshot) -> int:
        asked.append(snapshot.number)
        if len(asked) == 1:
            moved = [file.path.replace(".parquet", "-moved.parquet") for file in before.files]
            files = [
                type(file)(**(vars(file) | {"path": path})) for file, path in zip(before.files, moved, strict=True)
            ]
            contents = {path: mine.get(file.path) for file, path in zip(before.files, moved, strict=True)}
            commit(mine, before, type(before)(**(vars(before) | {"files": tuple(files)})), contents)
        return int(query._ask(mine, snapshot, "SELECT count(*) FROM readings").rows[0][0])

    assert at_rest(mine, merged) == 5
    assert asked == [before.number, before.number + 1]
    mine.remove(next(path for path in mine.list("readings")))
    with pytest.raises(LakeError, match="a file of the lake is missing"):
        ask(mine, "SELECT sum(value) FROM readings")


def test_no_lake_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cloud", "query", "--lake", str(tmp_path / "nowhere"), "SELECT 1"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "there is no lake yet; `isotherm cloud lake write" in said


def test_other_engines_open_it_as_it_is(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    """DuckDB and pandas on their own, by pattern, by folder and by the list of files."""
    assert run(["cloud", "lake", "files", "--lake", storage.name]) == 0
    files = capsys.readouterr().out.split()
    assert len(files) == 3
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        pattern = f"{storage.name}/readings/*/*/*.parquet"
        for source in (f"'{pattern}'", f"read_parquet({files!r})"):
            found = db.sql(f"SELECT device, seq, day::text, gateway, time::text FROM {source} ORDER BY ALL").fetchall()
            assert len(found) == 5
            assert found[0] == ("bare-1", 1, "2026-01-01", "gw-2", "2026-01-01 12:00:01+00")
    frame = pandas.read_parquet(f"{storage.name}/readings")
    assert sorted(frame.columns) == sorted(tables.partitioned("readings").names)
    assert str(frame["time"].dtype) == "datetime64[us, UTC]"
    assert frame["value_milli"].sum() == 2 + 4001 - 40_000 + 9001 + 4004
    assert pandas.read_parquet(files).shape[0] == 5


def test_types_are_those_that_every_engine_reads() -> None:
    kinds = {str(field.type) for schema in tables.SCHEMAS.values() for field in schema}
    assert kinds == {"string", "int16", "int32", "int64", "bool", "timestamp[us, tz=UTC]"}


def test_the_page_lists_every_column() -> None:
    page = (ROOT / "docs" / "lake.md").read_text(encoding="utf-8")
    for name, schema in tables.SCHEMAS.items():
        assert f"`{name}`" in page
        for field in schema:
            row = next((line for line in page.splitlines() if line.startswith("|") and f"`{field.name}`" in line), "")
            assert row or name == tables.DEVICES, f"{name}: {field.name} is not in docs/lake.md"
            if name != tables.DEVICES and row.split("|")[3].strip():
                assert row.split("|")[3].strip() == ("yes" if field.nullable else "no"), (name, field.name)


# --- printing -------------------------------------------------------------------------------------------------------


def test_an_answer_is_printed_in_three_forms(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT device, seq, time, value FROM readings WHERE seq IN (1, 4) ORDER BY ALL"
    assert run(["cloud", "query", "--lake", storage.name, sql]) == 0
    assert capsys.readouterr().out == (
        "device    seq  time                  value\n"
        "--------  ---  --------------------  -----\n"
        "bare-1      1  2026-01-01T12:00:01Z  0.002\n"
        "fridge-1    1  2026-01-01T12:00:01Z  4.001\n"
        "fridge-1    4  null                  4.004\n"
        "(3 rows)\n"
    )
    assert run(["cloud", "query", "--lake", storage.name, "--format", "json", sql]) == 0
    assert json.loads(capsys.readouterr().out)[2] == {"device": "fridge-1", "seq": 4, "time": None, "value": 4.004}
    assert run(["cloud", "query", "--lake", storage.name, "--format", "csv", sql]) == 0
    assert capsys.readouterr().out.splitlines()[::3] == ["device,seq,time,value", "fridge-1,4,,4.004"]


def test_what_json_has_no_form_for() -> None:
    answer = Answer(["a", "b", "c", "d"], [], [(float("nan"), Decimal("1.5"), b"\x01", {"x": [Decimal(2), None]})])
    assert json.loads("".join(printing.as_json(answer)))[0] == {
        "a": None,
        "b": 1.5,
        "c": "b'\\x01'",
        "d": {"x": [2, None]},
    }
    assert list(printing.as_json(Answer(["a"], [], []))) == ["[]"]
    assert list(printing.table(Answer(["a"], [], []))) == ["a", "-", "(0 rows)"]
    assert list(printing.as_csv(Answer(["a"], [], [('say "x", y',)]))) == ["a", '"say ""x"", y"']


def test_status_says_what_there_is(storage: Storage, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cloud", "lake", "status", "--lake", storage.name, "--data", str(data)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"readings: 5 rows in 3 files, \d+ bytes, 2025-12-31 to 2026-01-01", said)
    assert "up to batch 4 of the store, 0 batches with 0 rows behind it" in said
    assert run(["cloud", "lake", "status", "--lake", storage.name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["position"], told["tables"]["windows"]["rows_written"]) == (4, 3)


def test_without_the_extra_its_name_is_said() -> None:
    """A module that is not there: None in sys.modules is how Python is told so."""
    script = (
        "import sys; sys.modules['pyarrow'] = None; sys.modules['duckdb'] = None; sys.modules['fsspec'] = None\n"
        "from host_tools.cli import run\n"
        "sys.exit(run(['cloud', 'query', '--lake', 'lake', 'SELECT 1']))"
    )
    path = f"{ROOT}:{ROOT / 'firmware'}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "make setup EXTRA=cloud, or pip install 'isotherm[host,cloud]'" in done.stderr
    assert "Traceback" not in done.stderr


# --- the trainer's view ---------------------------------------------------------------------------------------------


def test_the_trainer_reads_the_same_from_lake_and_store(storage: Storage, data: Path) -> None:
    with CloudReader(data) as store:
        lake = LakeReader(storage)
        assert lake.devices() == store.devices()
        for device in store.devices():
            for channel in (0, 1, 2):
                assert list(lake.channel_history(device.name, channel)) == list(
                    store.channel_history(device.name, channel)
                )
        assert from_store(lake) == from_store(store)
