"""As much of curl as the documents use, where it is missing: -s, -N, -m SECONDS, -H HEADER|@FILE, -d, URL."""

from __future__ import annotations

import contextlib
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main() -> None:
    """Ask, and print the answer as it comes."""
    url, headers, body, patience = "", {}, None, None
    words = iter(sys.argv[1:])
    for word in words:
        if word == "-H":
            given = next(words)
            line = Path(given[1:]).read_text() if given.startswith("@") else given
            name, _, value = line.partition(":")
            headers[name] = value.strip()
        elif word == "-d":
            body = next(words).encode()
        elif word == "-m":
            patience = float(next(words))
        elif not word.startswith("-"):
            url = word
    request = urllib.request.Request(url, body, headers)
    with contextlib.suppress(TimeoutError), _answer(request, patience) as answer:
        while piece := answer.read1(65536):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


def _answer(request: urllib.request.Request, patience: float | None) -> urllib.error.HTTPError:
    try:
        return urllib.request.urlopen(request, timeout=patience)  # type: ignore[no-any-return]
    except urllib.error.HTTPError as refused:
        return refused


if __name__ == "__main__":
    main()
