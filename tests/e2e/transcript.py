"""Documents as transcripts: what their blocks say, a shell that does it, and whether the output is as shown."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, field

FENCE = Path(__file__).with_name("fence.py")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"# ([\w.-]+\.(?:yaml|py))\n")
_ID = r"\b(?:[0-9a-f]{64}|[0-9a-f]{16}|(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8})\b"
_SEQ = r"(?:(?<=\"seq\":)|(?<=\"seq\": )|(?<=^id: ))\d+"
_VARIES = re.compile(
    rf"(?P<any>…)|(?P<id>{_ID})|(?P<seq>{_SEQ})|(?P<date>\d{{4}}-\d\d-\d\d)"
    r"|(?P<clock>\d\d:\d\d:\d\d(?:\.\d+)?)|(?P<span>\d+\.\d s\b)|(?P<place>(?<= )\d+\.\d+(?= ))"
    r"|(?P<blanks> {2,}|(?<= )-(?= ))"
)
_PATTERNS = {
    "any": ".*?",
    "date": r"\d{4}-\d\d-\d\d",
    "clock": r"\d\d:\d\d:\d\d(?:\.\d+)?",
    "span": r"\d+\.\d s",
    "place": r"\d+\.\d+",
    "blanks": " *-? *",
}


class Block(Struct, frozen=True):
    """A fenced block of a document: its language, text, and the line at which the text begins."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, if its first line says so in a comment."""
        named = _NAMED.match(self.text)
        return named[1] if named else None


class Step(Struct, frozen=True):
    """A command of a document, and the lines that it shows below."""

    command: str
    shown: list[str] = field(default_factory=list)
    line: int = 0


def blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a document in their order."""
    for found in _BLOCK.finditer(text):
        yield Block(found[1], found[2], text.count("\n", 0, found.start()) + 2)


def steps(block: Block) -> list[Step]:
    """Return the commands of a console block; a line that begins with `> ` continues the command above."""
    found: list[Step] = []
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            found.append(Step(line[2:], [], number))
        elif line.startswith("> ") and not found[-1].shown:
            found[-1] = Step(f"{found[-1].command}\n{line[2:]}", [], found[-1].line)
        else:
            found[-1].shown.append(line)
    return found


class Names:
    """The ids that a document shows, and what they are in this run."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def known(self, shown: str) -> str | None:
        """Return what a shown id, the beginning of one, or a sequence is in this run; None before it is known."""
        if shown.isdecimal():
            return self._real.get(shown)
        for name, real in self._real.items():
            if name.startswith(shown):
                return real[: len(shown)]
        return None

    def bind(self, shown: str, real: str) -> None:
        """Note that a shown id stands for a real one."""
        self._real[shown] = real

    def pattern(self, shown: str) -> str:
        """Return a pattern for a shown id."""
        if real := self.known(shown):
            return re.escape(real)
        if shown.isdecimal():
            return r"\d+"
        begins = max((name for name in self._real if shown.startswith(name)), key=len, default="")
        return re.escape(self._real.get(begins, "")) + f"[0-9a-f]{{{len(shown) - len(begins)}}}"

    def real(self, command: str) -> str:
        """Return a command with the ids of this run in place of the shown ones."""
        return re.sub(r"\b[0-9a-f]{8,64}\b|(?<=after=)\d+", lambda word: self.known(word[0]) or word[0], command)


def matches(shown: list[str], output: str, names: Names) -> bool:
    """Whether an output is what a document shows, its ids being those of this run.

    `…` stands for anything within a line, alone for any number of lines. Ids, sequences, times, spans, places of
    events and the widths of columns may differ, but what is the same id in the document must be so in the output.
    """
    ids: list[str] = []
    # What a line took is never given back: tried in all combinations, lines that vary would take hours to refuse.
    pattern = "".join("(?:.*\n)*?" if line == "…" else f"(?>{_pattern(line, names, ids)}\n)" for line in shown)
    found = re.fullmatch(pattern, output)
    if found is None:
        return False
    for name, real in zip(ids, found.groups(), strict=True):
        names.bind(name, real)
    return True


def _pattern(line: str, names: Names, ids: list[str]) -> str:
    parts, at = [], 0
    for varying in _VARIES.finditer(line):
        parts.append(re.escape(line[at : varying.start()]))
        at = varying.end()
        if varying.lastgroup in ("id", "seq"):
            word = varying[0]
            earlier = next((index for index, name in enumerate(ids) if name == word), None)
            parts.append(f"({names.pattern(word)})" if earlier is None else f"(?:\\{earlier + 1})")
            ids += [word] if earlier is None else []
        else:
            parts.append(_PATTERNS[varying.lastgroup or ""])
    return "".join([*parts, re.escape(line[at:])])


class Shell:
    """A bash that is given one command after the other; leaving it ends everything that was started in it."""

    def __init__(self, folder: Path, environment: dict[str, str], patience: float) -> None:
        self._step = folder.with_name(f"{folder.name}.step")
        self._end = f"end of step {uuid.uuid4()}"
        self._bash = subprocess.Popen(
            [sys.executable, str(FENCE), "bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self._alarm = threading.Timer(patience, self._bash.terminate)

    def __enter__(self) -> Shell:
        self._alarm.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.close()
        self._bash.stdout.close()
        self._bash.wait()
        self._alarm.cancel()
        self._alarm.join()

    def run(self, command: str, lines: int = 0) -> str:
        """Return a command's output; of one that ends with `&`, its first `lines` lines once they are there."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        if command.endswith("&"):
            command = f"exec {{output}}< <(exec {command[:-1]} 2>&1)\n{_ECHO * lines}"
        self._step.write_text(command, encoding="utf-8")
        self._bash.stdin.write(
            f"source '{self._step}' < /dev/null; status=$?; printf '\\n{self._end}\\n'; (exit $status)\n"
        )
        self._bash.stdin.flush()
        reported: list[str] = []
        while (line := self._bash.stdout.readline()) != f"{self._end}\n":
            if not line:
                raise AssertionError(f"the shell ended, or time was up, in: {command}\n{''.join(reported)}")
            reported.append(line)
        output = "".join(reported)[:-1]  # less the line end before the mark
        return output if output.endswith("\n") or not output else f"{output}\n"


_ECHO = 'IFS= read -r -u "$output" line && echo "$line"\n'
