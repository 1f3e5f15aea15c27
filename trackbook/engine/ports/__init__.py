"""What the engine needs from outside, as small protocols; one contract suite each under tests/contract."""

from __future__ import annotations

from trackbook.engine.ports.blobs import BlobMissing, Blobs
from trackbook.engine.ports.executors import UNKNOWN_JOB, Backend, ExecutorUnavailable, Finding, Live, Owned
from trackbook.engine.ports.folders import (
    CutListing,
    FileEntry,
    FolderMissing,
    Folders,
    FolderState,
    NoSuchFile,
    UnsafePath,
)
from trackbook.engine.ports.sessions import Executor, ReportSink, SessionInput, SessionSpec
from trackbook.engine.ports.store import Append, AppendConflict, EventStore, LossFound, Stored, StoreUnanswered

__all__ = [
    "UNKNOWN_JOB",
    "Append",
    "AppendConflict",
    "Backend",
    "BlobMissing",
    "Blobs",
    "CutListing",
    "EventStore",
    "Executor",
    "ExecutorUnavailable",
    "FileEntry",
    "Finding",
    "FolderMissing",
    "FolderState",
    "Folders",
    "Live",
    "LossFound",
    "NoSuchFile",
    "Owned",
    "ReportSink",
    "SessionInput",
    "SessionSpec",
    "StoreUnanswered",
    "Stored",
    "UnsafePath",
]
