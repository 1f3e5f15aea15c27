"""The signature of requests to a cluster."""

from __future__ import annotations

from datetime import UTC, datetime

from trackbook.adapters.backendai.api.signing import sign

DATE = datetime(2026, 11, 23, 14, 50, tzinfo=UTC)
KEYS = ("AKIASIMUSER000000001", "sim-user--secret-0000000000000000000001b")


def test_the_vector_that_a_manager_took() -> None:
    """A manager 23.09.10 answered 200 to exactly these headers."""
    headers = sign("GET", "/scaling-groups?group=default", "127.0.0.1:28010", DATE, *KEYS)

    assert headers == {
        "Date": "2026-11-23T14:50:00+00:00",
        "Content-Type": "application/json",
        "X-BackendAI-Version": "v7.20230615",
        "Authorization": "BackendAI signMethod=HMAC-SHA256, credential=AKIASIMUSER000000001:"
        "499acf31c0320eaa356b8629b2e46bfb2acd33e6c8f1b93fe02e5bf3fc647677",
    }


def test_whatever_is_signed_counts() -> None:
    """Method, path, query, host and date each change the signature, and the secret never shows."""
    asked = [
        ("GET", "/a", "h:1", DATE),
        ("POST", "/a", "h:1", DATE),
        ("GET", "/b", "h:1", DATE),
        ("GET", "/a?x=%20", "h:1", DATE),
        ("GET", "/a?x=+", "h:1", DATE),
        ("GET", "/a", "h:2", DATE),
        ("GET", "/a", "h:1", DATE.replace(microsecond=1)),
    ]

    signed = [sign(*each, *KEYS) for each in asked]

    assert len({headers["Authorization"] for headers in signed}) == len(asked)
    assert all(KEYS[1] not in str(headers) for headers in signed)
