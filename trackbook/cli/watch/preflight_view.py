"""Shows the results of a preflight."""

from __future__ import annotations

from typing import Any

from trackbook.cli.errors import CliError
from trackbook.cli.terminal.formatting import plural, style_text
from trackbook.cli.terminal.streams import say

SeenWarnings = set[tuple[str, str]]
"""Warnings that were printed before: code and message."""


def warnings_of(reply: dict[str, Any]) -> SeenWarnings:
    """Return the warnings of a reply."""
    return {(warning["code"], warning["message"]) for warning in reply.get("warnings") or []}


def new_warnings(reply: dict[str, Any], before: SeenWarnings) -> list[dict[str, Any]]:
    """Return the warnings of a reply that were not printed before."""
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
    line = f"  {style_text(word, style)}: {finding['what']}: {finding['found']}{f' ({where})' if where else ''}"
    return [line, *([f"    {finding['hint']}"] if finding.get("hint") else [])]


def failures(reply: dict[str, Any]) -> int:
    """Return how many things were found that would fail."""
    return sum(finding["verdict"] == "fail" for finding in reply.get("findings") or [])


def show(checked: dict[str, Any], source: str, *, confirm: bool, json: bool) -> None:
    """Print what was found before a run, where that ends it or somebody is to confirm it.

    Raises CliError where something would fail.
    """
    ok = checked.get("ok", True)
    if json:
        for line in lines(checked):
            say(line.strip())
    elif confirm or not ok:
        _show_summary(checked, source, dry_run=True)
    if not ok:
        message = f"nothing was started: {plural(failures(checked), 'thing')} would fail"
        raise CliError(message, "`--unchecked` runs it anyway.")


def show_applied(applied: dict[str, Any], checked: dict[str, Any], source: str, *, confirmed: bool) -> None:
    """Print what was applied, and what was found before unless somebody has `confirmed` it."""
    from trackbook.cli.terminal.render import print_applied

    if confirmed:
        print_applied(applied)
    else:
        _show_summary(applied | {key: checked.get(key) for key in ("warnings", "findings")}, source)


def _show_summary(reply: dict[str, Any], source: str, *, dry_run: bool = False) -> None:
    from trackbook.cli.terminal.render import print_applied, print_summary, print_warnings

    print_applied(reply, dry_run=dry_run)
    print_summary(reply.get("summary") or {})
    print_warnings(reply.get("warnings") or [], source)
    for line in lines(reply):
        print(line)


def print_dry_run(reply: dict[str, Any], source: str, *, json: bool) -> bool:
    """Print what a run would do, without running it; returns whether it found nothing against it."""
    from trackbook.cli.terminal.formatting import emit
    from trackbook.cli.terminal.render import print_applied, print_summary, print_warnings

    ok = bool(reply.get("ok", True))
    if json:
        emit(reply)
        return ok
    if reply.get("changes") is None:
        print(f"Pipeline {style_text(str(reply.get('name')), 'bold')}, version {reply.get('version')}")
    else:
        print_applied(reply, dry_run=True)
    print_summary(reply.get("summary") or {})
    print_warnings(reply.get("warnings") or [], source)
    for line in lines(reply, everything=True):
        print(line)
    number = failures(reply)
    print("Nothing was run. It would succeed, as far as can be checked." if ok else
          f"Nothing was run. {plural(number, 'thing')} would fail.")  # fmt: skip
    return ok
