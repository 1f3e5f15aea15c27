"""The definition of a pipeline, for those who use it; each part stands in a module of its own.

Content and its hash (`content`), what it must be (`rules`), a task as it runs (`effective`), figures (`summary`).
"""

from __future__ import annotations

from trackbook.engine.content import Content, canonical, content_hash, from_mapping, to_document
from trackbook.engine.effective import Task, shapes, tasks
from trackbook.engine.rules import blockers, check
from trackbook.engine.summary import Summary, summary

__all__ = [
    "Content",
    "Summary",
    "Task",
    "blockers",
    "canonical",
    "check",
    "content_hash",
    "from_mapping",
    "shapes",
    "summary",
    "tasks",
    "to_document",
]
