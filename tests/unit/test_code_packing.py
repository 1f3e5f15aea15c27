"""What `code: FOLDER` packs: the same bytes for the same files, what Git would track, and refusals in words."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from trackbook.adapters.execution import code_archive as archives
from trackbook.cli.errors import CliError
from trackbook.cli.transfer import code_archive

Files = dict[str, str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of code."""
    path = tmp_path / "project"
    path.mkdir()
    return path


def write(folder: Path, files: Files) -> None:
    """Write files by their paths."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def packed(folder: Path, *left_out: Path) -> tuple[str, bytes]:
    """Pack a folder and return the hash and the archive."""
    file = io.BytesIO()
    with_file = os.fspath(folder)
    sha256 = code_archive.pack(Path(with_file), code_archive.scan(folder, left_out), file)
    return sha256, file.getvalue()


def names(folder: Path, *left_out: Path) -> list[str]:
    """Return the names of the files that are packed."""
    return [entry.name for entry in code_archive.scan(folder, left_out) if not entry.is_folder]


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    """Neither times, nor the order of creation, nor the folder's place, nor other rights change the archive."""
    one, other = tmp_path / "one", tmp_path / "two" / "deep"
    write(one, {"a.py": "1", "b/c.py": "2", "run.sh": "x"})
    write(other, {"run.sh": "x", "b/c.py": "2", "a.py": "1"})
    (one / "run.sh").chmod(0o755)
    (other / "run.sh").chmod(0o711)
    (other / "a.py").chmod(0o600)
    os.utime(other / "a.py", (1, 1))

    assert packed(one) == packed(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.py").write_text("2"),
        lambda folder: (folder / "a.py").chmod(0o755),
        lambda folder: (folder / "a.py").rename(folder / "b.py"),
        lambda folder: (folder / "new").write_text(""),
        lambda folder: (folder / "link").symlink_to("a.py"),
    ],
)
def test_any_change_gives_another_hash(folder: Path, change: Callable[[Path], object]) -> None:
    """Content, the right to run a file, a name, a new file and a link are parts of the code."""
    write(folder, {"a.py": "1"})
    before, _ = packed(folder)

    change(folder)

    assert packed(folder)[0] != before


def test_what_is_packed_can_be_unpacked(folder: Path, tmp_path: Path) -> None:
    """Files, rights to run them, links and names in any script arrive as they were."""
    write(
        folder, {"a.py": "print()", "b/ö 名.txt": "text", f"{'long/' * 40}file": "deep", "run.sh": "#!/bin/sh\n"}
    )
    (folder / "run.sh").chmod(0o755)
    (folder / "b" / "up").symlink_to("../a.py")

    archives.unpack(io.BytesIO(packed(folder)[1]), tmp_path / "copy")

    copy = tmp_path / "copy"
    assert (copy / "b/ö 名.txt").read_text() == "text"
    assert (copy / f"{'long/' * 40}file").read_text() == "deep"
    assert os.access(copy / "run.sh", os.X_OK)
    assert not os.access(copy / "a.py", os.X_OK)
    assert (copy / "b" / "up").read_text() == "print()"


@pytest.mark.parametrize(
    ("rules", "files", "left"),
    [
        ({".gitignore": "*.pyc\nbuild/\n"}, ["a.py", "a.pyc", "build/x", "b/build/y"], ["a.py"]),
        ({".gitignore": "/x\n"}, ["x", "b/x"], ["b/x"]),
        ({".gitignore": "*\n!*.py\n!*/\n"}, ["a.py", "b/c.py", "b/d.txt"], ["a.py", "b/c.py"]),
        ({".gitignore": "data/*\n!data/keep\n"}, ["data/keep", "data/big"], ["data/keep"]),
        ({".gitignore": "data/**\n!data/keep\n"}, ["data/keep", "data/big"], ["data/keep"]),
        ({".gitignore": "data/\n!data/keep\n"}, ["a", "data/keep"], ["a"]),
        ({".gitignore": "*.log\n", "b/.gitignore": "!kept.log\n"}, ["b/kept.log", "b/x.log"], ["b/kept.log"]),
        ({"b/.gitignore": "*.log\n"}, ["a.log", "b/a.log", "b/c/a.log"], ["a.log"]),
        ({".gitignore": "b/*.tmp\n# b/c\n\n"}, ["b/a.tmp", "b/c/a.tmp"], ["b/c/a.tmp"]),
        ({".gitignore": "*.log\n!b/\n"}, ["b/x.log", "b/y"], ["b/y"]),
        ({".gitignore": "b/**/\n"}, ["b/x", "b/c/y"], ["b/x"]),
        ({}, [".git/HEAD", "sub/.git/HEAD", "a"], ["a"]),
    ],
)
def test_what_git_would_ignore_is_left_out(folder: Path, rules: Files, files: list[str], left: list[str]) -> None:
    """By each .gitignore on the way, the nearest first; nothing in an ignored folder, and never .git."""
    write(folder, rules | dict.fromkeys(files, ""))

    assert sorted(set(names(folder)) - set(rules)) == sorted(left)


def test_the_rules_of_the_repository_around_count(tmp_path: Path) -> None:
    """A folder of a repository is packed by that repository's .gitignore, whose paths begin at its root."""
    write(tmp_path, {".git/HEAD": "", ".gitignore": "/code/big\n*.pyc\n"})
    write(tmp_path, dict.fromkeys(["code/big", "code/sub/big", "code/a.pyc", "code/a.py"], ""))

    assert names(tmp_path / "code") == ["a.py", "sub/big"]


def test_folders_without_files_and_what_is_left_out_are_no_part(folder: Path) -> None:
    """Neither an empty folder, nor one of ignored files, nor the pipeline's file or the data directory."""
    write(folder, {"a.py": "", "c/x.pyc": "", ".gitignore": "*.pyc", "train.yaml": "", "data/server.json": ""})
    (folder / "empty").mkdir()

    found = code_archive.scan(folder, [folder / "train.yaml", folder / "data"])

    assert [entry.name for entry in found] == [".gitignore", "a.py"]


def test_too_much_names_the_largest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is too large is refused before anything is packed, with what is large in it."""
    write(folder, {"a.py": "x", "data/sets/big.bin": "x" * 3000, "lib/b": "x" * 1500})
    monkeypatch.setattr(code_archive, "MOST_BYTES", 4096)

    with pytest.raises(
        CliError, match=r"has 4.\d* KiB, 4 KiB can be sent. The largest: data .*big.bin .*lib"
    ) as refused:
        code_archive.scan(folder)

    assert ".gitignore" in refused.value.hint


def test_too_many_files_name_their_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So are more files than can be sent."""
    write(folder, {f"node_modules/{number}": "" for number in range(12)})
    monkeypatch.setattr(code_archive, "MOST_ENTRIES", 10)

    with pytest.raises(CliError, match=r"more than 10 files and folders; most are in node_modules"):
        code_archive.scan(folder)


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "b/../../outside", "loop/../../outside"])
def test_links_that_lead_outside_are_refused(folder: Path, target: str) -> None:
    """A link may lead to what is in the folder only, as it says and as it is followed."""
    write(folder, {"b/x": ""})
    (folder.parent / "outside").write_text("secret")
    (folder / "loop").symlink_to("b")
    (folder / "out").symlink_to(target)

    with pytest.raises(CliError, match=r"^out is a link that leads out of the folder"):
        code_archive.scan(folder)


def test_what_is_no_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipes and sockets are named, as is a name that is no text; ignored ones are no trouble."""
    os.mkfifo(folder / "pipe")
    with pytest.raises(CliError, match="pipe is neither a file"):
        code_archive.scan(folder)
    (folder / "pipe").unlink()
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s.sock")
        with pytest.raises(CliError, match=r"s\.sock is neither a file"):
            code_archive.scan(folder)
        write(folder, {".gitignore": "*.sock"})
        assert names(folder) == [".gitignore"]
    (folder / os.fsdecode(b"caf\xe9")).write_text("")
    with pytest.raises(CliError, match=r"caf\\xe9 is not UTF-8"):
        code_archive.scan(folder)


@pytest.mark.parametrize(
    ("happens", "reported"),
    [
        (lambda file: file.unlink(), "a.py can't be packed: No such file or directory"),
        (lambda file: file.write_text("longer than before"), "a.py changed while it was packed"),
        (lambda file: file.write_text(""), "a.py changed while it was packed"),
        (lambda file: os.utime(file, (1, 1)), "a.py changed while it was packed"),
    ],
)
def test_a_file_that_changes_meanwhile_is_an_error(
    folder: Path, happens: Callable[[Path], object], reported: str
) -> None:
    """What was seen and what is packed are one and the same, or nothing is."""
    write(folder, {"a.py": "before"})
    seen = code_archive.scan(folder)

    happens(folder / "a.py")

    with pytest.raises(CliError, match=reported):
        code_archive.pack(folder, seen, io.BytesIO())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A folder that is missing, or is a file, is named."""
    (tmp_path / "file").write_text("")

    for name in ("none", "file"):
        with pytest.raises(CliError, match=f"there is no folder .*{name}"):
            code_archive.scan(tmp_path / name)


def test_the_archive_is_plain_tar(folder: Path) -> None:
    """Any tar unpacks it: no extended headers, no owner, no time."""
    write(folder, {"a/b": "x"})

    with tarfile.open(fileobj=io.BytesIO(packed(folder)[1])) as archive:
        found = [(each.name, each.mode, each.mtime, each.uid, each.uname, each.pax_headers) for each in archive]

    assert found == [("a", 0o755, 0, 0, "", {}), ("a/b", 0o644, 0, 0, "", {})]
