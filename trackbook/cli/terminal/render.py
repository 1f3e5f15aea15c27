"""Prints the replies to commands."""

from __future__ import annotations

from typing import Any

from trackbook.cli.errors import place_text
from trackbook.cli.terminal.formatting import plural, style_text

_CHANGES_SHOWN = 12


def print_applied(reply: dict[str, Any], *, dry_run: bool = False) -> None:
    """Print what became of a pipeline, or would: a new one, a new version with its changes, or nothing."""
    name, version, changes = reply.get("name"), reply.get("version"), reply.get("changes") or []
    shown = f"Pipeline {style_text(str(name), 'bold')}"
    if not changes:
        print(f"{shown}: unchanged, version {version}")
    elif version == (0 if dry_run else 1):
        print(f"{shown}: {'would be ' if dry_run else ''}created, version 1")
    else:
        print(f"{shown}: {'would become ' if dry_run else ''}version {(version or 0) + dry_run}")
        for line in changes[:_CHANGES_SHOWN]:
            print(f"  {line}")
        if len(changes) > _CHANGES_SHOWN:
            print(f"  and {plural(len(changes) - _CHANGES_SHOWN, 'more change')}")


def print_summary(summary: dict[str, Any]) -> None:
    """Print a pipeline's size: its tasks, how they hang together, and what they ask for."""
    if not summary:
        return
    shape = [plural(summary["tasks"], "task")]
    if summary.get("skipped"):
        shape.append(f"{summary['skipped']:,} of them skipped")
    if summary.get("width", 0) > 1:
        shape.append(f"up to {summary['width']:,} side by side")
    if summary.get("depth", 0) > 1:
        shape.append(f"{summary['depth']:,} in the longest chain")
    print("  " + ", ".join(shape))
    for words, slots in (("resources of all", summary.get("total")), ("of the largest", summary.get("largest"))):
        if slots and (summary["tasks"] > 1 or words == "resources of all"):
            print(
                f"  {words}: " + ", ".join(f"{slot} {amount_text(slot, value)}" for slot, value in slots.items())
            )
    if images := summary.get("images"):
        print(f"  images: {', '.join(images[:4])}{f' and {len(images) - 4} more' if len(images) > 4 else ''}")


def amount_text(slot: str, value: float) -> str:
    """Return an amount of a resource for people; memory comes in bytes."""
    if slot not in ("mem", "shmem"):
        return f"{value:g}"
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


def print_warnings(warnings: list[dict[str, Any]], source: str = "") -> None:
    """Print what was accepted and is not acted on as its author may expect."""
    for warning in warnings:
        where = place_text(warning, source if warning.get("path") or warning.get("line") else "")
        print(f"  {style_text('warning', 'yellow')}: {warning['message']}{f' ({where})' if where else ''}")
