"""Checks of addresses, URLs and devices, and the masking of passwords."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobs.settings_values import (
    check_database_url,
    check_devices,
    check_redis_url,
    check_storage_url,
    mask_url,
    parse_bind,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:8000", "127.0.0.1", 8000), ("[::1]:1", "[::1]", 1), ("a-host.example:65535", "a-host.example", 65535)],
)
def test_an_address_has_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert parse_bind(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", ":", ":8000", "host", "host:", "host:x", "host:0", "host:65536", "[::1]", "[x]:80", "http://h:80"]
)
def test_another_text_is_not_an_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"^give "):
        parse_bind(text)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (check_database_url, "sqlite:////data/mmaudio.db"),
        (check_database_url, "postgresql+psycopg://u:p%40ss@host:5432/db?sslmode=require"),
        (check_redis_url, "redis://host"),
        (check_redis_url, "rediss://user:p@host:6380/2"),
        (check_storage_url, "file:///data/objects"),
        (check_storage_url, "s3://bucket/prefix"),
        (check_devices, "auto"),
        (check_devices, " cuda:0 , cpu,"),
    ],
)
def test_values_that_can_be_used_are_accepted(check: Callable[[str], str], text: str) -> None:
    assert check(text) == text


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (check_database_url, "sqlite://"),
        (check_database_url, "sqlite:///:memory:"),
        (check_database_url, "mysql://host/db"),
        (check_database_url, "postgresql://host/db"),
        (check_database_url, "postgresql+psycopg://host"),
        (check_database_url, "/data/mmaudio.db"),
        (check_redis_url, "host:6379"),
        (check_redis_url, "redis://"),
        (check_redis_url, "redis://host:66000"),
        (check_redis_url, "redis://host/name"),
        (check_redis_url, "amqp://host"),
        (check_storage_url, "/data"),
        (check_storage_url, "file://data/objects"),
        (check_storage_url, "s3://"),
        (check_storage_url, "gs://bucket"),
        (check_devices, ""),
        (check_devices, "auto,cpu"),
        (check_devices, "cuda"),
        (check_devices, "cpu:0,cpu:0"),
    ],
)
def test_values_that_cannot_be_used_are_refused(check: Callable[[str], str], text: str) -> None:
    with pytest.raises(ValueError, match=r"^give "):
        check(text)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:hunter2@host:6379/0", "redis://:***@host:6379/0"),
        ("postgresql+psycopg://u:hunt@er/2@host/db", "postgresql+psycopg://u:***@host/db"),
        ("https://key:hunter2@sqs.example/1/q", "https://key:***@sqs.example/1/q"),
        ("postgresql+psycopg://h/db?user=u&password=hunter2", "postgresql+psycopg://h/db?user=u&password=***"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("127.0.0.1:8000", "127.0.0.1:8000"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, masked: str) -> None:
    assert mask_url(text) == masked
