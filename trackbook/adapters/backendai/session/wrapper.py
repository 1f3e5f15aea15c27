"""The shell script that runs a task's command on a cluster, so that its end is known whatever is forgotten there.

It claims the attempt by making a folder, which one alone can, before the command runs: a session made twice for
an attempt runs its command once. It leaves the output, a sign of life and at last the exit code in the pipeline's
folder (see `record`). It stops the command when `.stop` appears there. The pipeline's code is unpacked before the
command runs (see `unpacking`). POSIX sh: dash, bash and busybox run it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from trackbook.adapters.backendai.session import multiline_variables, unpacking
from trackbook.adapters.execution import result
from trackbook.adapters.execution.shell_command import shell_argument

RECORDS = "/pipeline/.trackbook"
OUTPUTS = "/pipeline/outputs"
TAKEN = 75
"""Exit code of a session whose attempt another one has claimed."""
UNWRITABLE = 76
"""Exit code where the attempt can't be claimed, since the folder isn't there or can't be written."""
UNRECORDED = 77
"""Exit code where the command ended and that could not be written down."""
LONGEST = 60_000
"""Bytes that a start-up command may have; a longer task's command is run from a file in the folder of records."""
BEAT = 10
"""Seconds between two signs of life."""
SILENCE = 120
"""Seconds without a heartbeat after which a second copy of a session waits for the first one no more."""
GRACE = 10
"""Seconds from SIGTERM to SIGKILL where the request to stop does not say."""
LOG_LIMIT = 64 * 2**20
"""Bytes of output in the folder after which that begins again; what was there is counted in the file `.cut`."""
TAIL = 64 * 1024
"""Bytes of output that the exit record has in it."""

_SCRIPT = f"""
_tb_outputs=$2 _tb_name=$3 _tb_attempt=$4 _tb_command=$5
_tb_hash=${{6-}} _tb_archives=${{7-}} _tb_work=${{8-}}
_tb_at=$1/$_tb_name
_tb_say() {{ echo "trackbook: $1" >&2; }}
_tb_now() {{
  _tb_time=$(date -u +%Y-%m-%dT%H:%M:%S.%N)
  case ${{_tb_time#*.}} in
    *[!0-9]* | "") date -u +%Y-%m-%dT%H:%M:%SZ ;;
    *) echo "${{_tb_time}}Z" ;;
  esac
}}
_tb_size() {{ wc -c <"$_tb_at.log" 2>/dev/null | tr -d " "; }}
_tb_who() {{  # members of a JSON object
  printf '"attempt":%s,"session":"%s","kernel":"%s","started_at":"%s"' \\
    "$_tb_attempt" "${{BACKENDAI_SESSION_ID:-}}" "${{BACKENDAI_KERNEL_ID:-}}" "$_tb_began"
}}

_tb_same_session() {{
  [ "${{BACKENDAI_SESSION_ID:-}}" ] || return 1
  for _tb_try in 1 2 3 4 5; do
    [ ! -e "$_tb_at.claim/by" ] || break
    sleep 1
  done
  grep -qF "\\"session\\":\\"$BACKENDAI_SESSION_ID\\"" "$_tb_at.claim/by" 2>/dev/null
}}
_tb_join() {{
  _tb_say "this session runs the command already; waiting for its end"
  _tb_beats= _tb_silence=0
  while [ ! -e "$_tb_at.exit" ]; do
    _tb_had=$_tb_beats
    _tb_beats=$(cat "$_tb_at.alive" 2>/dev/null)
    [ "$_tb_beats" = "$_tb_had" ] && _tb_silence=$((_tb_silence + 1)) || _tb_silence=0
    [ $_tb_silence -lt {SILENCE} ] || return {TAKEN}
    sleep 1
  done
  _tb_code=$(sed -n '
    1s/.*"exit_code":\\([0-9]*\\).*/\\1/p
    1s/.*"signal":\\([0-9]*\\).*/128+\\1/p' "$_tb_at.exit")
  return $((${{_tb_code:-{TAKEN}}}))
}}

if ! mkdir "$_tb_at.claim" 2>/dev/null; then
  if [ -d "$_tb_at.claim" ]; then
    if _tb_same_session; then
      _tb_join
      exit $?
    fi
    _tb_say "this attempt was claimed before; its command is not run again"
    exit {TAKEN}
  fi
  _tb_say "$1 is not there or can not be written: the command is not run"
  exit {UNWRITABLE}
fi
_tb_began=$(_tb_now)
echo "{{$(_tb_who)}}" >"$_tb_at.claim/by.new" && mv "$_tb_at.claim/by.new" "$_tb_at.claim/by"

(
  _tb_nap= _tb_cut=0
  trap "kill \\$_tb_nap; exit 0" TERM
  while kill -0 $$; do
    _tb_now >"$_tb_at.alive"
    _tb_had=$(_tb_size)
    if [ "${{_tb_had:-0}}" -gt {LOG_LIMIT} ]; then
      _tb_cut=$((_tb_cut + _tb_had))
      echo "$_tb_cut" >"$_tb_at.cut"
      : >"$_tb_at.log"
    fi
    sleep {BEAT} &
    _tb_nap=$!
    wait $_tb_nap
  done
) </dev/null >/dev/null 2>&1 &
_tb_beat=$!

{multiline_variables.DECODE}
if [ "$_tb_command" ]; then
  set -- -c "$_tb_command"
else
  set -- "$_tb_at.command"
fi
_tb_state() {{  # its state and its parent's id; nothing without the process
  {{ read -r _tb_stat <"/proc/$1/stat"; }} 2>/dev/null || return 1
  _tb_stat=${{_tb_stat##*) }}
  _tb_parent=${{_tb_stat#? }}
  _tb_parent=${{_tb_parent%% *}}
  case $_tb_stat in [ZX]*) return 1 ;; esac
}}
_tb_tree() {{  # the living ones of the given processes, and all below them
  _tb_all=" $* " _tb_more=1
  while [ "$_tb_more" ]; do
    _tb_more=
    for _tb_dir in /proc/[0-9]*; do
      _tb_id=${{_tb_dir#/proc/}}
      case $_tb_all in *" $_tb_id "*) continue ;; esac
      _tb_state "$_tb_id" || continue
      case $_tb_all in *" $_tb_parent "*) _tb_all="$_tb_all$_tb_id " _tb_more=1 ;; esac
    done
  done
  for _tb_id in $_tb_all; do
    _tb_state "$_tb_id" && echo "$_tb_id"
  done
}}
_tb_watch_stop() {{  # SIGTERM once, to what lives then; SIGKILL to what is left at the end of the grace
  _tb_nap=
  trap 'kill $_tb_nap 2>/dev/null; exit 0' TERM
  while [ ! -e "$_tb_at.stop" ]; do
    _tb_state $1 || exit 0
    sleep 1 &
    _tb_nap=$!
    wait $_tb_nap
  done
  read -r _tb_grace <"$_tb_at.stop"
  case $_tb_grace in *[!0-9]* | "") _tb_grace={GRACE} ;; esac
  _tb_stopped=$(_tb_tree $1)
  [ "$_tb_stopped" ] || exit 0
  kill -TERM $_tb_stopped
  while _tb_left=$(_tb_tree $_tb_stopped); [ "$_tb_left" ] && [ $_tb_grace -gt 0 ]; do
    sleep 1 &
    _tb_nap=$!
    wait $_tb_nap
    _tb_grace=$((_tb_grace - 1))
  done
  [ -z "$_tb_left" ] || kill -KILL $_tb_left
}}
{unpacking.UNPACK}
_tb_shell=$(command -v bash || command -v sh)
_tb_pid= _tb_signalled= _tb_stopped=
_tb_stop() {{
  _tb_signalled=1 _tb_stopped=1
  [ -z "$_tb_pid" ] || kill -TERM $_tb_pid 2>/dev/null
}}
trap _tb_stop TERM INT HUP

: >>"$_tb_at.log"
_tb_problem=
if [ "$_tb_hash" ]; then
  _tb_unpack || set -- -c 'echo "trackbook: $2: the command is not run" >&2; exit $1' sh $? "$_tb_problem"
fi
_tb_pipe=
for _tb_dir in "${{TMPDIR:-/tmp}}" "$_tb_at.claim"; do
  _tb_pipe=$_tb_dir/.trackbook-$_tb_name-$$
  mkfifo "$_tb_pipe" 2>/dev/null && break
  _tb_pipe=
done
if [ "$_tb_pipe" ]; then
  tee -a "$_tb_at.log" <"$_tb_pipe" &
  _tb_tee=$!
  exec 4>"$_tb_pipe"
  rm -f "$_tb_pipe"
else
  exec 4>>"$_tb_at.log"
fi
"$_tb_shell" "$@" >&4 2>&1 4>&- </dev/null &
_tb_pid=$!
exec 4>&- 3>&2 2>/dev/null
(_tb_watch_stop $_tb_pid) </dev/null >/dev/null 2>&1 3>&- &
_tb_watch=$!
[ -z "$_tb_stopped" ] || kill -TERM $_tb_pid 2>/dev/null
wait $_tb_pid
_tb_code=$?
while [ "$_tb_signalled" ]; do
  _tb_signalled=
  wait $_tb_pid
  _tb_again=$?
  case $_tb_again in 127 | -1) ;; *) _tb_code=$_tb_again ;; esac
done
if [ "$_tb_stopped" ]; then  # bash says -1, others 127, of a command whose status it lost during a stop
  case $_tb_code in 127 | -1) _tb_code=143 ;; esac
fi
_tb_pid=
if [ -e "$_tb_at.stop" ]; then
  _tb_stopped=1
  wait $_tb_watch  # what the command has left may be saving its work
else
  kill $_tb_watch 2>/dev/null
fi
if [ "$_tb_pipe" ]; then
  (
    _tb_nap=
    trap "kill \\$_tb_nap; exit 0" TERM
    sleep 2 &
    _tb_nap=$!
    wait $_tb_nap
    kill $_tb_tee
  ) </dev/null >/dev/null 2>&1 3>&- &
  _tb_guard=$!
  wait $_tb_tee
  kill $_tb_guard 2>/dev/null
fi
_tb_ended=$(_tb_now)
kill $_tb_beat 2>/dev/null

_tb_record() {{
  _tb_had=$(_tb_size)
  printf '{{%s,"ended_at":"%s","size":%s' "$(_tb_who)" "$_tb_ended" "${{_tb_had:-0}}"
  if [ $_tb_code -gt 128 ] && [ $_tb_code -le 192 ]; then
    printf ',"signal":%s' $((_tb_code - 128))
  else
    printf ',"exit_code":%s' $_tb_code
  fi
  [ -z "$_tb_stopped" ] || printf ',"stopped":true'
  [ -z "$_tb_problem" ] || printf ',"problem":"%s"' "$(printf "%s" "$_tb_problem" | tr -d '"\\\\\\000-\\037')"
  [ ! -f "$_tb_outputs/{result.FILE}" ] || printf ',"result":%s' $(wc -c <"$_tb_outputs/{result.FILE}")
  echo "}}"
  tail -c $1 "$_tb_at.log"
  echo
  echo "end"
}}
_tb_tail={TAIL}
_tb_left=60
while :; do
  _tb_record $_tb_tail >"$_tb_at.exit.new" 2>/dev/null
  if [ "$(tail -c 4 "$_tb_at.exit.new" 2>/dev/null)" = end ] && mv "$_tb_at.exit.new" "$_tb_at.exit"; then
    exit $_tb_code
  fi
  _tb_tail=0
  _tb_left=$((_tb_left - 1))
  [ $_tb_left -gt 0 ] || break
  sleep 1
done
exec 2>&3
_tb_say "the command ended with $_tb_code, which can not be written to the folder of the pipeline"
exit {UNRECORDED}
"""


def startup(
    name: str,
    attempt: int,
    command: str,
    *,
    empty: Iterable[str] = (),
    records: str = RECORDS,
    outputs: str = OUTPUTS,
    code: str = "",
    archives: str = unpacking.ARCHIVES,
    work: str = unpacking.WORK,
) -> str:
    """Return the session's start-up command; `name` is that of its records. An empty `command` stands in a file.

    `empty` are variables to be set to nothing. `code` is the hash of an archive in the folder `archives`, which
    is unpacked into `work`, where the command then starts; '' for none. Raises ValueError for a command that no
    process can be given.
    """
    if "\0" in command:
        raise ValueError("the command has a NUL character")
    arguments = [records, outputs, name, str(attempt), shell_argument(command)]
    if code:
        arguments += [code, archives, work]
    environment = "".join(f"{shlex.quote(variable + '=')} " for variable in empty)
    begin = f"exec env {environment}sh" if environment else "exec sh"
    return f"{begin} -c {shlex.quote(_SCRIPT.strip())} trackbook {' '.join(map(shlex.quote, arguments))}"


def fits(startup_command: str) -> bool:
    """Whether a start-up command is short enough to be handed through manager and agent."""
    return len(startup_command.encode(errors="surrogateescape")) <= LONGEST
