"""The checker finds each violation in a stream that was doctored, and none in one that is sound."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checker import check as checker
from checker.check import check, main
from checker.doctored import (
    CANCEL,
    CANCELLED,
    CASES,
    FAILED,
    RAN,
    SUCCEEDED,
    TWO,
    DoctoredLog,
    asked,
    created,
    ended,
    launch,
    sound,
    task,
)


def test_a_sound_stream_passes() -> None:
    """A job that ran as it should, with its ledger, shows no violation."""
    assert check(sound().messages, RAN) == []


def test_a_failed_and_a_cancelled_job_pass() -> None:
    """A failure that stopped the rest, and a cancel that was confirmed, are sound as well."""
    stop, gone = task("TaskStopRequested", "c"), ended("Cancelled", "c")
    log = DoctoredLog().job(created(TWO), launch("a"), launch("c"))
    assert check(log.job(*ended("Failed", "a"), CANCEL, stop).job(*gone, FAILED).messages) == []
    log = DoctoredLog().job(created(TWO), launch("a"), launch("c"))
    log.job(CANCEL, task("TaskStopRequested", "a"), stop).job(*ended("Cancelled", "a"))
    assert check(log.job(*gone, CANCELLED).messages) == []


def lines(log: DoctoredLog, *ran: str, **options: Any) -> str:
    """Return what the checker says."""
    return "\n".join(check(log.messages, ran, **options))


@pytest.mark.parametrize("case", CASES)
def test_each_violation_is_found(case: str) -> None:
    """A stream or ledger that is doctored in one way is found out, in words that name the place."""
    log, ran, expected = CASES[case]
    assert expected in lines(log, *ran)


def test_what_is_removed_or_changed_is_found() -> None:
    """A message that is missing, moved, changed or unreadable breaks the sequence or the chain."""
    messages = sound().messages
    assert "I2 seq 4: follows 2" in "\n".join(check([*messages[:2], *messages[3:]], RAN))
    assert "I2 seq 2: follows 0" in check(messages[1:], RAN)
    seq, subject, data = messages[3]
    for changed in (data.replace(b'"c"', b'"x"'), data + b" "):
        doctored = [*messages[:3], (seq, subject, changed), *messages[4:]]
        assert "I3 seq 5: job j1 does not carry the hash" in "\n".join(check(doctored, RAN))
        assert "I3 seq 4: what was stored is gone or changed" in check(doctored, RAN, earlier=messages)
    elsewhere = [*messages[:3], (seq, "trackbook.evt.job.j2", data), *messages[4:]]
    assert "I2 seq 4: a commit of job j1 stands on trackbook.evt.job.j2" in check(elsewhere, RAN)
    for nonsense in (b"{", b"[]", b'{"kind": "job"}'):
        assert "I2 seq 1: not a commit that can be read" in check([(1, "t.evt.job.j1", nonsense)])[0]


def test_the_stream_must_contain_what_an_earlier_dump_held() -> None:
    """What was stored once is there for ever: a stream that grew is sound, and one cut short is not."""
    messages = sound().messages
    assert check(messages, RAN, earlier=messages[:4]) == []
    cut = check(messages[:5], RAN[:4], earlier=messages, running=True)
    assert cut == ["I3 seq 6: what was stored is gone or changed"]


def test_jobs_may_be_running_where_that_is_said() -> None:
    """A dump from the middle of a run passes with `running`, and only with it."""
    log = DoctoredLog().job(created(TWO), launch("a"))
    assert lines(log, running=True) == ""
    assert "I7" in lines(log)


def test_large_commits_stand_in_blobs(tmp_path: Path) -> None:
    """A body in a blob is read from a mapping or a directory, and a changed one is found."""
    body = json.dumps({"inputs": asked("k1"), "events": [created([]), SUCCEEDED], "causes": [0, -1]}).encode()
    digest = hashlib.sha256(body).hexdigest()
    log = DoctoredLog().job(blob={"sha256": digest, "size": len(body)}, inputs=[], causes=[])
    (tmp_path / digest).write_bytes(body)
    assert check(log.messages, blobs={digest: body}) == []
    assert check(log.messages, blobs=tmp_path) == []
    assert "the blob" in lines(log, blobs={digest: body + b" "})
    assert "the blob" in lines(log)


def _dump(path: Path, log: DoctoredLog) -> str:
    rows = ({"seq": s, "subject": u, "data": base64.b64encode(d).decode()} for s, u, d in log.messages)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_command_line_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script exits 0 on a sound run and 1 with the list of violations on another."""
    stream, ran = _dump(tmp_path / "stream.jsonl", sound()), tmp_path / "ledger"
    ran.write_text("\n".join(RAN) + "\n")
    assert main([stream, str(ran), "--blobs", str(tmp_path), "--earlier", stream]) == 0
    assert capsys.readouterr().out == "6 commits and 6 ledger lines: all invariants hold\n"
    ran.write_text("\n".join(RAN[:4]))
    script = subprocess.run(
        [sys.executable, checker.__file__, stream, str(ran)], capture_output=True, text=True, check=False
    )
    assert script.returncode == 1
    assert script.stdout == "I4 ledger j1 d attempt 1: it succeeded, without exactly one start and one end\n"


def test_the_checker_shares_nothing_with_the_engine() -> None:
    """The checker imports the standard library and nothing else."""
    tree = ast.parse(Path(checker.__file__).read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert {str(module).partition(".")[0] for module in modules} <= sys.stdlib_module_names
