"""What a look before a run found, in words."""

from __future__ import annotations

from typing import Any

from trackbook.cli.client import Client
from trackbook.cli.output import plural, styled
from trackbook.cli.server import say
from trackbook.cli.trouble import Trouble

Told = set[tuple[str, str]]
"""Warnings that were told already: code and message."""


def told(reply: dict[str, Any]) -> Told:
    """Return the warnings of a reply, as those that were told."""
    return {(warning["code"], warning["message"]) for warning in reply.get("warnings") or []}


def untold(reply: dict[str, Any], before: Told) -> list[dict[str, Any]]:
    """Return the warnings of a reply that were not told before."""
    return [w for w in reply.get("warnings") or [] if (w["code"], w["message"]) not in before]


def lines(reply: dict[str, Any], *, everything: bool = False) -> list[str]:
    """Return what was found, as lines: what would fail and what to know, or `everything`."""
    found = reply.get("findings") or []
    return [line for finding in found if everything or finding["verdict"] != "ok" for line in _lines(finding)]


_WORDS = {"fail": ("would fail", "red"), "warn": ("warning", "yellow"), "ok": ("good", "green")}


def _lines(finding: dict[str, Any]) -> list[str]:
    word, style = _WORDS[finding["verdict"]]
    where = ", ".join(
        part
        for part in (f"task {finding['task']}" if finding.get("task") else "", finding.get("executor"))
        if part
    )
    line = f"  {styled(word, style)}: {finding['what']}: {finding['found']}{f' ({where})' if where else ''}"
    return [line, *([f"    {finding['hint']}"] if finding.get("hint") else [])]


def failures(reply: dict[str, Any]) -> int:
    """Return how many things were found that would fail."""
    return sum(finding["verdict"] == "fail" for finding in reply.get("findings") or [])


def look(client: Client, asked: dict[str, Any], source: str, before: Told, *, json: bool) -> Told:
    """Look before a run, and tell what was found; raises Trouble where something would fail."""
    from trackbook.cli.told import told_warnings

    reply = client.command("job", "check", asked, source)
    if json:
        for line in lines(reply):
            say(line.strip())
    else:
        told_warnings(untold(reply, before), source)
        for line in lines(reply):
            print(line)
    if not reply.get("ok", True):
        message = f"nothing was started: {plural(failures(reply), 'thing')} would fail"
        raise Trouble(message, "`--unchecked` runs it all the same.")
    return before if json else before | told(reply)


def tell_dry(reply: dict[str, Any], source: str, *, json: bool) -> bool:
    """Tell what would become of a run, of which nothing was done; returns whether it would go well."""
    from trackbook.cli.output import emit
    from trackbook.cli.told import told_applied, told_summary, told_warnings

    ok = bool(reply.get("ok", True))
    if json:
        emit(reply)
        return ok
    if reply.get("changes") is None:
        print(f"Pipeline {styled(str(reply.get('name')), 'bold')}, version {reply.get('version')}")
    else:
        told_applied(reply, dry_run=True)
    told_summary(reply.get("summary") or {})
    told_warnings(reply.get("warnings") or [], source)
    for line in lines(reply, everything=True):
        print(line)
    number = failures(reply)
    print("Nothing was run. It would go well, as far as can be seen." if ok else
          f"Nothing was run. {plural(number, 'thing')} would fail.")  # fmt: skip
    return ok
