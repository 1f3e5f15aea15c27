"""A pipeline's own code: packs the folder that `code` names in its file, and uploads it unless it is stored."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from trackbook.cli.errors import CliError

if TYPE_CHECKING:
    from trackbook.cli.client.http_client import Client

_CHUNK = 256 * 1024


class Code:
    """A packed folder; `name` is how the pipeline's file names it."""

    def __init__(self, name: str, sha256: str, file: IO[bytes], files: int) -> None:
        self.name, self.sha256, self.files = name, sha256, files
        self.size = os.fstat(file.fileno()).st_size
        self._file = file

    def is_stored(self, client: Client) -> bool:
        """Ask the server whether it has the archive."""
        return bool(client.get(f"/api/code/{self.sha256}")["stored"])

    def upload(self, client: Client, *, quiet: bool) -> None:
        """Send the archive, with progress on a terminal, and say so; raises Rejected, Unreachable."""
        from trackbook.cli.terminal.formatting import plural
        from trackbook.cli.transfer.file_transfer import Meter, size_text
        from trackbook.engine.names import printable

        with Meter(f"code {self.name}", self.size) as meter:

            def chunks() -> Iterator[bytes]:
                self._file.seek(0)
                done = 0
                while chunk := self._file.read(_CHUNK):
                    yield chunk
                    done += len(chunk)
                    meter.at(done)

            client.send(f"/api/code/{self.sha256}", self.size, chunks)
        if not quiet:
            print(
                f"Code {printable(self.name)}: {plural(self.files, 'file')}, {size_text(self.size)} packed, sent"
            )


@contextmanager
def packed_code(text: str, file: str, data: Path | None = None) -> Iterator[Code | None]:
    """Yield the code that a pipeline's text names, packed; None where it names none, or a stored archive itself.

    The folder is relative to the text's file ('-': the working directory). That file is no part of the code, nor
    is the data directory. Raises CliError.
    """
    named = _code_folder(text)
    if named is None:
        yield None
        return
    from trackbook.cli.transfer.code_archive import pack, scan

    here = Path() if file == "-" else Path(file).parent
    left_out = [Path(each).resolve() for each in (file, data) if each and each != "-"]
    entries = scan(here / named, left_out)
    with _archive() as archive:
        sha256 = pack(here / named, entries, archive)
        yield Code(named, sha256, archive, sum(not each.is_folder for each in entries))


@contextmanager
def _archive() -> Iterator[IO[bytes]]:
    """Yield a file for the archive, which is gone afterwards; raises CliError."""
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    except OSError as error:
        raise CliError(f"the code can't be packed: {error.strerror} ({tempfile.gettempdir()})") from None
    with file:
        yield file


def _code_folder(text: str) -> str | None:
    """Return the folder that a pipeline's text names; None also where the text is refused, as the server says."""
    if "code" not in text:
        return None
    from trackbook.adapters.yaml.load import load
    from trackbook.engine.errors import Refused

    try:
        content = load(text).content
    except Refused:
        return None
    code = content.get("code")
    return code if isinstance(code, str) and code and not content.get("code_sha256") else None
