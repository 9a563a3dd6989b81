"""What the stages hand to one another: plain values, no behaviour.

It knows no stage, no thread and no database. Times named `recv` and `unix` are wall time; nothing here is monotonic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Record = tuple[int, int, int, int, int, int]  # seq, kind, channel, value, uptime_ms, trend_milli_min: isocore's order

LANE_ALARMS = "alarms"
LANE_LIVE = "live"
LANE_BACKFILL = "backfill"
LANES = (LANE_ALARMS, LANE_LIVE, LANE_BACKFILL)
LANE_WINDOWS = "windows"  # carries no records, but what was made of them
LANE_MODELS = "models"  # nor does this: what devices say of their models
REVISED_LANES = (LANE_WINDOWS, LANE_MODELS)  # their cursors are revisions, no rows
UP_LANES = (*LANES, *REVISED_LANES)

# Kinds HIGH_ON..BOOT of isocore.record travel as events; SAMPLE and DELTA are reports; the rest is window figures.
# The ledger counts LOST apart, as a notice: it stands for what is gone, and a board's events_sent leaves it out.
EVENT_FIRST = 3
EVENT_LAST = 12
LOST = 11


class FrameIn(NamedTuple):
    """One valid frame as received. `plain`: no LOST record and seq rising by one, so it may take the short way."""

    device: str
    boot: int
    records: list[Record]
    epoch_unix_ms: int | None
    tag: bytes
    recv_unix_ms: int
    urgent: bool
    plain: bool


class MetaIn(NamedTuple):
    """A board's `meta`, checked. `floor` is (boot, seq) or None; `uptime_ms` is None unless it was fresh.

    own: of a device that this gateway speaks for.
    """

    device: str
    text: str
    device_class: str | None
    floor: tuple[int, int] | None
    boot: int | None
    uptime_ms: int | None
    recv_unix_ms: int
    own: bool = False


class NoteIn(NamedTuple):
    """Last known text of one of a board's retained topics. `column`: status, model_state or health.

    recv_unix_ms: 0 when it was retained at the broker: it is known now, but the device was not heard now.
    """

    device: str
    column: str
    text: str
    recv_unix_ms: int


Made = tuple[int, int, int, int, int]  # kind, channel, value, uptime_ms, trend_milli_min: a record without its number


class Receipt(NamedTuple):
    """What a broker wants to hear once a message is durable. `again`: it says that it may have sent it before."""

    link: int
    mid: int
    digest: bytes
    again: bool


class OwnIn(NamedTuple):
    """Records of a device that this gateway speaks for: they get boot and seq in the transaction that stores them.

    A LOST of value n stands for n records that were never numbered. `made` may be empty: then only the receipt counts.
    """

    device: str
    made: tuple[Made, ...]
    epoch_unix_ms: int | None
    recv_unix_ms: int
    urgent: bool
    least_boot: int
    receipt: Receipt | None = None


class Ack(NamedTuple):
    """What may be said to a board after a commit: everything of `boot` up to `seq` is durable, and so is `got`.

    `top`: the highest boot of which anything is known, for a board that asks because it cannot know its own number.
    """

    device: str
    boot: int
    seq: int
    got: tuple[int, int] | None
    top: int | None = None


class Fresh(NamedTuple):
    """All that a commit stored from `first_row` to its head: fields of Row, in order of arrival, not to be changed."""

    first_row: int
    rows: Sequence[tuple[Any, ...]]


class Committed(NamedTuple):
    """One commit of the writer: acknowledgements due, last row id in the store, rows added: events and others.

    fresh: the rows themselves, or None when only the store has them. described: a board said anew what it is. models:
    one said of its model what sinks have to be told.
    """

    acks: list[Ack]
    head_row: int
    others: int
    events: int
    receipts: tuple[Receipt, ...] = ()
    fresh: Fresh | None = None
    described: bool = False
    models: bool = False


class StoreState(NamedTuple):
    """How the store is. Told when it changes, for alarms: see gateway.store.Store's `on_state`.

    failing: why commits fail (full, io, readonly, busy), or None. making_room: thinning | dropping | nothing left, or
    None while the store is within its bound. damaged: names of what was set aside as damaged, ever.
    """

    failing: str | None
    making_room: str | None
    damaged: tuple[str, ...]
    bytes: int
    bytes_max: int


class Row(NamedTuple):
    """One stored record. Sorts by identity: device, boot, seq."""

    device: int
    boot: int
    seq: int
    kind: int
    channel: int
    value: int
    trend: int
    uptime_ms: int
    epoch_unix_ms: int | None
    trusted: int
    recv_unix_ms: int
    row: int


class Tag(NamedTuple):
    """A tagged frame, for the cloud to make it again from its rows and check it: docs/readings-security.md.

    first_row, last_row: of the rows that it brought. seqs: a count of records whose seq rises by 1, or the steps
    between them. other: records in the place of rows that say something else. tag: None when its rows were thinned.
    """

    first_row: int
    last_row: int
    device: int
    boot: int
    epoch_unix_ms: int | None
    first_seq: int
    seqs: int | list[int]
    other: list[Record]
    tag: bytes | None


class DeviceInfo(NamedTuple):
    """What a batch says of a device. `channels`: ((name, unit), ...) by channel number, or None when unknown."""

    device: int
    name: str
    device_class: str | None
    channels: tuple[tuple[str, str], ...] | None


class Counts(NamedTuple):
    """Records of one device in one batch."""

    device: int
    reports: int
    events: int
    windows: int
    notices: int = 0


class Unsent(NamedTuple):
    """Records that a policy keeps from a sink, per device: withheld, and reports that windows stand for."""

    withheld: tuple[Counts, ...] = ()
    aggregated: tuple[Counts, ...] = ()


class Batch(NamedTuple):
    """A frozen batch: `body` never changes from here on, so every retry is byte-identical."""

    sink: str
    batch: int
    lane: str
    first_row: int
    last_row: int
    rows: int
    counts: tuple[Counts, ...]
    encoding: str
    digest: str
    body: bytes


class ChannelRecord(NamedTuple):
    """One stored record of a known channel, in the order of isocore.aggregate."""

    boot: int
    seq: int
    kind: int
    value: int
    trend: int
    uptime_ms: int
    unix_ms: int


class KeptWindow(NamedTuple):
    """A window as it is kept. `revision` 0: not closed, -1: to be given one now.

    opening_key: (boot, uptime_ms, seq) of the last record before it; None: not to start folding from.
    """

    device: int
    channel: int
    length_s: int
    start_s: int
    revision: int
    least: int | None
    greatest: int | None
    last: int | None
    area: int
    reports: int
    covered_ms: int
    alarm_ms: int
    fault_ms: int
    opening: str
    opening_key: tuple[int, ...] | None


class WindowRow(NamedTuple):
    """A closed window as it goes up; figures in milli-units, None where there was no value."""

    device: int
    channel: int
    length_s: int
    start_s: int
    revision: int
    least: int | None
    mean: int | None
    greatest: int | None
    last: int | None
    reports: int
    covered_ms: int
    alarm_ms: int
    fault_ms: int


class ModelState(NamedTuple):
    """What a device says of its model. began: the revision it had first, which names it; revision: as it is now.

    since, heard: when the device said so first and last; None: only the broker did, of what it retained.
    """

    device: int
    began: int
    revision: int
    since_unix_ms: int | None
    heard_unix_ms: int | None
    sequence: int
    state: str
    id: str | None
    reason: str | None


class WindowPrint(NamedTuple):
    """What tells one set of a gateway's windows from another: how many, and sum and greatest of their revisions."""

    windows: int
    revisions: int
    last_revision: int


class Run(NamedTuple):
    """One run of an analysis. Its identity is name, length_s and start_s, within this gateway.

    place: here or cloud. request: JSON as the uplink carries it. outcome: JSON of the windows' print and the result's
    text, None while it is the cloud's to make.
    """

    name: str
    length_s: int
    start_s: int
    place: str
    request: str
    outcome: str | None


class Finding(NamedTuple):
    """What an analysis found of one channel, for rules. Figures in milli-units; cross_s from the window's end on."""

    info: DeviceInfo
    channel: int
    value_milli: int
    deviation_milli: int | None
    score_milli: int | None
    limit_milli: int | None
    cross_s: int | None


class Alarm(NamedTuple):
    """An alarm of the gateway's rules. `device` "" is the gateway itself or several devices, `channel` "" the whole."""

    number: int
    rule: str
    device: str
    channel: str
    severity: str
    text: str
    value_milli: int | None
    raised_unix_ms: int
    acked_unix_ms: int | None = None
    cleared_unix_ms: int | None = None


class Notice(NamedTuple):
    """What an output has to be told: `event` is a JSON object. `number` is also its key: told twice, it is one."""

    number: int
    output: str
    event: str


class Vitals(NamedTuple):
    """What the store knows of a device's life, for rules."""

    device: int
    name: str
    device_class: str | None
    own: bool
    last_seen_unix_ms: int
    conflicts: int
    gap: int
