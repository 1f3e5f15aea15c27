"""`trackbook log`: the state of the log, and how to continue after a loss."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.command_table import command_group
from trackbook.cli.commands.purge import confirm
from trackbook.cli.errors import CliError
from trackbook.cli.server.connection import server

app = command_group("log", "The log itself: its state, evidence of loss, and how to continue after a loss.")


@app.command(epilog="Example:\n\n  trackbook log status")
def status(
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Show whether the log lost anything; exit code 1 if it did and no operator accepted the loss."""
    from trackbook.cli.terminal.formatting import emit

    with server(options.server_options(url, data, token_file)) as client:
        found = client.get("/api/log")
    if json:
        emit(found)
    else:
        _show(found)
    raise typer.Exit(1 if found["evidence"] else 0)


def _show(found: dict[str, Any]) -> None:
    from trackbook.cli.terminal.formatting import plural, style_text

    witness = found["witness"]["seq"]
    print(f"The log ends at sequence {found['head']:,}; the witness remembers sequence {witness:,}.")
    for each in found["accepted"]:
        print(f"  accepted {each['id']}: {each['message']}")
    if found["dismissed"]:
        print(f"  {plural(found['dismissed'], 'message')} left out, as operators decided")
    for each in found["faults"]:
        name = f"{each['kind']}/{each['id']}"
        print(f"  {style_text('quarantined', 'yellow')} {name}: sequence {each['seq']}: {each['reason']}")
    for each in found["evidence"]:
        print(f"  {style_text('lost', 'red')} {each['id']}: {each['message']}")
    if found["evidence"]:
        print(
            "Commands are refused. Restore a backup, or continue without the lost part: trackbook log accept-loss"
        )
    else:
        print(style_text("No evidence of loss.", "green"))


@app.command(
    "accept-loss", epilog="Examples:\n\n  trackbook log accept-loss\n\n  trackbook log accept-loss --yes"
)
def accept_loss(
    *,
    evidence: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]…", help="Only this evidence, ids may be shortened; all of it by default."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Continue without the lost part of the log: shows it, asks, and records the decision on the log."""
    from trackbook.cli.terminal.formatting import emit, plural

    with server(options.server_options(url, data, token_file)) as client:
        found = client.get("/api/log")
        wanted = _chosen_evidence(found["evidence"], evidence or [])
        if not json:
            _show(found)
        reply = None
        if wanted:
            confirm(f"Continue without what {plural(len(wanted), 'piece')} of evidence says is lost?", yes=yes)
            reply = client.command("log", "accept-loss", {"evidence": [each["id"] for each in wanted]})
    if json:
        emit(reply or {"status": "accepted", "changes": []})
    elif reply:
        for change in reply.get("changes") or ():
            if not change.startswith("accepted: "):
                print(f"  {change}")
        for warning in reply.get("warnings") or ():
            print(f"  warning: {warning['message']}")
        print(f"Accepted, at sequence {reply['seq']}. Commands are accepted again.")


def _chosen_evidence(evidence: list[dict[str, Any]], given: list[str]) -> list[dict[str, Any]]:
    """Return the evidence with these ids, or unique beginnings of them, all of it for none; raises CliError."""
    if not given:
        return evidence
    ids = [_match_id(each, [known["id"] for known in evidence]) for each in given]
    return [each for each in evidence if each["id"] in ids]


def _match_id(given: str, known: list[str]) -> str:
    found = [each for each in known if given and each.startswith(given)]
    if len(found) > 1 and given not in found:
        message = f"{given!r} is ambiguous: it matches {', '.join(found)}"
        raise CliError(message, "Give more characters of the id.")
    if not found:
        from trackbook.engine.names import did_you_mean

        meant = did_you_mean(given, [each[: len(given)] for each in known])
        raise CliError(
            f"there is no open evidence {given!r}", f"{meant} `trackbook log status` lists it.".strip()
        )
    return given if given in found else found[0]
