"""`trackbook quarantine`: histories that are damaged, and going on without what can't follow."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.client import Client, escaped
from trackbook.cli.commands import command_group
from trackbook.cli.purge import confirm
from trackbook.cli.server import server
from trackbook.cli.trouble import Trouble

app = command_group("quarantine", "Damaged histories: neither shown nor decided on; all else goes on.")
Name = Annotated[str, typer.Argument(metavar="KIND/ID", help="Such as pipeline/8e89; the id may be shortened.")]


@app.command("list", epilog="Example:\n\n  trackbook quarantine list")
def list_(
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """List the histories that are damaged, each with its first commit that can't follow."""
    from trackbook.cli.output import emit
    from trackbook.cli.tables import table

    with server(options.where(url, data, token_file)) as client:
        found = _found(client)
    if json:
        return emit(found)
    if not found:
        print("No history is in quarantine.")
        return None
    return table(
        ("WHAT", "SEQ", "REASON"),
        [(f"{each['kind']}/{each['id']}", each["seq"], each["reason"]) for each in found],
    )


def _found(client: Client) -> list[dict[str, Any]]:
    """Return the first fault of each damaged history, as the engine or the read model met it."""
    faults = client.get("/api/log")["faults"]
    rows = [row | {"id": row["aggregate_id"]} for row in client.pages("/api/quarantine") if row["kind"]]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for each in sorted([*faults, *rows], key=lambda each: int(each["seq"])):
        keys = ("kind", "id", "seq", "reason")
        found.setdefault((each["kind"], each["id"]), {key: each[key] for key in keys})
    return list(found.values())


@app.command(
    epilog="Examples:\n\n  trackbook quarantine show pipeline/8e89\n\n  trackbook quarantine show job/1f2e --json"
)
def show(
    name: Name,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Show how far a history is intact, and each message that can't follow."""
    from trackbook.cli.output import emit

    with server(options.where(url, data, token_file)) as client:
        found = _history(client, name)
    if json:
        return emit(found)
    _show(found)
    for each in found["faults"]:
        print(f"  message at sequence {each['seq']} (SHA-256 {each['sha256'][:12]}…): {each['data']}")
    return None


def _history(client: Client, name: str) -> dict[str, Any]:
    kind, slash, given = name.partition("/")
    if not slash or not given:
        raise typer.BadParameter(f"{name!r} is not of the form KIND/ID", param_hint="KIND/ID")
    known = [each["id"] for each in _found(client) if each["kind"] == kind and each["id"].startswith(given)]
    if len(known) > 1 and given not in known:
        raise Trouble(f"{name!r} begins several: {', '.join(f'{kind}/{each}' for each in known)}")
    id_ = given if given in known or not known else known[0]
    found: dict[str, Any] = client.get(f"/api/quarantine/{escaped(kind)}/{escaped(id_)}")
    return found


def _show(found: dict[str, Any]) -> None:
    from trackbook.cli.output import plural

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
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Leave out what can't follow; the history continues as of its last intact version."""
    from trackbook.cli.output import emit

    with server(options.where(url, data, token_file)) as client:
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
