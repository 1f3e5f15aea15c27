"""The part of the wrapper that unpacks the pipeline's code into the session's working directory.

That directory is the session's own, on the disk of its node, and is deleted with the session. The SHA-256 of the
archive is checked first, so that a damaged one is never used. What it holds was checked before it was uploaded
(see `archives`).
"""

from __future__ import annotations

ARCHIVES = "/pipeline/.code"
"""Where a session finds the archives."""
WORK = "/home/work"
NO_TOOL = 78
"""Exit code of a session whose image lacks a program that unpacking needs."""
BAD_ARCHIVE = 79
"""Exit code where the archive is missing or damaged."""
NOT_UNPACKED = 80
"""Exit code where the archive could not be unpacked: the disk is full, say."""

UNPACK = f"""\
_tb_unpack() {{  # into the working directory, where the command then starts; says in _tb_problem why it can't
  _tb_archive=$_tb_archives/$_tb_hash.tar
  for _tb_tool in sha256sum tar; do
    command -v $_tb_tool >/dev/null && continue
    _tb_problem="the image has no $_tb_tool"
    return {NO_TOOL}
  done
  for _tb_try in 1 2 3; do  # the storage may show it late
    [ ! -r "$_tb_archive" ] || break
    sleep 1
  done
  if [ ! -r "$_tb_archive" ]; then
    _tb_problem="the archive $_tb_archive is not there"
    return {BAD_ARCHIVE}
  fi
  _tb_sum=$(sha256sum <"$_tb_archive")
  if [ "${{_tb_sum%% *}}" != "$_tb_hash" ]; then
    _tb_problem="the archive $_tb_archive is damaged: its SHA-256 is ${{_tb_sum%% *}}"
    return {BAD_ARCHIVE}
  fi
  if ! cd "$_tb_work"; then
    _tb_problem="there is no folder $_tb_work"
    return {NOT_UNPACKED}
  fi
  _tb_said=$(tar -xmof "$_tb_archive" 2>&1) && return 0
  _tb_said=$(printf "%s" "$_tb_said" | head -n 3 | head -c 500 | tr "\\n\\r" "  ")
  _tb_problem="tar failed in $_tb_work: $_tb_said"
  return {NOT_UNPACKED}
}}"""
