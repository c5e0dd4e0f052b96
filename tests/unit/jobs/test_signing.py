"""Signed links: one fits its method, path and time, and nothing else."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.storage.signing import LinkSigner

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SIGNER = LinkSigner(b"k" * 32)
PATH = "/v1/jobs/job_1/artifacts/audio.flac"


def signed(method: str = "GET", path: str = PATH, *, signer: LinkSigner = SIGNER, ttl_s: float = 60) -> tuple[str, str]:
    """Return expiry and signature of a link, as a server reads them from its query."""
    query = parse_qs(signer.query(method, path, NOW + timedelta(seconds=ttl_s)), strict_parsing=True)
    (expires,), (signature,) = query["expires"], query["signature"]
    return expires, signature


def test_a_signed_link_is_valid_until_it_expires() -> None:
    expires, signature = signed(ttl_s=60)
    for after_s, valid in [(0, True), (59.9, True), (60, False), (60.1, False), (10**6, False)]:
        now = NOW + timedelta(seconds=after_s)
        assert SIGNER.is_valid("GET", PATH, expires, signature, now=now) is valid, after_s


def test_a_part_of_a_second_never_makes_a_link_last_longer() -> None:
    expires, signature = signed(ttl_s=60.9)
    assert SIGNER.is_valid("GET", PATH, expires, signature, now=NOW + timedelta(seconds=59.9))
    assert not SIGNER.is_valid("GET", PATH, expires, signature, now=NOW + timedelta(seconds=60.9))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", PATH),
        ("get", PATH),
        ("", PATH),
        ("GET", PATH + "/"),
        ("GET", PATH.upper()),
        ("GET", PATH.replace("job_1", "job_2")),
        ("GET", PATH.replace("audio.flac", "video.mp4")),
        ("GET", ""),
    ],
)
def test_a_link_does_not_fit_another_method_or_path(method: str, path: str) -> None:
    assert not SIGNER.is_valid(method, path, *signed(), now=NOW)


@given(st.text(max_size=40))
def test_a_link_fits_its_own_path_alone_whatever_the_other_is(other: str) -> None:
    path = f"/v1/{other}"
    assert SIGNER.is_valid("GET", path, *signed(path=path), now=NOW)
    assert not SIGNER.is_valid("GET", path, *signed(path=path + "x"), now=NOW)


@pytest.mark.parametrize("moved_s", [-1, 1, 10**6])
def test_an_expiry_that_was_moved_is_refused(moved_s: int) -> None:
    expires, signature = signed()
    assert not SIGNER.is_valid("GET", PATH, str(int(expires) + moved_s), signature, now=NOW)


@pytest.mark.parametrize("expires", ["", "-1", "1e12", "1.5", " 1", "1_0", "0x1", "٣", "²", "9" * 13, "9" * 5000])
def test_an_expiry_that_is_no_plain_number_is_refused_and_no_error(expires: str) -> None:
    assert not SIGNER.is_valid("GET", PATH, expires, signed()[1], now=NOW)


@pytest.mark.parametrize("place", [0, 31, 63])
def test_a_signature_with_one_other_digit_is_refused(place: int) -> None:
    expires, signature = signed()
    other = "0" if signature[place] != "0" else "1"
    forged = signature[:place] + other + signature[place + 1 :]
    assert not SIGNER.is_valid("GET", PATH, expires, forged, now=NOW)


def test_a_signature_of_another_form_is_refused_and_no_error() -> None:
    expires, signature = signed()
    for forged in ("", signature[:-1], signature + "0", signature.upper(), f" {signature}", "ü" * 64, "\x00"):
        assert not SIGNER.is_valid("GET", PATH, expires, forged, now=NOW), forged


def test_signatures_of_different_secrets_differ_and_do_not_open_each_others_links() -> None:
    other = LinkSigner(b"o" * 32)
    expires, signature = signed(signer=other)
    assert signature != signed()[1]
    assert not SIGNER.is_valid("GET", PATH, expires, signature, now=NOW)
    assert other.is_valid("GET", PATH, expires, signature, now=NOW)


def test_the_same_link_is_signed_the_same_way_by_every_process() -> None:
    assert SIGNER.query("GET", PATH, NOW) == LinkSigner(SIGNER.key).query("GET", PATH, NOW)


@pytest.mark.parametrize("forged", [False, True])
def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, forged: bool) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def spy(expected: bytes, given: bytes) -> bool:
        compared.append((expected, given))
        return compare(expected, given)

    monkeypatch.setattr("jobs.storage.signing.hmac.compare_digest", spy)
    expires, signature = signed()
    came = "0" * 64 if forged else signature
    assert SIGNER.is_valid("GET", PATH, expires, came, now=NOW) is not forged
    assert compared == [(signature.encode(), came.encode())]


def test_the_secret_is_not_in_what_is_logged_of_a_signer() -> None:
    assert "kkk" not in repr(SIGNER)


def test_a_link_of_an_older_key_is_accepted_and_the_first_key_signs() -> None:
    expires, signature = signed()
    rotated = LinkSigner(b"n" * 32, (SIGNER.key,))
    assert rotated.is_valid("GET", PATH, expires, signature, now=NOW)
    assert not SIGNER.is_valid("GET", PATH, *signed(signer=rotated), now=NOW)
    assert not LinkSigner(b"n" * 32).is_valid("GET", PATH, expires, signature, now=NOW)


def test_a_link_is_for_its_tenant_alone() -> None:
    query = parse_qs(SIGNER.query("GET", PATH, NOW + timedelta(seconds=60), tenant="a b"), strict_parsing=True)
    (expires,), (signature,), (tenant,) = query["expires"], query["signature"], query["tenant"]
    assert tenant == "a b"
    assert SIGNER.is_valid("GET", PATH, expires, signature, now=NOW, tenant="a b")
    for other in ("", "a", "A B"):
        assert not SIGNER.is_valid("GET", PATH, expires, signature, now=NOW, tenant=other)
