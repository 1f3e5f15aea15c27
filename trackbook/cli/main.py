"""The command line. Its modules import what a command needs only when it runs: starting must stay quick."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from trackbook import __version__
from trackbook.cli import book, doctor, files, offline, pipeline, records, run, up
from trackbook.cli.escapes import guarded
from trackbook.cli.server import say
from trackbook.cli.trouble import Trouble
from trackbook.runtime.data import DataDirectoryHeld

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run pipelines of tasks, and keep the book: every edit and every transition is an event on the log.",
    epilog="Examples:\n\n  trackbook init\n\n  trackbook run train.yaml\n\n  trackbook up\n\n"
    "  trackbook job list\n\nIf something is wrong: trackbook doctor",
)


def _version(asked: bool) -> None:
    if asked:
        print(f"trackbook {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version
    context.with_resource(guarded())


app.command("run", epilog=run.EPILOG)(run.run)
app.command("up", epilog=up.UP_EPILOG)(up.up)
app.command("serve", epilog=up.SERVE_EPILOG)(up.serve)
app.command("init", epilog=offline.INIT_EPILOG)(offline.init)
app.command("validate", epilog=offline.VALIDATE_EPILOG)(offline.validate)
app.add_typer(pipeline.app, name="pipeline")
app.add_typer(records.app, name="job")
app.add_typer(files.app, name="files")
app.add_typer(book.audit, name="audit")
app.add_typer(book.replay, name="replay")
app.add_typer(book.projection, name="projection")
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)
app.command("asyncapi", epilog="Example:\n\n  trackbook asyncapi > asyncapi.json")(book.asyncapi)


def _fill_standard_streams() -> None:
    """Open /dev/null for standard streams that are closed.

    Else a file that is opened later gets the descriptor, and what is printed, also by children, ends up in it.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            os.fstat(descriptor)  # it is ours if it was free, or a library's
        except OSError:
            nowhere = os.dup2(nowhere, descriptor)
        os.set_inheritable(nowhere, nowhere == descriptor)
        setattr(sys, name, os.fdopen(nowhere, "w" if descriptor else "r", encoding="utf-8", closefd=False))


def main() -> None:
    """Run the command line; errors go to stderr with exit code 1, bad usage with 2, Ctrl-C is 130."""
    _fill_standard_streams()
    with guarded():
        _run()


def _run() -> None:
    try:
        app(prog_name="trackbook")
    except Trouble as trouble:
        say("\n".join(trouble.lines()))
        sys.exit(1)
    except DataDirectoryHeld as held:
        say(f"trackbook: {held}")
        sys.exit(1)
    except Exception as problem:
        if not _told(problem):
            raise
        sys.exit(1)


def _told(problem: Exception) -> bool:
    """Tell a failure of the embedded system that says itself what was found and what to do."""
    known = {
        "BrokerFailed", "BrokerHeld", "BrokerUnfit", "BrokerUnreachable", "ServerNotFound", "LogDamaged",
        "ExecutorsMisconfigured", "DataDirectoryCopied",
    }  # fmt: skip
    if not known & {kind.__name__ for kind in type(problem).__mro__}:
        return False
    say(f"trackbook: {problem}")
    return True
