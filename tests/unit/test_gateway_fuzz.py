"""Whatever a command holds, it is answered with a reason, and nobody is asked to send the same again."""

# ruff: noqa: E501
from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import msgspec
from office import CHAIN, opened
from seed import SEED

from trackbook.runtime.commands.requests import REQUESTS

UNDECODABLE = (
    b"\xff\xfe", b"\xef\xbb\xbf{}", b"\0", b"{", b"[", b"nope", b"NaN", b"{" * 100_000, b"[" * 100_000, b'{"a":' * 50_000,
    b'{"command_id": "\\ud800"}', b'{"command_id": ' + b"9" * 5000 + b"}", b'{"x": 1e999}', b"\x1f\x8b\x08\x00", b'"\xc3"',
    b"[]", b"null", b"1", b'"a"', b'{"command_id": null, "actor": 7}', b"{}" * 2,
)  # fmt: skip
HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, 2**63 - 1, 2**63, 10**30, 1.5, 1e308, "", "\0", "a\0b", "é", "\u202e", "../..", "x" * 70_000,
    "chain", "chain@1", "chain@99999999999999999999", "1", [], {}, [None], [[]], {"": ""}, {"\0": 1}, {"a": {"b": {}}}, [1] * 999,
    "2026-01-31T12:00:00Z", "9999-12-31T23:59:59-23:59", "name: p\ntasks: [", "a: &a [*a]", "{" * 9_000,
    "tasks:\n- {name: a, command: 1}\n", [{"type": "x"}], [{"op": "add_task"}],
)  # fmt: skip
_ROUNDS = 300


async def test_what_cannot_be_decoded_is_rejected_with_a_reason(tmp_path: Path) -> None:
    """Each command says what is wrong with such a payload."""
    office = await opened(tmp_path)

    for kind, verb in REQUESTS:
        for payload in UNDECODABLE:
            reply = await office.gateway.handle(kind, verb, payload, "nats")
            error = reply.get("error") or {}

            assert (reply["status"], bool(error.get("message"))) == ("rejected", True), (kind, verb, payload[:40])
            assert error["code"] in ("invalid_json", "invalid_payload"), (kind, verb, payload[:40], error)
    await office.close()


async def test_no_field_of_a_command_is_a_fault_of_the_server(tmp_path: Path) -> None:
    """What is out of range is refused: `unavailable` would say that it might work later."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN)
    draw = Random(SEED)

    for (kind, verb), request in REQUESTS.items():
        fields = [field.encode_name for field in msgspec.structs.fields(request)]
        for _ in range(_ROUNDS):
            asked = {name: draw.choice(HOSTILE) for name in fields if draw.random() < 0.3}
            if "pipeline" in fields and draw.random() < 0.5:
                asked["pipeline"] = "chain"
            payload = msgspec.json.encode(asked)
            reply = await office.gateway.handle(kind, verb, payload, "nats")

            code = (reply.get("error") or {}).get("code")
            assert code != "unavailable", (kind, verb, {k: str(v)[:60] for k, v in asked.items()}, reply)
    await office.close()
