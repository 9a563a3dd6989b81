"""The HTTP sink with real TLS against the reference receiver: who is trusted, who gets in, and proxies in between."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.config import parse
from gateway.errors import ConfigError, SinkUnavailable
from gateway.sinks.base import Sink
from gateway.sinks.make import make_sink, make_tuning
from gateway.sinks.proxy import Proxy, find
from tests.contract.test_sinks import real_batch
from tests.support.http_proxy import ConnectProxy
from tests.support.tls import Authority
from tests.support.uplink import ReceiverProcess

YESTERDAY = datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC)


class Site(NamedTuple):
    """A receiver that wants a client certificate, and the authority of both."""

    folder: Path
    authority: Authority
    url: str
    receiver: ReceiverProcess


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    server = authority.server()
    with ReceiverProcess(folder) as receiver:
        receiver.start(
            *("--cert-file", str(server.cert), "--key-file", str(server.key)),
            *("--client-ca-file", str(authority.ca)),
        )
        yield Site(folder, authority, f"https://127.0.0.1:{receiver.port}", receiver)


def made(site: Site, **keys: str) -> Sink:
    table = {"url": site.url, "ca_file": str(site.authority.ca), "proxy": "none", "connect_timeout_s": 10.0} | keys
    config = parse(site.folder / "gateway.toml", {"gateway": {"id": "gw-test"}, "sinks": {"cloud": table}})
    return make_sink(config, "cloud", 2, lambda: 0.0)


def client(site: Site, name: str = "client", until: datetime.datetime | None = None) -> dict[str, str]:
    more = {} if until is None else {"until": until}
    pair = site.authority.client(name, subject="gw-test", **more)
    return {"cert_file": str(pair.cert), "key_file": str(pair.key)}


def refused(sink: Sink) -> str:
    """The reason why a batch did not get through; it must not have."""
    with pytest.raises(SinkUnavailable) as caught:
        sink.send(real_batch(99))
    sink.close()
    return caught.value.reason


def test_with_both_certificates_batches_are_stored(site: Site) -> None:
    sink = made(site, **client(site))
    assert not sink.send(real_batch(1)).duplicate
    assert sink.send(real_batch(1)).duplicate
    sink.close()


def test_nobody_gets_in_without_a_certificate_of_the_authority(site: Site) -> None:
    assert refused(made(site)) in ("tls", "broken")
    stranger = Authority(site.folder / "stranger", "stranger").client()
    assert refused(made(site, cert_file=str(stranger.cert), key_file=str(stranger.key))) in ("tls", "broken")
    assert refused(made(site, **client(site, "expired", YESTERDAY))) in ("tls", "broken")
    server = site.authority.server("as-client")
    assert refused(made(site, cert_file=str(server.cert), key_file=str(server.key))) in ("tls", "broken")


def test_the_receiver_must_prove_itself(site: Site, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "other", "other")
    assert refused(made(site, ca_file=str(stranger.ca), **client(site, "trusting-another"))) == "tls"
    assert refused(made(site, ca_file="", **client(site, "trusting-the-system"))) == "tls"
    for server in (
        site.authority.server("expired-server", YESTERDAY),
        site.authority.server("elsewhere", address="127.0.0.9"),
    ):
        with ReceiverProcess(tmp_path / server.cert.stem) as receiver:
            (tmp_path / server.cert.stem).mkdir()
            receiver.start("--cert-file", str(server.cert), "--key-file", str(server.key))
            assert refused(made(site, url=f"https://127.0.0.1:{receiver.port}")) == "tls"


def test_renewed_certificates_are_taken_up(site: Site) -> None:
    keys = client(site, "renewed", YESTERDAY)
    table = {"url": site.url, "ca_file": str(site.authority.ca), "proxy": "none", **keys}
    config = parse(site.folder / "gateway.toml", {"gateway": {"id": "gw-test"}, "sinks": {"cloud": table}})
    sink = make_sink(config, "cloud", 2, lambda: 0.0)
    with pytest.raises(SinkUnavailable):
        sink.send(real_batch(2))
    client(site, "renewed")
    sink.tune(make_tuning(config, "cloud"))
    assert not sink.send(real_batch(2)).duplicate
    sink.close()


@pytest.mark.parametrize("what", ["cert_file", "key_file", "ca_file"])
def test_files_that_are_none_are_named(site: Site, tmp_path: Path, what: str) -> None:
    keys = client(site, f"bad-{what}")
    bad = tmp_path / "bad.pem"
    bad.write_text("-----BEGIN NOTHING-----\n", encoding="ascii")
    bad.chmod(0o600)
    with pytest.raises(ConfigError, match=r"bad\.pem"):
        made(site, **{**keys, what: str(bad)})


def test_a_key_that_everybody_may_read_is_refused(site: Site) -> None:
    keys = client(site, "open")
    Path(keys["key_file"]).chmod(0o644)
    with pytest.raises(ConfigError, match="everybody on this machine may read it"):
        made(site, **keys)


def test_through_a_proxy_that_sees_nothing(site: Site) -> None:
    with ConnectProxy() as proxy:
        sink = made(site, proxy=proxy.url, **client(site, "proxied"))
        assert not sink.send(real_batch(3)).duplicate
        sink.close()
        assert proxy.asked == [f"CONNECT {site.url.removeprefix('https://')}"]


def test_a_proxy_that_wants_a_login(site: Site, tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("user:very-secret\n", encoding="ascii")
    login.chmod(0o600)
    with ConnectProxy(base64.b64encode(b"user:very-secret").decode()) as proxy:
        keys = client(site, "logging-in")
        with pytest.raises(SinkUnavailable, match="does not lead to") as caught:
            made(site, proxy=proxy.url, **keys).send(real_batch(4))
        assert caught.value.reason == "proxy"
        sink = made(site, proxy=proxy.url, proxy_login_file=str(login), **keys)
        assert not sink.send(real_batch(4)).duplicate
        sink.close()


def test_a_proxy_that_is_away_is_named(site: Site) -> None:
    with ConnectProxy() as proxy:
        url = proxy.url
    sink = made(site, proxy=url, **client(site, "alone"))
    with pytest.raises(SinkUnavailable, match=url) as caught:
        sink.send(real_batch(5))
    assert caught.value.reason == "proxy"


AT = "http://10.0.0.1:3128"


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("https://cloud.example", {}, None),
        ("https://cloud.example", {"HTTPS_PROXY": AT}, AT),
        ("https://cloud.example", {"https_proxy": "10.0.0.1:3128"}, AT),
        ("https://cloud.example", {"ALL_PROXY": AT}, AT),
        ("https://cloud.example", {"http_proxy": AT}, None),
        ("http://cloud.example", {"HTTP_PROXY": AT}, None),
        ("http://cloud.example", {"http_proxy": AT}, AT),
        ("https://127.0.0.1", {"HTTPS_PROXY": AT}, None),
        ("https://localhost:1", {"HTTPS_PROXY": AT}, None),
        ("https://cloud.example", {"HTTPS_PROXY": AT, "NO_PROXY": "*"}, None),
        ("https://cloud.example", {"HTTPS_PROXY": AT, "NO_PROXY": "cloud.example"}, None),
        ("https://a.cloud.example", {"HTTPS_PROXY": AT, "NO_PROXY": "x, .cloud.example"}, None),
        ("https://acloud.example", {"HTTPS_PROXY": AT, "NO_PROXY": "cloud.example"}, AT),
        ("https://cloud.example:99", {"HTTPS_PROXY": AT, "NO_PROXY": "cloud.example:443"}, AT),
        ("https://cloud.example", {"HTTPS_PROXY": AT, "NO_PROXY": "cloud.example:443"}, None),
        ("https://10.1.2.3", {"HTTPS_PROXY": AT, "no_proxy": "10.0.0.0/8"}, None),
        ("https://10.1.2.3", {"HTTPS_PROXY": AT, "no_proxy": "10.1.2.4"}, AT),
        ("https://[2001:db8::1]", {"HTTPS_PROXY": AT, "no_proxy": "2001:db8::/32"}, None),
    ],
)
def test_the_environment_is_honoured(url: str, environment: Mapping[str, str], expected: str | None) -> None:
    found = find(url, "", None, environment)
    assert (found.url if found else None) == expected
    assert find(url, "none", None, environment) is None
    assert find(url, "http://p.example", None, environment) == Proxy("http://p.example:80", None)


def test_a_proxys_password_is_never_shown() -> None:
    found = find("https://a.example", "", None, {"HTTPS_PROXY": "http://user:se%40cret@p.example:1"})
    assert found == Proxy("http://p.example:1", "user:se@cret")
    assert "cret" not in repr(found)
    for wrong in ("ftp://p.example", "http://", "http://p:99999"):
        with pytest.raises(ConfigError):
            find("https://a.example", "", None, {"HTTPS_PROXY": wrong})
