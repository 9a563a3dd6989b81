"""The query API: GET questions about what is stored, answered from connections that only read.

Few at once, each for a bounded time and with a bounded page, in threads: whatever is asked, batches come in. What a
question takes and answers is in `openapi.py`, and a test holds the two together. Refusals are RFC 9457 problems.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from host_tools.cloud import rendering, series
from host_tools.cloud.answers import DeviceState, Place, TooLong, is_place
from host_tools.cloud.models import STATES
from host_tools.cloud.parameters import RESOLUTIONS, Page, Problem, Query, cursor, rfc_3339
from host_tools.cloud.ports import Answers, Ask
from host_tools.cloud.store_analyses import described
from host_tools.cloud.store_read import StoredReading
from host_tools.cloud.strict import UNIX_S_MAX
from host_tools.cloud.windows import LENGTH_S_MAX
from isocore.record import BOARD_CHANNEL, KIND_NAMES

AT_ONCE_MAX = 2  # questions answered at the same time; both processors are not theirs alone
WAITING_MAX = 32  # more are asked to come again
RETRY_AFTER_S = 1
DAY_MS = 86_400_000
LATEST_DEVICES_MAX = 100  # on one page
ANY = "any"
_T = TypeVar("_T")
Answer = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]
_PAGED = frozenset(("limit", "cursor"))
_SPAN = frozenset(("device", "channel", "from", "to"))


class Questions:
    """The handlers. Times are the receiver's; `unix_ms` says what now is."""

    def __init__(self, question: Ask, unix_ms: Callable[[], int]) -> None:
        self._question = question
        self._unix_ms = unix_ms
        self._places = asyncio.Semaphore(AT_ONCE_MAX)
        self._waiting = 0

    def routes(self) -> dict[str, Handler]:
        """Path -> handler, all for GET."""
        asked = (self.alarms, self.analyses, self.devices, self.gateways, self.latest, self.models, self.readings)
        named: dict[str, Handler] = {f"/v1/{handler.__name__}": handler for handler in (*asked, self.windows)}
        return named | {"/v1/range": self.range_}

    async def ask(self, question: Callable[[Answers], _T]) -> _T:
        """Answer from a connection of its own, when it is its turn. Raises Problem."""
        if self._waiting >= WAITING_MAX:
            raise Problem(503, f"{WAITING_MAX} questions wait already", retry_after_s=RETRY_AFTER_S)
        self._waiting += 1
        try:
            async with self._places:
                return await run_in_threadpool(self._answer, question)
        except TooLong as error:
            raise Problem(503, str(error), retry_after_s=RETRY_AFTER_S) from None
        finally:
            self._waiting -= 1

    def _answer(self, question: Callable[[Answers], _T]) -> _T:
        with self._question() as answers:
            return question(answers)

    async def devices(self, request: Request) -> Response:
        """All devices, by name."""
        query = _query(request, _PAGED)
        page = query.page("devices", str)
        found = await self.ask(lambda store: store.device_states(_after(page), page.limit))
        shown = [
            {
                "id": state.info.name,
                "class": state.info.device_class,
                "channels": [{"number": n, "name": name, "unit": unit} for n, name, unit in state.info.channels],
                "heard": rfc_3339(state.heard_unix_ms),
                "silent_since": rfc_3339(state.silent_since_unix_ms),
            }
            for state in found
        ]
        return _paged("devices", shown, page, [(state.info.name,) for state in found])

    async def gateways(self, request: Request) -> Response:
        """All gateways, by name."""
        page = _query(request, _PAGED).page("gateways", str)
        found = await self.ask(lambda store: store.gateways(self._unix_ms(), _after(page), page.limit))
        shown = [
            {
                "id": one.name,
                "heard": rfc_3339(one.heard_unix_ms),
                "silent_since": rfc_3339(one.silent_since_unix_ms),
                "posts": one.posts,
                "bytes": one.bytes_uplink,
                "rows_today": one.rows_today,
                "bytes_today": one.bytes_today,
            }
            for one in found
        ]
        return _paged("gateways", shown, page, [(one.name,) for one in found])

    async def latest(self, request: Request) -> Response:
        """The last report of every channel, by device."""
        query = _query(request, _PAGED | {"device"})
        device, page = query.device(required=False), query.page("latest", str)
        limit = min(page.limit, LATEST_DEVICES_MAX)

        def answer(store: Answers) -> tuple[list[Answer], list[str]]:
            states = store.device_states(_after(page), limit, device)
            if device is not None and not states:
                raise Problem(404, "no device has that id; those of /v1/devices have sent something", "device")
            return [row for state in states for row in rendering.latest_rows(store, state)], [
                s.info.name for s in states
            ]

        rows, names = await self.ask(answer)
        more = device is None and len(names) == limit
        return JSONResponse({"latest": rows, "next": cursor("latest", (names[-1],)) if more else None})

    async def readings(self, request: Request) -> Response:
        """All rows of a device, of every kind, in order of identity."""
        query = _query(request, _PAGED | _SPAN)
        device, channel_name = query.device(required=True) or "", query.text("channel")
        page = query.page("readings", int, int)
        start = query.time("from", 0) if query.text("from") else None
        end = query.time("to", 0) if query.text("to") else None

        def answer(store: Answers) -> tuple[list[StoredReading], dict[int, str]]:
            state, channel = _channel(store, device, channel_name)
            boot, seq = page.after or (0, 0)
            rows = store.page(device, channel, start, end, (int(boot), int(seq)), page.limit)
            return rows, {number: name for number, name, _ in state.info.channels}

        rows, names = await self.ask(answer)
        shown = [rendering.reading(row, names) for row in rows]
        return _paged("readings", shown, page, [(row.boot, row.seq) for row in rows], device=device)

    async def range_(self, request: Request) -> Response:
        """One channel over a span of time: its reports, or windows of them."""
        query = _query(request, _PAGED | _SPAN | {"resolution"})
        device, channel_name = query.device(required=True) or "", query.text("channel")
        if channel_name is None:
            raise Problem(400, "channel is needed: the name of one of the device's, of /v1/devices", "channel")
        span = query.span(self._unix_ms(), DAY_MS)
        resolution = query.choice("resolution", tuple(RESOLUTIONS))
        length_s = RESOLUTIONS[resolution]
        page = query.page(resolution, int) if length_s else query.page(resolution, int, int, int)

        def answer(store: Answers) -> tuple[list[Answer], str | None, DeviceState]:
            state, channel = _channel(store, device, channel_name)
            assert channel is not None
            if length_s:
                place = (state.number, channel)
                return *_windows(store, place, resolution, span, page, self._unix_ms() // 1000), state
            return *_points(store, state.number, channel, span, page), state

        rows, following, state = await self.ask(answer)
        named = {text: (name, unit) for n, name, unit in state.info.channels for text in (str(n), name)}
        name, unit = named.get(channel_name, (channel_name, None))
        head = {"device": device, "channel": name, "unit": unit, "resolution": resolution}
        return JSONResponse(head | {"points" if not length_s else "windows": rows, "next": following})

    async def windows(self, request: Request) -> Response:
        """Windows as gateways sent them."""
        query = _query(request, _PAGED | _SPAN | {"length_s"})
        device, channel_name = query.device(required=True) or "", query.text("channel")
        page = query.page("windows", int, int, int)
        length_s = query.number("length_s", None, LENGTH_S_MAX)
        first_s, end_s = -(-query.time("from", 0) // 1000), -(-query.time("to", (UNIX_S_MAX + 1) * 1000) // 1000)

        def answer(store: Answers) -> tuple[list[Any], dict[int, str]]:
            state, channel = _channel(store, device, channel_name)
            after = page.after or (-1, -1, -1)
            place = (int(after[0]), int(after[1]), int(after[2]))
            rows = store.windows(device, channel, length_s, first_s, end_s, page.limit, place)
            return rows, {number: name for number, name, _ in state.info.channels}

        rows, names = await self.ask(answer)
        shown = []
        for row in rows:
            figures = row._asdict()
            start_unix_ms = figures.pop("start_unix_s") * 1000
            figures |= {"channel": rendering.name_of(names, row.channel), "start": rfc_3339(start_unix_ms)}
            shown.append(figures)
        places = [(row.start_unix_s, row.channel, row.length_s) for row in rows]
        return _paged("windows", shown, page, places, device=device)

    async def alarms(self, request: Request) -> Response:
        """What stands, or all that was."""
        query = _query(request, _PAGED | {"state"})
        only_open = query.choice("state", ("open", "all")) == "open"
        tag = "alarms" if only_open else "history"
        page = query.page(tag, int, list)
        section, place = (0, []) if page.after is None else (page.after[0], page.after[1])
        if not is_place(only_open, section, place):
            raise Problem(400, "cursor must be `next` of a page of this same question", "cursor")

        now_unix_ms = self._unix_ms()

        def answer(store: Answers) -> tuple[list[Answer], tuple[int, Place] | None]:
            found, following = store.alarm_page(only_open, section, tuple(place), page.limit, now_unix_ms)
            return [
                rendering.alarm(alarm, _channel_names(store, alarm.device), now_unix_ms) for alarm in found
            ], following

        shown, following = await self.ask(answer)
        return JSONResponse({"alarms": shown, "next": following and cursor(tag, (following[0], list(following[1])))})

    async def models(self, request: Request) -> Response:
        """What each device runs, by its name; or all states that its models were in."""
        query = _query(request, _PAGED | {"device", "state", "changes"})
        device, wanted = query.device(required=False), query.choice("state", (ANY, *STATES))
        state = None if wanted == ANY else wanted
        if query.choice("changes", ("latest", "all")) == "latest":
            page = query.page("models", str)
            found = await self.ask(lambda store: store.models(device, state, _after(page), page.limit))
            return _paged("models", [rendering.model(one) for one in found], page, [(one.device,) for one in found])
        page = query.page("changes", str, int, str)
        after = None if page.after is None else (str(page.after[0]), int(page.after[1]), str(page.after[2]))
        found = await self.ask(lambda store: store.model_changes(device, state, after, page.limit))
        shown, following = [rendering.model(one) for one in found], None
        if len(found) == page.limit:
            following = cursor("changes", (found[-1].device, found[-1].began, found[-1].gateway))
        return JSONResponse({"models": shown, "next": following})

    async def analyses(self, request: Request) -> Response:
        """What was found in a site's windows, the latest window first."""
        query = _query(request, _PAGED | {"gateway", "name", "foreseen"})
        gateway, name = query.text("gateway"), query.text("name")
        only = query.choice("foreseen", ("all", "only")) == "only"
        page = query.page("analyses", int, str, str, int)
        after = None
        if page.after is not None:
            start_s, *others, length_s = page.after
            after = (int(start_s), str(others[0]), str(others[1]), int(length_s))
        found = await self.ask(lambda store: store.analyses(gateway, name, only, after, page.limit))
        shown = [{"start": rfc_3339(one.start_unix_s * 1000), **described(one)} for one in found]
        places = [(one.start_unix_s, one.gateway, one.name, one.length_s) for one in found]
        return _paged("analyses", shown, page, places)


def _query(request: Request, known: frozenset[str]) -> Query:
    return Query(request.query_params.multi_items(), known)


def _after(page: Page) -> str:
    """The name that a page by name goes on after."""
    return "" if page.after is None else str(page.after[0])


def _paged(name: str, rows: list[Answer], page: Page, places: list[tuple[Any, ...]], **head: object) -> JSONResponse:
    """A full page has another after it, perhaps an empty one."""
    following = cursor(name, places[-1]) if len(places) == page.limit else None
    return JSONResponse({**head, name: rows, "next": following})


def _channel(store: Answers, device: str, channel_name: str | None) -> tuple[DeviceState, int | None]:
    """A device, and the number of its channel of that name. Raises Problem."""
    states = store.device_states("", 1, device)
    if not states:
        raise Problem(404, "no device has that id; those of /v1/devices have sent something", "device")
    if channel_name is None:
        return states[0], None
    for number, name, _ in states[0].info.channels:
        if channel_name in (name, str(number)):
            return states[0], number
    names = ", ".join(name for _, name, _ in states[0].info.channels) or "none by name yet; give its number"
    if channel_name.isdecimal() and len(channel_name) <= 3 and int(channel_name) <= BOARD_CHANNEL:
        return states[0], int(channel_name)
    raise Problem(404, f"that device has no such channel; it has {names}", "channel")


def _channel_names(store: Answers, device: str | None) -> dict[int, str]:
    states = store.device_states("", 1, device) if device is not None else []
    return {number: name for state in states for number, name, _ in state.info.channels}


def _points(
    store: Answers, device: int, channel: int, span_unix_ms: tuple[int, int], page: Page
) -> tuple[list[Answer], str | None]:
    after = page.after or (-1, 0, 0)
    points = store.points(device, channel, span_unix_ms, (int(after[0]), int(after[1]), int(after[2])), page.limit)
    shown = [
        {
            "time": rfc_3339(point.unix_ms),
            "trusted": point.trusted,
            "boot": point.boot,
            "seq": point.seq,
            "kind": KIND_NAMES[point.kind],
            "value": point.value,
            "trend": point.trend,
            "verdict": point.verdict,
        }
        for point in points
    ]
    last = points[-1] if len(points) == page.limit else None
    return shown, last and cursor("raw", (last.unix_ms, last.boot, last.seq))


def _windows(
    store: Answers, place: tuple[int, int], resolution: str, span_unix_ms: tuple[int, int], page: Page, now_s: int
) -> tuple[list[Answer], str | None]:
    length_s = RESOLUTIONS[resolution]
    first_s = -(-span_unix_ms[0] // 1000 // length_s) * length_s
    if page.after is not None:
        first_s = max(first_s, int(page.after[0]))
    end_s = -(-span_unix_ms[1] // 1000)
    found, following_s = series.windows(store, place, length_s, (first_s, end_s), page.limit, now_s)
    shown = []
    for figures in found:
        row = figures._asdict()
        shown.append({"start": rfc_3339(row.pop("start_unix_s") * 1000), **row})
    return shown, None if following_s is None else cursor(resolution, (following_s,))
