"""The file of a backup: every byte of it counts, and what is wrong is named."""

from __future__ import annotations

import io
import json
import tarfile

import msgspec
import pytest

from trackbook import __version__
from trackbook.adapters.nats.snapshot import StreamContent
from trackbook.events.commit import FORMAT, OLDEST
from trackbook.events.storage_format import NewerFormat, OlderFormat, current
from trackbook.runtime.backup.archive import (
    FORMAT_FILE,
    BackupDamaged,
    Digest,
    Manifest,
    Member,
    digest_of,
    encode_failure,
    encode_trailer,
    pack_member,
    read_manifest,
)
from trackbook.runtime.backup.writer import without_secrets

PARTS = [
    Member(FORMAT_FILE, msgspec.json.encode(current())),
    Member("events/000001", bytes(range(256)) * 3),
    Member("events/000002", b"e"),
    Member("blobs/000001", b"b" * 512),
    Member("executors.toml", b"[local]\n"),
]


def manifest(members: list[Digest]) -> Manifest:
    """What these members would be of."""
    stream = StreamContent({"name": "s"}, {"last_seq": 2, "messages": 2, "bytes": 9}, "ab")
    return Manifest(
        format=FORMAT,
        release=__version__,
        created_at="2026-01-31T12:30:00.000000Z",
        installation="0123abcd",
        prefix="trackbook",
        durability="always",
        streams={"events": stream, "blobs": stream},
        members=members,
    )


def backup(parts: list[Member] = PARTS, known: list[Member] = PARTS) -> bytes:
    """A backup of these parts, whose manifest knows of those."""
    end = encode_trailer(manifest([digest_of(part) for part in known]))
    return b"".join(pack_member(part.name, part.data) for part in parts) + end


def test_a_backup_is_a_tar_that_can_be_checked() -> None:
    """Any tar program lists it; what was written is what is read."""
    with tarfile.open(fileobj=io.BytesIO(backup())) as tar:
        names = tar.getnames()

    assert names == [*(part.name for part in PARTS), "manifest.json", "manifest.sha256"]
    assert read_manifest(io.BytesIO(backup())) == manifest([digest_of(part) for part in PARTS])


def test_no_flipped_bit_is_overlooked() -> None:
    """One bit of each byte, headers, filling and end included: the file is refused every time."""
    whole = backup()
    overlooked = []
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        try:
            read_manifest(io.BytesIO(flipped))
        except (BackupDamaged, NewerFormat, OlderFormat):
            continue
        overlooked.append(at)

    assert overlooked == []


@pytest.mark.parametrize("name", [part.name for part in PARTS[1:]] + ["manifest.json", "manifest.sha256"])
def test_a_damaged_member_is_named(name: str) -> None:
    """The message says which one it is."""
    flipped = bytearray(backup())
    with tarfile.open(fileobj=io.BytesIO(flipped)) as tar:
        flipped[tar.getmember(name).offset_data] ^= 1

    with pytest.raises(BackupDamaged, match=name):
        read_manifest(io.BytesIO(flipped))


def test_a_cut_file_is_refused() -> None:
    """Wherever it is cut: without its end it is not whole."""
    whole = backup()
    for size in [*range(0, len(whole), 97), len(whole) - 1]:
        with pytest.raises(BackupDamaged):
            read_manifest(io.BytesIO(whole[:size]))
    with pytest.raises(BackupDamaged, match="does not end"):
        read_manifest(io.BytesIO(whole + b"\0"))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([*PARTS[:2], *PARTS[3:]], "events/000002 is missing"),
        ([*PARTS[:1], PARTS[2], PARTS[1], *PARTS[3:]], "events/000001 is missing"),
        ([*PARTS, Member("more", b"")], "more is not in the manifest"),
        (PARTS[1:], "no backup of Trackbook"),
    ],
)
def test_members_that_are_missing_swapped_or_foreign_are_named(parts: list[Member], said: str) -> None:
    """What is there has to be what the manifest lists, in its order."""
    with pytest.raises(BackupDamaged, match=said):
        read_manifest(io.BytesIO(backup(parts)))


def test_a_backup_that_failed_says_why() -> None:
    """The server's words take the manifest's place."""
    begun = pack_member(*PARTS[0]) + encode_failure("the broker broke off")

    with pytest.raises(BackupDamaged, match="not completed: the broker broke off"):
        read_manifest(io.BytesIO(begun))


@pytest.mark.parametrize("foreign", [b"", b"x" * 5000, bytes(10240)])
def test_another_file_is_no_backup(foreign: bytes) -> None:
    """Whatever it is, it is refused in words."""
    with pytest.raises(BackupDamaged, match="no backup of Trackbook"):
        read_manifest(io.BytesIO(foreign))


def test_a_backup_of_a_newer_release_is_refused() -> None:
    """Both releases are named, whatever the rest of the file looks like."""
    mark = json.dumps({"format": FORMAT + 1, "release": "9.8.7"}).encode()

    with pytest.raises(NewerFormat, match=rf"9\.8\.7 \(format {FORMAT + 1}\); this is {__version__}"):
        read_manifest(io.BytesIO(pack_member(FORMAT_FILE, mark)))


def test_a_backup_of_an_earlier_format_is_refused() -> None:
    """It is not restored, because its events would be misread."""
    mark = json.dumps({"format": OLDEST - 1, "release": "0.1.0"}).encode()

    with pytest.raises(OlderFormat, match=rf"an earlier Trackbook \(format {OLDEST - 1}\)"):
        read_manifest(io.BytesIO(pack_member(FORMAT_FILE, mark)))


def test_secret_keys_are_left_out() -> None:
    """The rest of the configuration stays as it is; how many there were is counted."""
    text = '[backendai.a]\nsecret_key = "s1"  # mine\nproject = "c"\n[backendai.b]\n"secret_key"=\'s2\'\n'

    kept, count = without_secrets(text)

    expected = '[backendai.a]\nsecret_key = ""\nproject = "c"\n[backendai.b]\n"secret_key"= ""\n'
    assert kept == expected
    assert count == 2


@pytest.mark.parametrize("text", ['[a]\nb = { secret_key = "s1" }\n', '[a]\nsecret_key = """\ns1"""\n', "["])
def test_a_configuration_whose_secrets_cannot_be_found_is_left_out(text: str) -> None:
    """Rather no configuration in a backup than a key."""
    with pytest.raises(ValueError):  # noqa: PT011 - of two kinds
        without_secrets(text)
