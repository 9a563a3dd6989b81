"""Batches made anew: the same rows under new numbers, whatever the receiver could not take; and through the daemon."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import wire
from gateway.messages import Batch, DeviceInfo, Row, Tag
from gateway.remake import remake
from gateway.unpack import records
from gateway.unpack import tags as unpack_tags
from isocore.record import HIGH_ON
from tests.contract.test_uplink import infos, row_lists
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Answer, Daemon, FakeCloud, Seen, read_body
from tests.support.mosquitto import Mosquitto

GZIP = ("gzip", lambda data: gzip.compress(data, mtime=0))


def frozen(rows: list, number: int = 7) -> Batch:  # type: ignore[type-arg]
    encoding, compress = wire.compressor("auto")
    named = {device: info._replace(device=device) for device, info in infos(rows).items()}
    body, digest = wire.encode(wire.document("gw-1", number, "live", 1, 99, rows, named), compress)
    return Batch("cloud", number, "live", 1, 99, len(rows), wire.counts(rows), encoding, digest, body)


def identities(batch: Batch) -> list[tuple[object, ...]]:
    document = wire.decode(batch.body, batch.encoding)
    assert (document["batch"], document["rows"]) == (batch.batch, batch.rows)
    return [(document["devices"][r.device]["id"], *r[1:]) for r in records(document)]


@settings(max_examples=60, deadline=None)
@given(row_lists(), st.integers(1, 3))
def test_no_row_is_lost_or_doubled_or_changed(rows: list, parts: int) -> None:  # type: ignore[type-arg]
    whole = frozen(rows)
    made = remake("gw-1", whole, range(100, 100 + min(parts, len(rows))), GZIP)
    assert [row for part in made for row in identities(part)] == identities(whole)
    assert all(part.rows > 0 and part.encoding == "gzip" for part in made)
    assert len({part.batch for part in made} | {whole.batch}) == len(made) + 1
    sums = [sum(c[i] for part in made for c in part.counts) for i in range(1, 5)]
    assert sums == [sum(c[i] for c in whole.counts) for i in range(1, 5)]


def test_what_cannot_be_read_is_said() -> None:
    batch = Batch("s", 1, "live", 1, 2, 2, (), "gzip", "00", b"broken")
    with pytest.raises(ValueError, match="no gzip"):
        remake("gw-1", batch, [2], GZIP)
    body = gzip.compress(b'{"devices":[]}')
    with pytest.raises(ValueError, match="holds no columns"):
        remake("gw-1", batch._replace(body=body), [2], GZIP)


def test_what_was_said_is_kept_to() -> None:
    assert wire.negotiated("auto", None)[0] == "zstd"
    assert wire.negotiated("auto", frozenset({"gzip"}))[0] == "gzip"
    assert wire.negotiated("zstd", frozenset({"gzip"}))[0] == "zstd", "the operator's word comes first"


@pytest.mark.mosquitto
def test_a_receiver_of_small_batches_gets_small_ones(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    def small_only(seen: Seen) -> Answer:
        rows = read_body(seen.body)["rows"]
        return cloud.store(seen) if rows <= 30 else (413, {}, b'{"error":"at most 30 rows"}')

    cloud.script = small_only
    with Daemon(tmp_path / "gw", broker.port, cloud.url) as daemon, BoardClient(broker.port) as board:
        board.deliver("a", 1, [*samples(1, 400), (401, HIGH_ON, 0, 9000, 401_000, 0)])
        wait_for(lambda: len(set(cloud.rows())) == 401, what="all rows in parts")
        assert len(cloud.rows()) == 401
        wait_for(lambda: daemon.status()["sinks"]["cloud"]["rows_pending"] == 0, what="the ledger")
        refused = len(cloud.seen) - len(cloud.stored)
        board.deliver("a", 1, samples(402, 800))
        wait_for(lambda: len(set(cloud.rows())) == 800, what="what comes later")
        assert len(cloud.seen) - len(cloud.stored) == refused, "once told it freezes no larger ones"
        wait_for(lambda: daemon.status()["sinks"]["cloud"]["rows_pending"] == 0, what="the ledger again")
        assert 'upload_remade_total{reason="too_large",sink="cloud"}' in daemon.get("/metrics")
        assert daemon.stop() == 0
        assert daemon.ledger()["differences"] == []
    assert len({seen.batch for seen in cloud.seen}) == len(cloud.seen), "no number was used for two bodies"


@pytest.mark.mosquitto
def test_a_receiver_without_zstd_gets_gzip_and_nothing_is_quarantined(
    tmp_path: Path, broker: Mosquitto, cloud: FakeCloud
) -> None:
    def gzip_only(seen: Seen) -> Answer:
        said = {"Accept-Encoding": "gzip"}
        if seen.headers["Content-Encoding"] != "gzip":
            return 415, said, b'{"error":"gzip only"}'
        answer = cloud.store(seen)
        assert answer is not None
        return answer[0], said, answer[2]

    cloud.script = gzip_only
    with Daemon(tmp_path / "gw", broker.port, cloud.url) as daemon, BoardClient(broker.port) as board:
        board.deliver("a", 1, samples(1, 50))
        wait_for(lambda: len(set(cloud.rows())) == 50, what="the first in gzip")
        refused = len(cloud.seen) - len(cloud.stored)
        assert refused >= 1
        board.deliver("a", 1, samples(51, 100))
        wait_for(lambda: len(set(cloud.rows())) == 100, what="the rest")
        assert len(cloud.seen) - len(cloud.stored) == refused, "asked once, remembered"
        assert daemon.stop() == 0
        assert daemon.ledger()["differences"] == []


def test_tagged_frames_go_with_each_part_that_has_one_of_their_rows() -> None:
    rows = [Row(1, 1, seq, 2, 0, seq, 0, seq, 0, 0, 0, seq) for seq in range(1, 9)]
    named = {d: DeviceInfo(d, name, None, None) for d, name in ((1, "a"), (2, "b"))}
    tags = [
        Tag(1, 3, 1, 1, None, 1, 3, [], b"t" * 16),
        Tag(4, 5, 1, 1, 1_800_000_000_123, 2, [2, 3], [(4, 11, 255, 1, 4, 0)], b"u" * 16),
        Tag(9, 9, 2, 7, None, 5, 1, [(5, 1, 0, 0, 5, 0)], None),
    ]
    encoding, compress = wire.compressor("gzip")
    body, digest = wire.encode(wire.document("gw-1", 7, "live", 1, 8, rows, named, tags), compress)
    whole = Batch("cloud", 7, "live", 1, 8, len(rows), wire.counts(rows), encoding, digest, body)
    documents = [wire.decode(b.body, b.encoding) for b in remake("gw-1", whole, [8, 9], GZIP)]
    told = [
        [(d["devices"][t.device]["id"], *t[3:]) for t in unpack_tags(d)]
        for d in (wire.decode(body, "gzip"), *documents)
    ]
    a, b, proof = (("a" if t.device == 1 else "b", *t[3:]) for t in tags)
    assert told == [[a, b, proof], [a, b, proof], [b, proof]]
