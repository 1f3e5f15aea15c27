"""The configuration of executors: executors.toml, which nobody else may read, and the environment."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from trackbook.engine.names import did_you_mean, printable
from trackbook.errors import UserError
from trackbook.private_files import require_file

LOCAL = "local"
CONTAINER = "container"
CLUSTERS = "backendai"
FILE = "executors.toml"
MAIN = "main"
"""The cluster that the environment is about."""

_KEYS = ("default", CLUSTERS, CONTAINER)
_PREFIX = "TRACKBOOK_BACKENDAI_"
_USUAL = {f"BACKEND_{key.upper()}": key for key in ("endpoint", "access_key", "secret_key")}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")
_NAMES_TAKEN = "up to 48 letters, digits, '_' and '-' are taken"


class ExecutorsMisconfigured(UserError, ValueError):
    """The configuration of executors can't be used; says what was found, where, and what to do.

    No value is ever named that might be a secret.
    """


class Configuration(Struct, frozen=True):
    """Which executors were asked for, and where that was said, in words.

    `clusters` and `container` are settings as they were written, `others` those of other packages' executors, by
    name. `sources` says of each executor but the local one where its settings come from, `default_source` the
    same of the default.
    """

    path: Path
    default: str = LOCAL
    default_source: str = "built in"
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    container: dict[str, Any] = field(default_factory=dict)
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


def configuration(data: Path, environment: Mapping[str, str] | None = None) -> Configuration:
    """Read the file and the environment; raises ExecutorsMisconfigured."""
    environment = os.environ if environment is None else environment
    named = environment.get("TRACKBOOK_EXECUTORS")
    path = Path(named).expanduser() if named else data / FILE
    given = _read(path, named=bool(named))
    _refuse_unknown(given, path)
    sources: dict[str, str] = {}
    if container := _table(given, CONTAINER, path):
        sources[CONTAINER] = str(path)
    clusters = _clusters(given, path, environment, sources)
    others = _foreign_settings(given, path, sources)
    default, where = given.get("default", LOCAL), str(path) if "default" in given else "built in"
    if asked := environment.get("TRACKBOOK_EXECUTOR"):
        default, where = asked, "TRACKBOOK_EXECUTOR"
    if not isinstance(default, str) or not default:
        raise ExecutorsMisconfigured(f"{path}: `default` is the name of an executor, such as 'local'")
    return Configuration(path, default, where, clusters, container, others, sources)


def unknown_name(name: str, known: Mapping[str, Any]) -> str:
    """Return the error text for the name of an executor that does not exist."""
    full = f"{CLUSTERS}/{name}"
    meant = f"Did you mean {full!r}?" if full in known else did_you_mean(name, known)
    return f"{meant} Known: {', '.join(sorted(known))}.".strip()


def _read(path: Path, *, named: bool) -> dict[str, Any]:
    """Return what the file says, nothing where there is none; it may hold keys, so nobody else may read it."""
    try:
        if not named:  # what is named may be a pipe that some program writes
            require_file(path)
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ExecutorsMisconfigured(
                    f"{path} may hold keys, and others can get at it (mode {mode:04o}): chmod 600 {path}"
                )
            return tomllib.loads(file.read().decode())
    except FileNotFoundError:
        if named:
            raise ExecutorsMisconfigured(f"TRACKBOOK_EXECUTORS names {path}, which is not there") from None
        return {}
    except OSError as error:
        raise ExecutorsMisconfigured(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ExecutorsMisconfigured(f"{path} is not TOML: it is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ExecutorsMisconfigured(f"{path} is not TOML: {_place(error)}") from None


def _place(error: tomllib.TOMLDecodeError) -> str:
    """Return where the text can't be parsed, but never its content, which may be a key."""
    found = re.search(r"\(at .*\)$", str(error))
    return f"it can't be read any more {found[0].strip('()')}" if found else "it can't be read"


def _refuse_unknown(given: Mapping[str, Any], path: Path) -> None:
    """Refuse a table that is of no installed kind of executor (see `kinds`)."""
    if not given.keys() - set(_KEYS):
        return
    from trackbook.runtime.executors.kinds import kinds

    installed = [*_KEYS, *sorted(kinds().keys() - {*_KEYS, LOCAL})]
    for key in given:
        if key not in installed:
            more = "".join(f", [{kind}]" for kind in installed[len(_KEYS) :])
            raise ExecutorsMisconfigured(
                f"{path}: {printable(key)[:64]!r} means nothing here, only `default`, [{CLUSTERS}.NAME] and"
                f" [{CONTAINER}]{more}. {did_you_mean(key, installed)}".rstrip()
            )


def _foreign_settings(given: Mapping[str, Any], path: Path, sources: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the settings of other packages' executors: of `[KIND]`, or of each `[KIND.NAME]`."""
    found: dict[str, dict[str, Any]] = {}
    for kind in given.keys() - set(_KEYS):
        table = _table(given, kind, path)
        several = table and all(isinstance(each, dict) for each in table.values())
        for name in table if several else ():
            if not _NAME.fullmatch(name):
                raise ExecutorsMisconfigured(
                    f"{path}: {printable(name)[:64]!r} can't be the name of an executor: {_NAMES_TAKEN}"
                )
        found |= {f"{kind}/{name}": table[name] for name in table} if several else {kind: table}
    sources |= dict.fromkeys(found, str(path))
    return found


def _table(given: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    found = given.get(key, {})
    if not isinstance(found, dict):
        raise ExecutorsMisconfigured(f"{path}: {key!r} is a table, written [{key}]")
    return found


def _clusters(
    given: Mapping[str, Any], path: Path, environment: Mapping[str, str], sources: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Return the settings of each cluster; the environment's are those of `main`, over the file's."""
    found: dict[str, dict[str, Any]] = {}
    for name, settings in _table(given, CLUSTERS, path).items():
        if not isinstance(settings, dict):
            raise ExecutorsMisconfigured(
                f"{path}: {printable(name)[:64]!r} is outside of a cluster's table, which is written"
                f" [{CLUSTERS}.NAME], such as [{CLUSTERS}.{MAIN}]"
            )
        if not _NAME.fullmatch(name):
            raise ExecutorsMisconfigured(
                f"{path}: {printable(name)[:64]!r} can't be the name of a cluster: {_NAMES_TAKEN}"
            )
        found[name] = dict(settings)
        sources[f"{CLUSTERS}/{name}"] = str(path)
    ours = _own_settings(environment)
    usual = {key: environment[name] for name, key in _USUAL.items() if environment.get(name)}
    if "endpoint" in usual:  # the official client takes several, and tries one after another
        usual["endpoint"] = usual["endpoint"].partition(",")[0].strip()
    if ours or MAIN in found or len(usual) == len(_USUAL):
        filed = found.get(MAIN, {})
        found[MAIN] = usual | filed | ours
        sources[f"{CLUSTERS}/{MAIN}"] = _sources(path, filed, ours, usual)
    return found


def _own_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what our own variables say of the cluster `main`; those without a value count as unset."""
    found = {name: value for name, value in environment.items() if name.startswith(_PREFIX) and value}
    if not found:
        return {}
    from trackbook.adapters.backendai.config import Cluster

    known = {_PREFIX + key.upper(): key for key in Cluster.__struct_fields__ if key != "name"}
    for name in found:
        if name not in known:
            raise ExecutorsMisconfigured(
                f"the variable {printable(name)[:96]} means nothing. {did_you_mean(name, known)}".rstrip()
            )
    return {known[name]: value for name, value in found.items()}


def _sources(path: Path, filed: Mapping[str, Any], ours: Mapping[str, str], usual: Mapping[str, str]) -> str:
    """Return in words what a cluster's settings were taken from."""
    names = [_PREFIX + key.upper() for key in sorted(ours)]
    names += [name for name, key in _USUAL.items() if key in usual and key not in filed and key not in ours]
    return ", ".join([*([str(path)] if filed else []), *names])
