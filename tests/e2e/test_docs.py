"""The documents tell the truth: their commands run, their pipelines load, their links lead somewhere."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transcript import Names, Shell, Step, blocks, matches, steps

from trackbook.adapters.local.spawner import Spawner
from trackbook.adapters.yaml.load import load
from trackbook.engine.definition import check
from trackbook.engine.fields import PIPELINE, Field
from trackbook.http.app import create_app

ROOT = Path(__file__).parents[2]
_FOLDERS = ("docs", "examples")
DOCUMENTS = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *(path for name in _FOLDERS for path in sorted((ROOT / name).rglob("*.md"))),
]
REFERENCE = ROOT / "docs" / "reference"
PATIENCE = 120.0  # seconds for a whole document; it takes a fraction of that
_RULES = ("rules", "findings", "fields")
SHOWN = "127.0.0.1:9500"
_LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)(?:#[^)]*)?\)")


def _name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def _with(language: str) -> list[Path]:
    return [path for path in DOCUMENTS if any(block.language == language for block in blocks(path.read_text()))]


class Machine:
    """A user's machine for one document: an empty home, a folder to work in, and a port in place of 9500."""

    def __init__(self, root: Path) -> None:
        self.home, self.folder, tools = root / "home", root / "work", root / "tools"
        for path in (self.home, self.folder, tools):
            path.mkdir()
        (self.folder / "examples").symlink_to(ROOT / "examples")
        if shutil.which("curl") is None:
            (tools / "curl").write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/e2e/curl.py "$@"\n')
            (tools / "curl").chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.names = Names()
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:{tools}",
            "HOME": str(self.home),
            "TRACKBOOK_DATA": str(self.home / ".local/share/trackbook"),
            "LOGNAME": "ann",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
        }

    def real(self, command: str) -> str:
        """Return a command as this machine needs it: with the ids of this run, and the port that is free here."""
        command = re.sub(r"\btrackbook up\b", f"trackbook up --http {SHOWN}", command)
        return self.names.real(command).replace(SHOWN, self.address)

    def shown(self, output: str) -> str:
        """Return an output as a document shows it."""
        return output.replace(self.address, SHOWN).replace(str(self.home), "/home/ann")


async def private_root() -> bool:
    """Whether sessions have /pipeline here."""
    spawner = Spawner(1, lambda: None)
    await spawner.start()
    await spawner.close()
    return spawner.offer.private_root


@pytest.mark.parametrize("document", _with("console"), ids=_name)
async def test_the_commands_of_a_document_print_what_it_shows(document: Path, tmp_path: Path) -> None:
    """Run in their order in one shell, all commands of a document print what stands below them."""
    if "=/pipeline/" in document.read_text() and not await private_root():
        pytest.skip("this kernel gives no private root, which the document shows")
    machine = Machine(tmp_path)
    with Shell(machine.folder, machine.environment, PATIENCE) as shell:
        for block in blocks(document.read_text()):
            if block.file:
                (machine.folder / block.file).write_text(block.text)
            elif block.language == "console":
                for step in steps(block):
                    _do(step, machine, shell, document)


def _do(step: Step, machine: Machine, shell: Shell, document: Path) -> None:
    output = machine.shown(shell.run(machine.real(step.command), len(step.shown)))
    if not matches(step.shown, output, machine.names):
        differences = difflib.unified_diff(step.shown, output.splitlines(), "document", "output", lineterm="")
        pytest.fail("\n".join([f"{_name(document)}:{step.line}: $ {step.command}", *differences]), pytrace=False)


@pytest.mark.parametrize("document", _with("yaml"), ids=_name)
def test_the_pipelines_of_a_document_load(document: Path) -> None:
    """Every YAML block that stands for a pipeline loads and is in order."""
    for block in blocks(document.read_text()):
        if block.language == "yaml":  # what is shown in order to be refused is `yml`
            content = load(block.text, f"{_name(document)}:{block.line}").content
            check(content | ({"code_sha256": "0" * 64} if "code" in content else {}))  # as its packer does


def test_the_reference_of_yaml_has_every_key_and_every_code() -> None:
    """Each key that is read, and each code of a refusal or a warning, stands on the page."""
    page = (REFERENCE / "yaml.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "trackbook/engine").glob("*.py") if path.stem in _RULES)
    reader = "".join(path.read_text() for path in (ROOT / "trackbook/adapters/yaml").glob("*.py"))
    codes = set(
        re.findall(r"(?:\.no|\.warn|Refused|Warned|Kind)\(\s*(?:\"[^\"]*\", )?\"([a-z]+_[a-z_]+)\"", source)
    )
    codes |= {f"yaml_{code}" for code in re.findall(r"_refused\(\s*\"([a-z_]+)\"", reader)}
    codes |= set(re.findall(r"\"(yaml_[a-z0-9_]+)\"", reader))

    assert {"bad_size", "retry_ignored", "yaml_merge_key", "yaml_not_utf8"} <= codes
    assert [key for key in (*_keys(PIPELINE), *codes) if not re.search(rf"\b{key}\b", page)] == []


def _keys(field: Field) -> Iterator[str]:
    yield from field.fields
    for inner in (*field.fields.values(), field.item):
        if inner is not None:
            yield from _keys(inner)


def test_the_guide_names_every_variable_that_is_read() -> None:
    """Each TRACKBOOK_… variable that the code looks up stands in the guide."""
    guide = (ROOT / "docs" / "guide.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "trackbook").rglob("*.py"))
    read = set(re.findall(r"env(?:iron)?(?:\.get\(|\[)\"(TRACKBOOK_[A-Z_]+)\"", source))

    assert {"TRACKBOOK_DATA", "TRACKBOOK_NATS_URL"} <= read
    assert sorted(name for name in read if name not in guide) == []


def test_the_reference_of_http_has_every_endpoint() -> None:
    """Each path of the OpenAPI document stands on the page."""
    nothing: Any = None
    schema = create_app(*[nothing] * 7, blobs=nothing, token="").app.openapi_schema
    page = (REFERENCE / "http.md").read_text()

    assert [path for path in schema.paths if f"`{path}`" not in page] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_the_links_of_a_document_lead_to_files(document: Path) -> None:
    """Every relative link names a file that is there."""
    links = [link for link in _LINK.findall(document.read_text()) if "://" not in link]

    missing = [link for link in links if not (document.parent / link).exists()]

    assert missing == []
