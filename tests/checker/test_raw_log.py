"""The reader of raw streams finds each damage of a store that was made by hand, and none in a sound one."""

from __future__ import annotations

import ast
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import StreamConfig

from checker import raw_log
from checker.doctored import DoctoredLog
from checker.raw_log import BLOBS, EVENTS, Report, examine

BODY = b"x" * 1000
BODY_SHA256 = hashlib.sha256(BODY).hexdigest()
CREATED = {"type": "PipelineCreated"}
EDITED = {"type": "PipelineEdited"}
PAIR = ["name/n/1", "pipeline/q/1"]


def sound() -> DoctoredLog:
    """Return a log of two pipelines, one with a large body, and a batch of two."""
    log = DoctoredLog()
    log.commit("pipeline", "p", CREATED).commit("pipeline", "p", EDITED)
    log.commit("pipeline", "p", blob={"sha256": BODY_SHA256, "size": len(BODY)})
    log.commit("name", "n", {"type": "NameTaken"}, batch=PAIR).commit("pipeline", "q", CREATED, batch=PAIR)
    return log.commit("pipeline", "q", EDITED)


async def store(
    data: Path, messages: Iterable[tuple[int, str, bytes]], *, missing: Iterable[int] = (), blob: bytes = BODY
) -> None:
    """Write a data directory's streams with a server of its own, without the messages that are missing."""
    folder = data / "broker" / "store"
    folder.mkdir(parents=True)
    server, port = raw_log._start(data, folder)
    try:
        connection = await raw_log._connect(port)
        context = connection.jetstream()
        await context.add_stream(StreamConfig(name=EVENTS, subjects=["trackbook.evt.>"]))
        await context.add_stream(StreamConfig(name=BLOBS, subjects=["trackbook.blob.>"]))
        for _, subject, message in messages:
            await context.publish(subject, message)
        await context.publish(f"trackbook.blob.{BODY_SHA256}.0", blob)
        for seq in missing:
            await context.delete_msg(EVENTS, seq)
        await connection.close()
    finally:
        server.terminate()
        server.wait()


def witness(data: Path, seq: int, sha256: str, *, checksum: int | None = None) -> None:
    """Write a witness with one head."""
    text = json.dumps({"head": {"seq": seq, "sha256": sha256}}).encode()
    value = zlib.crc32(text) if checksum is None else checksum
    (data / "witness.log").write_bytes(b"%08x %s\n" % (value, text))


def test_the_reader_imports_nothing_of_trackbook() -> None:
    """A mistake of the engine can't be the reader's too."""
    tree = ast.parse(Path(raw_log.__file__).read_text())
    names = [each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in names if name.split(".")[0] == "trackbook"]


async def test_a_sound_store_passes(tmp_path: Path) -> None:
    """A log with a large body, a batch and a witness that lags behind shows nothing wrong."""
    messages = sound().messages
    await store(tmp_path, messages)
    witness(tmp_path, 5, hashlib.sha256(messages[4][2]).hexdigest())
    report = await examine(tmp_path)
    assert (report.wrong, report.remarks, len(report.events)) == ([], [], len(messages))


Doctor = Callable[[], DoctoredLog]


def _with(kind: str, name: str, **rest: Any) -> Doctor:
    return lambda: sound().commit(kind, name, EDITED, **rest)


def _raw(subject: str, message: bytes) -> Doctor:
    def make() -> DoctoredLog:
        log = sound()
        log.messages.append((7, subject, message))
        return log

    return make


def _moved() -> DoctoredLog:
    log = sound()
    seq, _, message = log.messages[5]
    log.messages[5] = (seq, "trackbook.evt.pipeline.p", message)
    return log


DOCTORED: dict[str, tuple[Doctor, str]] = {
    "garbage": (_raw("trackbook.evt.job.j", b"\x00\xff{"), "sequence 7 is no commit"),
    "empty": (_raw("trackbook.evt.job.j", b""), "sequence 7 is no commit"),
    "deep": (_raw("trackbook.evt.job.j", b"[" * 5000 + b"]" * 5000), "sequence 7 is no commit"),
    "a list": (_raw("trackbook.evt.job.j", b"[]"), "sequence 7 is no commit"),
    "schema 99": (_with("pipeline", "p", schema=99), "sequence 7, pipeline/p: schema 99"),
    "version 7 of nothing": (_with("job", "j", version=7), "version 7 after 0"),
    "the same version again": (_with("pipeline", "p", version=3), "version 3 after 3"),
    "wrong prev": (_with("pipeline", "p", prev="0" * 64), "another hash of the commit before"),
    "another subject": (_moved, "it is on trackbook.evt.pipeline.p"),
    "no events": (lambda: sound().commit("pipeline", "p"), "no events"),
    "half of a batch": (_with("name", "m", batch=["name/m/1", "pipeline/r/1"]), "half of an atomic batch of 2"),
    "a body that is not stored": (
        lambda: sound().commit("pipeline", "p", blob={"sha256": "0" * 64, "size": 1}),
        "the body " + "0" * 64 + " is missing",
    ),
}


@pytest.mark.parametrize("name", DOCTORED)
async def test_each_doctored_log_is_found(name: str, tmp_path: Path) -> None:
    """One rule broken by the last message is the one thing that is wrong."""
    doctor, expected = DOCTORED[name]
    await store(tmp_path, doctor().messages)
    report = await examine(tmp_path)
    assert len(report.wrong) == 1, report.wrong
    assert expected in report.wrong[0]


async def test_a_missing_sequence_is_found_with_what_can_not_follow(tmp_path: Path) -> None:
    """A hole is named, and so is the commit behind it; the reader continues after both."""
    await store(tmp_path, sound().messages, missing=[2])
    report = await examine(tmp_path)
    assert report.wrong[0] == f"{EVENTS}: sequence 2 is missing"
    assert "pipeline/p: version 3 after 1" in report.wrong[1]
    assert sorted(report.events) == [1, 3, 4, 5, 6]


async def test_half_of_a_batch_is_found_by_the_member_that_is_left(tmp_path: Path) -> None:
    """A name whose pipeline was lost is half of a batch."""
    await store(tmp_path, sound().messages[:4])
    assert (await examine(tmp_path)).wrong == ["sequence 4: half of an atomic batch of 2"]


async def test_a_damaged_body_is_found(tmp_path: Path) -> None:
    """A body whose bytes don't have its name's digest is not whole, and missing to the commit that names it."""
    await store(tmp_path, sound().messages, blob=BODY[:-1])
    wrong = (await examine(tmp_path)).wrong
    assert wrong == [f"blob {BODY_SHA256} is not whole", f"sequence 3: the body {BODY_SHA256} is missing"]


async def test_a_witness_beyond_the_end_or_of_another_message_is_found(tmp_path: Path) -> None:
    """The witness tells of a lost end and of a replaced message; a damaged line of it is a remark."""
    await store(tmp_path, sound().messages)
    witness(tmp_path, 9, "0" * 64)
    assert (await examine(tmp_path)).wrong == ["the witness knows sequence 9, the log ends at 6"]
    witness(tmp_path, 6, "0" * 64)
    assert (await examine(tmp_path)).wrong == ["sequence 6 is not the message that the witness knows"]
    witness(tmp_path, 9, "0" * 64, checksum=1)
    report = await examine(tmp_path)
    assert (report.wrong, report.remarks[0]) == ([], "witness: line 1 is damaged")


async def test_a_lost_end_is_distinguished_from_an_earlier_report(tmp_path: Path) -> None:
    """What an earlier reading had, and this one has not, is lost; without a witness nothing else shows it."""
    messages = sound().messages
    earlier = Report(events={seq: (subject, data) for seq, subject, data in messages})
    await store(tmp_path, messages[:5])
    report = await examine(tmp_path)
    assert (report.wrong, report.lost(earlier)) == ([], ["event 6"])
