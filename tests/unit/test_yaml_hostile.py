"""YAML that means harm, read in a process of its own with little memory: it never crashes, hangs or explodes."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as for_all
from hypothesis import strategies as st
from pipeline_stories import DEFAULTS, EARLY, NEWEST

CHILD = Path(__file__).parent / "yaml_child.py"
PATIENCE = 60
"""Seconds until silence counts as a hang, on a machine that is busy with other things."""
SECONDS = 8
"""Of the processor, for the worst text of 8 MiB."""
FULL = 8 * 1024 * 1024 - 64


class Child:
    """The reading process; a new one where the last one died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def asked(self, data: bytes) -> dict[str, Any]:
        """Return the verdict on a text; fails the test where none comes."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, str(CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{len(data)}\n".encode() + data)
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self.close()
            pytest.fail("the reader hangs")
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr
            pytest.fail(f"the reader died: {self._process.stderr.read()[-500:].decode()} {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    """A reading process for all tests here."""
    child = Child()
    yield child
    child.close()


def _of(piece: str, size: int = FULL) -> str:
    return piece * (size // len(piece.encode()))


_LAUGHS = "".join(f"b{index}: &b{index} [{', '.join([f'*b{index - 1}'] * 10)}]\n" for index in range(1, 20))
_MERGES = "".join(f"m{index}: &m{index}\n  <<: [{', '.join([f'*m{index - 1}'] * 9)}]\n" for index in range(1, 9))
_NESTED = "".join("  " * level + "k:\n" for level in range(2_000))

_TRAPS = {
    "many brackets": _of("["),
    "many braces": _of("{"),
    "many braces with keys": _of("{a: "),
    "many brackets with values": _of("[a, "),
    "many dashes": _of("- "),
    "many question marks": _of("? "),
    "deep blocks": _NESTED,
    "deep list of anchors": _of("&a [", 400_000),
    "laughs": f"b0: &b0 [lol]\n{_LAUGHS}",
    "laughs of text": f"name: p\na: &a {'x' * 200_000}\nb: &b [{'*a, ' * 50}]\nc: [{'*b, ' * 50}]\n",
    "merge keys": f"m0: &m0 {{a: 1}}\n{_MERGES}",
    "itself": "a: &a [*a]\n",
    "many values": "a: [" + _of("x,") + "]",
    "many empty lists": "a: [" + _of("[],") + "]",
    "many lines": "a:\n" + _of("- x\n"),
    "many keys": "".join(f"k{index}: 1\n" for index in range(600_000)),
    "many equal keys": _of("a: 1\n"),
    "many anchors": "a: [" + "".join(f"&a{index} x, " for index in range(400_000)) + "]",
    "many aliases": "a: &a x\nb: [" + _of("*a, ") + "]",
    "one long text": "a: " + _of("x"),
    "one long key": _of("x") + ": 1",
    "one long explicit key": "? " + _of("x") + "\n: 1",
    "one long quoted text": 'a: "' + _of("x y\\n") + '"',
    "one long folded text": "a: >\n" + _of("  x\n"),
    "one long block": "a: |\n" + _of("  x\n"),
    "one long plain text of lines": "a: x\n" + _of("  x\n"),
    "a number of 4,300 digits and more": "tasks: " + "9" * 100_000,
    "a long number": "cluster_size: " + "9" * 4_301 + "\nx: " + "1" * 4_301 + "." + "1" * 4_301,
    "bad dates": "a: 2026-02-30\nb: 2026-13-45T99:99:99Z\nc: 0000-00-00\n",
    "sexagesimals": "a: " + "1:" * 50_000 + "1",
    "line ends only": _of("\n"),
    "spaces only": _of(" "),
    "comments only": _of("#\n"),
    "tabs only": _of("\t"),
    "documents": _of("---\n"),
    "ends of documents": _of("...\n"),
    "directives": _of("%YAML 1.1\n"),
    "strange directives": _of("%TAG ! tag:x,2000:\n"),
    "tags": "a: " + _of("!x "),
    "colons": _of(":"),
    "key after key": _of("a: "),
    "quotes": _of("'"),
    "backslashes": 'a: "' + _of("\\") + '"',
    "tasks without anything": "tasks: [" + _of("{},") + "]",
    "tasks with one name": "tasks: [" + _of("{name: a},") + "]",
    "tasks with unknown dependencies": "name: p\ntasks:\n"
    + "".join(f"- {{name: t{index}, command: x, dependencies: [u{index}]}}\n" for index in range(20_000)),
    "a ring": "name: p\ntasks:\n"
    + "".join(f"- {{name: t{n}, command: x, dependencies: [t{(n + 1) % 20_000}]}}\n" for n in range(20_000)),
    "near misses": "name: p\ntasks:\n" + "".join(f"- {{name: t{n}, comand{n}: x}}\n" for n in range(20_000)),
    "all depend on all": "name: p\ntasks:\n"
    + "".join(
        f"- {{name: t{n}, command: x, dependencies: [{', '.join(f't{m}' for m in range(n))}]}}\n"
        for n in range(800)
    ),
}


@pytest.mark.parametrize("name", _TRAPS)
def test_traps_are_refused_or_read_in_time(child: Child, name: str) -> None:
    """Each known trap, at full size, gets a verdict within seconds and little memory."""
    answer = child.asked(_TRAPS[name].encode())

    assert "refused" in answer or answer["same"]
    assert answer["seconds"] < SECONDS


_pieces = st.sampled_from(
    (
        *"[]{}:,-?&*!|>'\"%@`#\n\t \\~=<",
        *(
            "\r\n",
            "\x00",
            "\x85",
            "\u2028",
            "\ufeff",
            "\ud7ff",
            "<<: ",
            "*a",
            "&a ",
            "!!str ",
            "!!int ",
            "--- ",
            "...\n",
        ),
        *(
            "- name: ",
            "tasks:\n",
            "dependencies: [",
            "  command: ",
            "012",
            "1e3",
            "no",
            "2026-02-30",
            "name: p\n",
            "\\x41",
        ),
        *(
            "resources: {mem: ",
            "cuda.shares",
            "16g",
            "environment:\n  envs:\n    ",
            "${{ secrets.A }}",
            "\\ud83d\\ude00",
        ),
    )
)
_texts = st.lists(_pieces | st.text(max_size=5), max_size=60).map("".join)


@for_all(_texts)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_gets_a_verdict(child: Child, text: str) -> None:
    """Whatever is made of YAML's own pieces is refused, or read and written again without loss."""
    answer = child.asked(text.encode())

    assert "refused" in answer or answer["same"]


@for_all(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_get_a_verdict(child: Child, data: bytes) -> None:
    """Bytes of no encoding at all are refused, or read."""
    answer = child.asked(data)

    assert "refused" in answer or answer["same"]


@st.composite
def _damaged(draw: st.DrawFn) -> str:
    """Return a good file with pieces cut out, doubled or put in."""
    text = draw(st.sampled_from((NEWEST, DEFAULTS, EARLY)))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 40)))
        text = text[:start] + draw(st.just("") | _pieces | st.just(text[start:end] * 2)) + text[end:]
    return text


@for_all(_damaged())
@settings(max_examples=400, deadline=None)
def test_damaged_files_get_a_verdict_with_a_place(child: Child, text: str) -> None:
    """A good file that was damaged is refused with a line, or read and written again without loss."""
    answer = child.asked(text.encode())

    assert answer.get("line") or answer.get("same")
