"""`trackbook init` and `trackbook validate`: a first pipeline, and a look at one, without any server."""

from __future__ import annotations

import shlex
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.command_table import commands
from trackbook.cli.errors import CliError, Rejected

app = commands()

INIT_EPILOG = "Examples:\n\n  trackbook init\n\n  trackbook init my-project"
VALIDATE_EPILOG = (
    "Examples:\n\n  trackbook validate pipeline.yaml\n\n  trackbook validate - --json < pipeline.yaml"
)
_FILE = "pipeline.yaml"


@app.command(epilog=INIT_EPILOG)
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Folder to write it to; created if missing.")
    ] = Path(),
) -> None:
    """Write an example pipeline, pipeline.yaml. An existing file is never overwritten."""
    target = folder / _FILE
    text = resources.files("trackbook.cli").joinpath("templates", _FILE).read_bytes()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(text)
    except FileExistsError:
        raise CliError(f"{target} exists already", "Name another folder: trackbook init FOLDER") from None
    except OSError as error:
        raise CliError(f"{target} can't be written: {error.strerror}") from None
    print(f"Wrote {target}: a pipeline of three tasks.")
    print(f"Check it: trackbook validate {shlex.quote(str(target))}")
    print(f"Run it:   trackbook run {shlex.quote(str(target))}")


@app.command(epilog=VALIDATE_EPILOG)
def validate(
    file: Annotated[str, typer.Argument(metavar="FILE.yaml", help="The pipeline; - reads it from stdin.")],
    json: options.Json = False,
) -> None:
    """Check a pipeline's file without a server: YAML, keys, values, names and dependencies.

    What its executor has to offer (images, resources, folders) is checked by `run --dry-run`.
    Exit codes: 0 it can be applied, 1 it is refused.
    """
    from trackbook.adapters.yaml.load import load, locate
    from trackbook.cli.transfer.code_upload import packed_code
    from trackbook.engine import definition
    from trackbook.engine.errors import Refused

    text, source = options.read_source(file)
    try:
        loaded = load(text, source)
        with packed_code(text, file) as code:
            if code:
                loaded.content["code_sha256"] = code.sha256
        try:
            warned = definition.check(loaded.content)
        except Refused as refused:
            raise locate(refused, loaded.positions) from None
    except Refused as refused:
        raise _print_rejected(refused, source, json=json) from None
    warnings = [_warning_json(locate(each, loaded.positions)) for each in warned]
    _print(loaded.content, warnings, source, json=json)


def _print_rejected(refused: Any, source: str, *, json: bool) -> Exception:
    """Return what ends the command: the refusal in words, or after its JSON exit code 1."""
    from msgspec import to_builtins

    from trackbook.cli.terminal.formatting import emit
    from trackbook.runtime.commands.requests import rejection

    error = to_builtins(rejection("", refused))["error"]
    if not json:
        return Rejected(error, source)
    emit({"ok": False, "error": error})
    return typer.Exit(1)


def _warning_json(warning: Any) -> dict[str, Any]:
    from msgspec import to_builtins

    plain: dict[str, Any] = to_builtins(warning)
    return {key: value for key, value in plain.items() if value not in (None, "")}


def _print(content: dict[str, Any], warnings: list[dict[str, Any]], source: str, *, json: bool) -> None:
    from msgspec import to_builtins

    from trackbook.cli.terminal.formatting import emit
    from trackbook.cli.terminal.render import print_summary, print_warnings
    from trackbook.engine import definition

    summary = to_builtins(definition.summary(content))
    if json:
        return emit({"ok": True, "name": content["name"], "summary": summary, "warnings": warnings})
    print(f"{source} is valid: pipeline {content['name']}")
    print_summary(summary)
    print_warnings(warnings, source)
    return None
