"""Speaking to a running receiver over its own HTTP: the address that a user gave, what an answer, which may be
anything, is taken for, and what a person acknowledges on its listener for questions.
"""

from __future__ import annotations

import http.client
import json
import urllib.parse
from typing import Any

from host_tools.commands.brokers import is_loopback
from host_tools.errors import HostError, InputError, RetryableError

PORT = 8440
_TIMEOUT_S = 30.0
_ANSWER_BYTES_MAX = 1 << 20


def parts(url: str, option: str) -> tuple[str, int, bool]:
    """Host, port and whether it is plain HTTP: https://HOST[:PORT], http:// on a loopback address only.

    option: where it was given. Raises InputError.
    """
    split = urllib.parse.urlsplit(url)
    try:
        host, port = split.hostname or "", split.port or PORT
    except ValueError:
        host, port = "", 0
    if (
        split.scheme not in ("https", "http")
        or not host
        or split.path not in ("", "/")
        or split.query
        or split.username
    ):
        raise InputError(f"{option} {url[:80]}: must be https://HOST[:PORT]")
    if split.scheme == "http" and not is_loopback(host):
        raise InputError(f"{option} {url[:80]}: http:// is for a loopback address; use https://")
    return host, port, split.scheme == "http"


def said(data: bytes) -> dict[str, Any]:
    """The JSON object of an answer; empty when it is none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def letters(answer: dict[str, Any]) -> str:
    """What a receiver says, as no more than letters: it may say anything at all."""
    text = str(answer.get("error", "and does not say why"))[:200]
    return "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in text)


def acknowledge(url: str, token: str | None, ack: dict[str, Any]) -> list[dict[str, Any]]:
    """Tell the receiver at `url` what a person says of identity alarms (docs/cloud.md). Returns what is acknowledged.

    Raises InputError, RetryableError when it does not answer, HostError when it refuses.
    """
    host, port, plain = parts(url, "--url")
    kind = http.client.HTTPConnection if plain else http.client.HTTPSConnection
    connection = kind(host, port, timeout=_TIMEOUT_S)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        connection.request("POST", "/v1/alarms/acknowledge", json.dumps(ack), headers)
        response = connection.getresponse()
        answer = said(response.read(_ANSWER_BYTES_MAX))
    except (OSError, http.client.HTTPException) as error:
        raise RetryableError(f"{url}: the receiver does not answer: {error}") from None
    finally:
        connection.close()
    done = answer.get("acknowledged")
    if response.status == 200 and isinstance(done, list):
        return done
    if response.status in (404, 405) and answer.get("detail") in ("Not Found", "Method Not Allowed"):
        raise HostError(f"{url}: acknowledges nothing there: give the address of the receiver's --admin-port")
    raise HostError(f"{url}: not acknowledged: {response.status} {letters(answer)}")
