"""`trackbook quarantine`: damaged histories, and how to continue one without its damaged end."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.client.http_client import Client, quote_part
from trackbook.cli.command_table import command_group
from trackbook.cli.commands.purge import confirm
from trackbook.cli.completion import damaged_histories
from trackbook.cli.errors import CliError, Rejected
from trackbook.cli.server.connection import server

app = command_group("quarantine", "Damaged histories: neither shown nor changed; everything else continues.")
Name = Annotated[
    str,
    typer.Argument(
        metavar="HISTORY",
        help="A pipeline's name, an id, or KIND/ID; ids may be shortened.",
        autocompletion=damaged_histories,
    ),
]


@app.command("list", epilog="Example:\n\n  trackbook quarantine list")
def list_(
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """List damaged histories, each with its first commit that can't follow."""
    from trackbook.cli.terminal.formatting import emit
    from trackbook.cli.terminal.tables import table

    with server(options.server_options(url, data, token_file)) as client:
        found = _list_damaged(client)
    if json:
        return emit(found)
    if not found:
        print("No history is in quarantine.")
        return None
    return table(
        ("WHAT", "SEQ", "REASON"),
        [(f"{each['kind']}/{each['id']}", each["seq"], each["reason"]) for each in found],
    )


def _list_damaged(client: Client) -> list[dict[str, Any]]:
    """Return the first fault of each damaged history, as the engine or the read model met it."""
    faults = client.get("/api/log")["faults"]
    rows = [row | {"id": row["aggregate_id"]} for row in client.pages("/api/quarantine") if row["kind"]]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for each in sorted([*faults, *rows], key=lambda each: int(each["seq"])):
        keys = ("kind", "id", "seq", "reason")
        found.setdefault((each["kind"], each["id"]), {key: each[key] for key in keys})
    return list(found.values())


@app.command(
    epilog="Examples:\n\n  trackbook quarantine show train\n\n  trackbook quarantine show job/1f2e --json"
)
def show(
    name: Name,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Show up to where a history is intact, and each commit that can't follow."""
    from trackbook.cli.terminal.formatting import emit

    with server(options.server_options(url, data, token_file)) as client:
        found = _history(client, name)
    if json:
        return emit(found)
    _show(found)
    for each in found["faults"]:
        print(f"  message at sequence {each['seq']} (SHA-256 {each['sha256'][:12]}…): {each['data']}")
    return None


def _history(client: Client, name: str) -> dict[str, Any]:
    """Return the damaged history that is meant; raises CliError, Rejected for one that is not damaged."""
    damaged = _list_damaged(client)
    kind, given = _parts(name, damaged)
    if not given:
        raise typer.BadParameter(f"{name!r} is empty", param_hint="HISTORY")
    meant = _match(damaged, kind, given) or _find_damaged(client, kind, given)
    if meant is None:
        raise _not_found_error(name, kind, given, damaged)
    found: dict[str, Any] = client.get(f"/api/quarantine/{quote_part(meant[0])}/{quote_part(meant[1])}")
    return found


def _parts(name: str, damaged: list[dict[str, Any]]) -> tuple[str, str]:
    """Return kind and id of `KIND/ID`; the kind is empty where the name is a pipeline's or an id alone."""
    from trackbook.engine.kinds import EVENT_TYPES

    kind, slash, given = name.partition("/")
    known = {*EVENT_TYPES, *(each["kind"] for each in damaged)}
    return (kind, given) if slash and kind in known else ("", name)


def _match(damaged: list[dict[str, Any]], kind: str, given: str) -> tuple[str, str] | None:
    """Return the damaged history with this id or a unique beginning of it; raises CliError for several."""
    found = [
        (each["kind"], each["id"])
        for each in damaged
        if kind in ("", each["kind"]) and each["id"].startswith(given)
    ]
    exact = [each for each in found if each[1] == given]
    if len(found) > 1 and len(exact) != 1:
        shown = ", ".join("/".join(each) for each in found)
        message = f"{given!r} is ambiguous: it matches {shown}"
        raise CliError(message, "Give its kind, and more characters of the id.")
    return next(iter(exact or found), None)


def _find_damaged(client: Client, kind: str, given: str) -> tuple[str, str] | None:
    """Return the pipeline or job that has the name or the id, None where there is none."""
    for of, path in (("pipeline", "/api/pipelines"), ("job", "/api/jobs")):
        if kind in ("", of):
            try:
                return of, client.get(f"{path}/{quote_part(given)}")["id"]
            except Rejected as rejected:
                if not str(rejected.error.get("code")).endswith("not_found"):
                    raise
    return None


def _not_found_error(name: str, kind: str, given: str, damaged: list[dict[str, Any]]) -> CliError:
    from trackbook.engine.names import did_you_mean

    what = f"no damaged {kind} history {given!r}" if kind else f"no damaged history {name!r}"
    length = len(given)
    near = [f"{each['kind']}/{each['id'][:length]}" if kind else each["id"][:length] for each in damaged]
    meant = did_you_mean(name, near)
    return CliError(f"there is {what}", f"{meant} `trackbook quarantine list` shows what there is.".strip())


def _show(found: dict[str, Any]) -> None:
    from trackbook.cli.terminal.formatting import plural

    name, version = f"{found['kind']}/{found['id']}", found["version"]
    until = f"intact up to version {version}" if version else "not intact from its first commit on"
    print(f"{name} is {until}; {plural(len(found['faults']), 'commit')} can't follow:")
    for each in found["faults"]:
        what = (
            f"version {each['version']} at sequence {each['seq']}"
            if each["version"]
            else f"sequence {each['seq']}"
        )
        print(f"  {what}: {each['reason']}")


@app.command(
    epilog="Examples:\n\n  trackbook quarantine release pipeline/8e89\n\n  trackbook quarantine release job/1f -y"
)
def release(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Leave out the commits that can't follow; the history continues from its last intact version."""
    from trackbook.cli.terminal.formatting import emit

    with server(options.server_options(url, data, token_file)) as client:
        found = _history(client, name)
        if not json:
            _show(found)
        if found["faults"]:
            confirm(f"Leave that out, and continue as of version {found['version']}?", yes=yes)
        reply = client.command("quarantine", "release", {"kind": found["kind"], "id": found["id"]})
    if json:
        return emit(reply)
    print(f"Released, at sequence {reply['seq']}.")
    return None
