"""URLs from outside are parsed strictly, and shown without what may be secret."""

from __future__ import annotations

import pytest

from jobs.outbound.errors import OutboundRefusedError
from jobs.outbound.policy import OutboundPolicy, check_url, matches_host
from jobs.outbound.urls import MAX_URL_CHARS, parse_url, shown_url

BOTH = OutboundPolicy(schemes=frozenset({"http", "https"}))

REFUSED_FORMS = (
    "",
    "example.com",
    "//example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "https:example.com",
    "https:/example.com",
    "https:///example.com",
    "https://",
    "https://user@example.com/",
    "https://user:password@example.com/",
    "https://@example.com/",
    "https://example.com@127.0.0.1/",
    "https://example.com:443@127.0.0.1/",
    "https://example.com／@127.0.0.1/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com\\.evil.example/",
    "https:\\\\example.com/",
    "https://example.com/a b",
    "https://example.com/a\tb",
    "https://example.com/\r\nHost: evil",
    "https://exam\nple.com/",
    "https://example.com/\x00",
    "https://example.com/\u2028",
    " https://example.com/",
    "https://example.com/ ",
    "https://exam%70le.com/",
    "https://example%2ecom/",
    "https://example.com:/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:999999/",
    "https://example.com:-1/",
    "https://example.com:+443/",
    "https://example.com:４４３/",
    "https://example.com:80:80/",
    "https://example..com/",
    "https://.example.com/",
    "https://example.com../",
    "https://./",
    "https://-example.com/",
    f"https://{'a' * 64}.com/",
    f"https://{'a.' * 127}com/",
    "https://exa_mple.com!/",
    "https://[::1/",
    "https://::1/",
    "https://[::1]x/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[v1.a]/",
    "https://[]/",
    "https://[1.2.3.4]/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0x7f.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://0177.0.0.1/",
    "http://127.0.0.01/",
    "http://1.2.3.4.5/",
    "http://256.256.256.256/",
    "http://4294967296/",
    "http://example.0x1/",
    "http://example.1/",
    "https://example.com℀/",
    "https://a\u00adb\ud800.com/",
    "https://example.com/\ud800",
    f"https://example.com/{'a' * MAX_URL_CHARS}",
    f"https://example.com/{'ü' * 1000}",
)
REFUSED_HOSTS = (
    "http://127.0.0.1/",
    "http://127.0.0.1./",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://a.localhost/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://１２７.0.0.1/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/",
    "http://0.0.0.0/",
)


@pytest.mark.parametrize("url", REFUSED_FORMS)
def test_a_url_that_two_programs_could_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(OutboundRefusedError):
        parse_url(url)


@pytest.mark.parametrize("url", REFUSED_HOSTS)
def test_a_host_that_is_an_address_is_judged_without_a_look_up(url: str) -> None:
    with pytest.raises(OutboundRefusedError, match="no public address"):
        check_url(url, BOTH)


@pytest.mark.parametrize(
    ("url", "full", "shown"),
    [
        ("https://example.com", "https://example.com/", "https://example.com/"),
        ("HTTPS://EXAMPLE.com.:443/a/../b", "https://example.com/a/../b", "https://example.com/a/../b"),
        ("https://example.com/v.mp4#t=10", "https://example.com/v.mp4", "https://example.com/v.mp4"),
        ("https://a.com#@b.com/", "https://a.com/", "https://a.com/"),
        ("https://a.com?@b.com/", "https://a.com/?@b.com/", "https://a.com/?..."),
        ("https://e.com:8443/a?X-Sig=s%2F3&b", "https://e.com:8443/a?X-Sig=s%2F3&b", "https://e.com:8443/a?..."),
        ("https://münchen.de/ä", "https://xn--mnchen-3ya.de/%C3%A4", "https://xn--mnchen-3ya.de/%C3%A4"),
        ("https://my_bucket.s3.example/x", "https://my_bucket.s3.example/x", "https://my_bucket.s3.example/x"),
        ("http://8.8.8.8:80/", "http://8.8.8.8/", "http://8.8.8.8/"),
        ("https://[2606:4700:0:0::1111]:444/", "https://[2606:4700::1111]:444/", "https://[2606:4700::1111]:444/"),
    ],
)
def test_a_url_has_one_form_that_is_called_and_one_that_is_shown(url: str, full: str, shown: str) -> None:
    parsed = check_url(url, BOTH)
    assert (parsed.full, parsed.shown, shown_url(url)) == (full, shown, shown)
    assert parse_url(parsed.full) == parsed


def test_what_is_no_url_is_shown_without_secrets_either() -> None:
    assert shown_url("https://user:secret@host/a?token=secret#secret") == "https://host/a"
    assert shown_url("nothing?secret") == "nothing"


def test_a_policy_names_schemes_and_hosts() -> None:
    only = OutboundPolicy(hosts=("cdn.example.com", "*.example.net"))
    assert check_url("https://cdn.example.com/a", only).host == "cdn.example.com"
    assert check_url("https://a.b.example.net/a", only).host == "a.b.example.net"
    for url in ("http://cdn.example.com/", "https://example.net/", "https://cdn.example.com.evil.example/"):
        with pytest.raises(OutboundRefusedError):
            check_url(url, only)
    with pytest.raises(OutboundRefusedError, match="fetches no URLs"):
        check_url("https://cdn.example.com/", OutboundPolicy(hosts=()))
    assert matches_host("anything.example", ("*",))
    assert not matches_host("evilexample.net", ("*.example.net",))
