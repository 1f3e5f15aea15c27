"""`trackbook backup` and `trackbook restore`: the log and its large bodies as one file, and back."""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO
from uuid import uuid4

import typer

from trackbook.cli import options
from trackbook.cli.command_table import commands
from trackbook.cli.errors import CliError
from trackbook.cli.server.connection import server
from trackbook.cli.terminal.streams import say
from trackbook.cli.transfer.file_transfer import Meter, size_text

app = commands()

if TYPE_CHECKING:
    from trackbook.runtime.backup.archive import Manifest
    from trackbook.runtime.log_checks import Verified

BACKUP_EPILOG = (
    "Examples:\n\n  trackbook backup trackbook.tar\n\n  trackbook backup --force /mnt/backups/today.tar\n\n"
    "  trackbook backup - | ssh other 'cat > trackbook.tar'"
)
RESTORE_EPILOG = (
    "Examples:\n\n  trackbook restore trackbook.tar --verify\n\n"
    "  trackbook restore trackbook.tar --data ./restored"
)
_BROKEN = (OSError, http.client.HTTPException)
NOT_IN_IT = "Not in it: output and files of tasks, credentials, and what is made from the log again."


class _Arriving:
    """What the server sends, written as it is read."""

    def __init__(self, answer: http.client.HTTPResponse, target: BinaryIO, name: str, meter: Meter) -> None:
        self._answer, self._target, self._name, self._meter = answer, target, name, meter
        self.size = 0

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, which are written then; raises CliError."""
        try:
            data = self._answer.read(size)
        except _BROKEN:
            raise CliError(
                f"the server broke off the backup after {self.size:,} bytes", "See its log, and try again."
            ) from None
        try:
            self._target.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _unwritable(self._name, error) from None
        self.size += len(data)
        self._meter.at(self.size)
        return data


@app.command(epilog=BACKUP_EPILOG)
def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write; - is stdout.")],
    *,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite an existing file.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Also if the log has an unaccepted loss.")] = False,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Write a backup of all pipelines, jobs and their histories into one file, while the system runs.

    The file appears complete or not at all, and only its owner can read it. It has no output and no files of
    tasks, no credentials, and nothing that is rebuilt from the log.
    """
    if file == "-":
        if json:
            raise typer.BadParameter("stdout has the backup itself; leave out --json", param_hint="--json")
        if sys.stdout.isatty():
            raise typer.BadParameter("a terminal can't show a backup; name a file", param_hint="FILE")
    elif not force and Path(file).exists():
        raise CliError(f"{file} is there already", "--force overwrites it.")
    with server(options.server_options(url, data, token_file)) as client, _target(file, force=force) as target:
        asked = {"damaged": "true"} if damaged else {}
        connection, answer = client.open("/api/backup", {}, **asked)
        try:
            with Meter(file, 0) as meter:
                manifest, size = _receive(answer, target, file, meter)
        finally:
            answer.close()
            connection.close()
    if json:
        from trackbook.cli.terminal.formatting import emit

        emit({"file": file, "size": size, **_manifest_json(manifest)})
    else:
        _print_backup(file, size, manifest)


def _receive(answer: http.client.HTTPResponse, target: BinaryIO, name: str, meter: Meter) -> tuple[Manifest, int]:
    from trackbook.runtime.backup.archive import BackupDamaged, read_manifest

    arriving = _Arriving(answer, target, name, meter)
    try:
        return read_manifest(arriving), arriving.size
    except BackupDamaged as error:
        raise CliError(f"the backup failed: {error}", "Nothing was written.") from None


@contextmanager
def _target(name: str, *, force: bool) -> Iterator[BinaryIO]:
    """Yield where the backup goes: stdout, or a file that gets its name once it is whole and on the disk."""
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(name)
    part = target.parent / f".{target.name}.{uuid4().hex}.part"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(name, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            try:
                file.flush()
                os.fsync(file.fileno())
                _rename_to_target(part, target, force=force)
            except OSError as error:
                raise _unwritable(name, error) from None
    finally:
        with suppress(OSError):
            part.unlink()


def _rename_to_target(part: Path, target: Path, *, force: bool) -> None:
    """Give the file its name; raises CliError where another has it meanwhile."""
    from trackbook.private_files import sync_folder

    if force:
        part.replace(target)
    else:
        try:
            os.link(part, target)
        except FileExistsError:
            raise CliError(f"{target} is there already", "--force overwrites it.") from None
        except OSError:  # a file system without links
            part.rename(target)
    sync_folder(target.parent)


def _unwritable(name: str, error: OSError) -> CliError:
    return CliError(
        f"{name} can't be written: {error.strerror or error}", "Nothing was written. Choose another place."
    )


@app.command(epilog=RESTORE_EPILOG)
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")],
    *,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="The data directory to make; new or empty.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only check it: restore it into a temporary directory.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Create a data directory from a backup, or check the backup. A damaged backup is refused.

    Compares every byte with its digest and reads every history. Exit codes: 0 restored, or intact with
    --verify; 1 damaged.
    """
    if (data is None) is not verify:
        raise typer.BadParameter("give either --data DIR or --verify", param_hint="--data")
    from trackbook.runtime.backup.restore import check, refuse_target

    target = data.absolute() if data else None
    if target is not None:
        refuse_target(target)
    size = file.stat().st_size
    with Meter(f"checking {file.name}", size) as meter:
        manifest = check(file, meter.at)
    with Meter(f"restoring {file.name}", size) as meter:
        found = _restore(file, manifest, target, meter)
    shown = {
        **_manifest_json(manifest),
        "ok": found.ok,
        "histories": found.aggregates,
        "defects": _defects(found),
    }
    if json:
        from trackbook.cli.terminal.formatting import emit

        emit({"file": str(file), **({"data": str(target)} if target else {}), **shown})
    else:
        _print_restored(file, target, manifest, found)
    raise typer.Exit(0 if target or found.ok else 1)


def _restore(file: Path, manifest: Manifest, target: Path | None, meter: Meter) -> Verified:
    import asyncio

    from trackbook.runtime.backup.restore import rehearse, restore_into

    if target is None:
        return asyncio.run(rehearse(file, manifest, meter.at))
    return asyncio.run(restore_into(file, manifest, target, meter.at))


def _defects(found: Verified) -> list[dict[str, Any]]:
    from msgspec import to_builtins

    plain: list[dict[str, Any]] = to_builtins(found.defects)
    return plain


def _manifest_json(manifest: Manifest) -> dict[str, Any]:
    """Return what a backup holds, for scripts."""
    from msgspec import to_builtins

    streams = {
        name: {"messages": content.messages, "last": content.last, "sha256": content.head_sha256}
        for name, content in manifest.streams.items()
    }
    return {
        "created_at": manifest.created_at,
        "release": manifest.release,
        "format": manifest.format,
        "installation": manifest.installation,
        "durability": manifest.durability,
        **streams,
        "omitted": manifest.omitted,
        "evidence": to_builtins(manifest.evidence),
    }


def _manifest_text(manifest: Manifest) -> str:
    from trackbook.cli.terminal.formatting import plural

    commits = f"{plural(manifest.events.messages, 'commit')} up to sequence {manifest.events.last:,}"
    return f"{commits}, {plural(manifest.blobs.messages, 'part')} of large bodies"


def _print_backup(file: str, size: int, manifest: Manifest) -> None:
    tell = say if file == "-" else print
    tell(f"Backed up {_manifest_text(manifest)}: {size_text(size)}.")
    tell(NOT_IN_IT)
    for each in manifest.omitted:
        tell(f"Left out: {each}")
    for evidence in manifest.evidence:
        tell(f"The log is damaged: {evidence.message}")
    if file != "-":
        import shlex

        tell(f"Check it: trackbook restore {shlex.quote(file)} --verify")


def _print_restored(file: Path, target: Path | None, manifest: Manifest, found: Verified) -> None:
    from trackbook.cli.terminal.formatting import local_time, plural
    from trackbook.runtime.data_directory.identity import how_to_use

    state = "all are intact" if found.ok else plural(len(found.defects), "defect")
    made = f"Made {local_time(manifest.created_at)} by Trackbook {manifest.release}"
    print(f"{made}: {_manifest_text(manifest)}.")
    print(f"All digests match; {found.aggregates:,} histories were read, and {state}.")
    for each in manifest.evidence:
        print(f"  The log was damaged already: {each.message}")
    for defect in found.defects[:10]:
        of = f"{defect.aggregate} version {defect.version}: " if defect.aggregate else ""
        print(f"  at sequence {defect.seq}: {of}{defect.problem}")
    if target is None:
        print(f"{file} can be restored.")
        return
    print(f"Restored into {target}.")
    for left in manifest.omitted:
        print(f"Left out of the backup: {left}")
    print(f"The original may still be in use, and the two would end each other's sessions:\n{how_to_use(target)}")
