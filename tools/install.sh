#!/bin/sh
# Makes the local environment in $1 from requirements.lock and installs the project into it, editable.
set -eu
venv=$1

say() { printf '%s\n' "$*" >&2; }

python=
for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
  [ -n "$candidate" ] || continue
  if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  say "Trackbook needs Python 3.11, 3.12 or 3.13; found: $(python3 --version 2>&1 || echo none)."
  say "Install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12 …"
  exit 1
fi

say "Installing into $venv ($("$python" --version)), from requirements.lock …"
if [ ! -x "$venv/bin/pip" ] && ! "$python" -m venv "$venv" >/dev/null 2>&1; then
  # Debian keeps ensurepip in a package of its own.
  minor=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "python$minor-venv is missing: installing it with apt-get."
    apt-get update -qq && apt-get install -y -qq "python$minor-venv" >/dev/null
    "$python" -m venv "$venv"
  else
    say "This Python can't make virtual environments: apt install python$minor-venv, then run make again."
    exit 1
  fi
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
