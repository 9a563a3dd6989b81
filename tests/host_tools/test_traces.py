"""The trace reader: what it takes, and the sentence for each thing it refuses."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from host_tools.convert import convert
from host_tools.errors import TraceError
from host_tools.sensing import DHT22, DS18B20
from host_tools.traces import load_traces, slug
from isocore.topics import is_device_id

HEADER = "t_s,board,temperature_c,humidity_pct,label\n"


def written(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_plain_trace(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "10,a,21.5,40.25,0\n70.5,a,-0.001,41,1\n")
    (trace,) = load_traces([path]).values()
    assert (trace.board, list(trace.t_ms), trace.start_s) == ("a", [0, 60500], 10.0)
    assert list(trace.temp_milli) == [21500, -1]
    assert list(trace.humidity_milli) == [40250, 41000]
    assert list(trace.labels) == [0, 1]
    assert trace.sensing.temperature == DHT22
    out = io.StringIO()
    assert trace.write_rows(out, lead_ms=5000) == 2
    assert out.getvalue() == "5000,21500,40250,\n65500,-1,41000,\n"


def test_what_is_allowed(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbf\r\n"board", t_s ,temperature_c\r\n\r\n"x",0,"1e1"\r\n,,\r\n"y",0,+2.\r\n"x",1.0,.5\r\n\r\n'
    traces = load_traces([written(tmp_path, text)])
    assert {name: list(trace.temp_milli) for name, trace in traces.items()} == {"x": [10000, 500], "y": [2000]}
    assert traces["x"].sensing.temperature == DS18B20
    assert not traces["x"].sensing.humidity


def test_a_folder_is_its_csv_files_and_a_board_may_go_on_in_the_next(tmp_path: Path) -> None:
    written(tmp_path, "t_s,board,temperature_c\n60,a,2\n", "2.csv")
    written(tmp_path, "t_s,board,temperature_c\n0,a,1\n0,b,1\n", "1.CSV")
    written(tmp_path, "not a trace", "notes.txt")
    traces = load_traces([tmp_path])
    assert {name: list(trace.t_ms) for name, trace in traces.items()} == {"a": [0, 60000], "b": [0]}


def test_sensors_follow_the_range(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "0,hot,81,10,\n0,cold,-41,10,\n0,mild,80,10,\n")
    kinds = {name: (t.sensing.temperature, t.sensing.humidity) for name, t in load_traces([path]).items()}
    assert kinds == {"hot": (DS18B20, True), "cold": (DS18B20, True), "mild": (DHT22, True)}


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("", 0, "", "is empty"),
        ("\n \n", 0, "", "is empty"),
        (HEADER, 0, "", "no rows"),
        (HEADER + "\n\n", 0, "", "no rows"),
        ("t_s,board,temperature_c,presure\n", 1, "presure", "unknown column"),
        ("t_s;board;temperature_c\n", 1, "t_s;board;temperature_c", "unknown column"),
        ("t_s,board\n0,a\n", 1, "temperature_c", "is missing"),
        ("t_s,t_s,board,temperature_c\n", 1, "t_s", "twice"),
        ("timestamp,value\n2013-07-04 00:00:00,69.9\n", 1, "", "isotherm traces convert"),
        (HEADER + "0,a,20,50\n", 2, "", "4 fields"),
        (HEADER + "0,a,20,50,0,9\n", 2, "", "6 fields"),
        (HEADER + "0,a,warm,50,0\n", 2, "temperature_c", "'warm' is not a finite number"),
        (HEADER + "0,a,,50,0\n", 2, "temperature_c", "a blank is not"),
        (HEADER + "0,a,nan,50,0\n", 2, "temperature_c", "finite"),
        (HEADER + "0,a,-Infinity,50,0\n", 2, "temperature_c", "finite"),
        (HEADER + "0,a,1_0,50,0\n", 2, "temperature_c", "finite"),
        (HEADER + "0,a,0x10,50,0\n", 2, "temperature_c", "finite"),
        (HEADER + "0,a,1e999,50,0\n", 2, "temperature_c", "outside"),
        (HEADER + "nan,a,20,50,0\n", 2, "t_s", "finite"),
        (HEADER + "1e300,a,20,50,0\n", 2, "t_s", "no time"),
        (HEADER + "0,a,20,50,0\n\n60,a,20,50,0\n59,a,20,50,0\n", 5, "t_s", "backwards by 1 s for board 'a'"),
        (HEADER + "5,a,20,50,0\n4,a,20,50,0\n", 3, "t_s", "backwards"),
        (HEADER + "5,a,20,50,0\n5,a,20,50,0\n", 3, "t_s", "same time twice"),
        (HEADER + "5,a,20,50,0\n5.9,a,20,50,0\n", 3, "t_s", "at least 1 s"),
        (HEADER + "0,,20,50,0\n", 2, "board", "names no board"),
        (HEADER + "0,a,20,100.1,0\n", 2, "humidity_pct", "outside 0 to 100"),
        (HEADER + "0,a,20,-1,0\n", 2, "humidity_pct", "outside 0 to 100"),
        (HEADER + "0,a,20,50,0\n60,a,20,,0\n", 3, "humidity_pct", "lacks a humidity here"),
        (HEADER + "0,a,20,,0\n60,a,20,50,0\n", 3, "humidity_pct", "has a humidity here"),
        (HEADER + "0,a,125.1,,0\n", 2, "temperature_c", "-55 to 125"),
        (HEADER + "0,a,-56,,0\n", 2, "temperature_c", "-55 to 125"),
        (HEADER + '0,"a,20,50,0\n1,b,2,3,0\n', 3, "", "well-formed"),
        (b"t_s,board,temperature_c\n0,\xff,20\n", 0, "", "UTF-8"),
        (b"\x00\x01\x02\x03", 0, "", ""),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str | bytes, line: int, column: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        load_traces([path])
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)
    assert caught.value.line == line or text == b"\x00\x01\x02\x03"
    assert caught.value.column == column or text == b"\x00\x01\x02\x03"


def test_refused_places(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        load_traces([tmp_path / "nowhere.csv"])
    with pytest.raises(TraceError, match=r"holds no \*\.csv$"):
        load_traces([tmp_path])
    with pytest.raises(TraceError, match="no trace given"):
        load_traces([])
    (tmp_path / "set").mkdir()
    written(tmp_path / "set", "timestamp,value\n", "raw.csv")
    with pytest.raises(TraceError, match="isotherm traces convert"):
        load_traces([tmp_path])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fridge-1", "fridge-1"),
        ("Küche  Süd!", "kuche-sud"),
        ("../../etc", "etc"),
        ("#", "board-334359b9"),
        ("ambient_temperature_system_failure", "ambient-temperature-system"),
        ("x" * 40, "x" * 32),
    ],
)
def test_slug(name: str, expected: str) -> None:
    assert slug(name) == expected
    assert is_device_id(expected)


def test_two_names_never_share_a_board(tmp_path: Path) -> None:
    rows = "".join(f"0,{name},20,50,0\n" for name in ("room-1", "ROOM_1", "room-1-2", "Room 1"))
    path = written(tmp_path, HEADER + rows)
    said: list[str] = []
    traces = load_traces([path], said.append)
    assert [trace.name for trace in traces.values()] == ["room-1", "ROOM_1", "room-1-2", "Room 1"]
    assert list(traces) == ["room-1", "room-1-2", "room-1-2-2", "room-1-3"]
    assert said[0] == "board 'ROOM_1' runs as 'room-1-2'"
    assert len(said) == 3


def test_convert_nab(tmp_path: Path) -> None:
    raw = "timestamp,value\n" + "".join(f"2024-01-01 {hour:02}:00:00,70.0\n" for hour in range(4))
    written(tmp_path, raw + "2024-01-01 02:00:00,70\n2024-01-02 00:00:00,212.5\n", "office_temp.csv")
    written(tmp_path, '{"x/office_temp.csv": [["2024-01-01 01:00:00.000000", "2024-01-01 02:00:00"]]}', "windows.json")
    (result,) = convert([tmp_path], tmp_path / "out")
    assert list(result.lines())[1] == (
        "  office-temp: 5 rows; values look like °F: converted to °C; 1 rows dropped: time did not rise"
    )
    (trace,) = load_traces([result.path]).values()
    assert list(trace.temp_milli) == [21111, 21111, 21111, 21111, 100278]
    assert list(trace.labels) == [0, 1, 1, 0, 0]


def test_convert_celsius_stays(tmp_path: Path) -> None:
    written(tmp_path, "timestamp,value\n2024-01-01T00:00:00Z,21\n2024-01-01T01:00:00Z,nan\n")
    (result,) = convert([tmp_path], tmp_path / "out")
    assert "°F" not in "".join(result.lines())
    assert "1 rows dropped: no sensor" in "".join(result.lines())


def test_convert_motes_and_occupancy(tmp_path: Path) -> None:
    motes = "reading,mote_id,indoor,humidity,temperature,label\n1,1,1,45.9,27.9,0\n2,1,1,101,27,0\n1,3,0,40,-3,1\n"
    occupancy = '"date","Temperature","Humidity","Light","CO2","HumidityRatio","Occupancy"\n'
    occupancy += '"1","2015-02-04 17:51:00",23.1,27.2,426,721,0.004,1\n'
    results = convert(
        [written(tmp_path, motes, "m.csv"), written(tmp_path, occupancy, "datatest.txt")], tmp_path / "out"
    )
    assert [result.name for result in results] == ["suthaharan", "occupancy"]
    traces = load_traces([tmp_path / "out"])
    assert list(traces) == ["occupancy-datatest", "mote-1", "mote-3"]
    assert list(traces["mote-3"].labels) == [1]
    assert len(traces["mote-1"]) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "none of the recordings known"),
        ("timestamp,value\nyesterday,3\n", "'yesterday' is not a date"),
        ("timestamp,value\n2024-01-01,warm\n", "'warm' is not a number"),
        ("timestamp,value\n2024-01-01\n", "has 1 fields where 2"),
        ("timestamp,value\n2024-01-01,999\n", "not one usable row"),
        ("reading,mote_id,indoor,humidity,temperature,label\ninf,1,1,40,20,0\n", "not one usable row"),
    ],
)
def test_convert_refuses(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TraceError, match=says):
        convert([path], tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_the_recorded_sets(traces: Path, tmp_path: Path) -> None:
    results = convert([traces], tmp_path)
    assert {result.name: len(result.boards) for result in results} == {"nab": 1, "occupancy": 3, "suthaharan": 4}
    loaded = load_traces([tmp_path])
    assert sum(map(len, loaded.values())) == 7267 + 20560 + 18914
    assert sum(sum(trace.labels) for trace in loaded.values()) > 0
