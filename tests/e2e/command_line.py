"""The real command line in processes of its own, as a person or a script has it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 120
_OWN = ("TRACKBOOK_", "XDG_", "NOTIFY_")


class CommandLine:
    """Runs `trackbook …` with a HOME of its own, which holds the data directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / ".local" / "share" / "trackbook"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        self.environment = clean | {"HOME": str(home), "TZ": "UTC", "COLUMNS": "120"}

    def begin(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command; its stdout and stderr are read as lines."""
        return subprocess.Popen(
            [sys.executable, "-m", "trackbook", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment | environment,
            cwd=self.home,
        )

    def __call__(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run a command to its end and return its stdout; it must exit with `code`."""
        return self.both(*arguments, code=code, **environment)[0]

    def both(self, *arguments: str, code: int = 0, **environment: str) -> tuple[str, str]:
        """Run a command to its end and return its stdout and stderr."""
        with self.begin(*arguments, **environment) as process:
            out, err = finish(process)
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{out}\n{err}"
        return out, err

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run a reading command and return its JSON."""
        return json.loads(self(*arguments, "--json", code=code))

    def server_url(self) -> str:
        """Return the address of the server that holds the data directory."""
        return str(json.loads((self.data / "server.json").read_bytes())["url"])

    def server_headers(self) -> dict[str, str]:
        """Return the headers that its HTTP asks for."""
        token = json.loads((self.data / "server.json").read_bytes())["token"]
        return {"Authorization": f"Bearer {token}"}

    def server_pid(self) -> int:
        """Return its process id."""
        return int(json.loads((self.data / "server.json").read_bytes())["pid"])

    @contextmanager
    def up(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Run a server until the end of the block."""
        fast = ("--durability", "fast", "--http", "127.0.0.1:0", "--log-level", "error")
        with self.begin("up", *fast, *arguments, **environment) as process:
            try:
                wait_for_line(process, "Trackbook serves", process.stderr)
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                finish(process)

    def pipeline(self, name: str, **commands: str) -> str:
        """Write a pipeline of tasks that run one after the other; returns its file."""
        tasks, before = [], ""
        for task, command in commands.items():
            tasks.append({"name": task, "command": command, "dependencies": [before] if before else []})
            before = task
        file = self.home / f"{name}.yaml"
        file.write_text(json.dumps({"name": name, "tasks": tasks}))  # JSON is YAML
        return str(file)


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the end of a process; one that hangs is killed, and that is an error."""
    try:
        return process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def wait_for_line(process: subprocess.Popen[str], text: str, stream: Any = None) -> str:
    """Read the process's output until a line holds the text; returns that line."""
    seen = []
    for line in stream or process.stdout or ():
        seen.append(line)
        if text in line:
            return str(line)
    process.wait(PATIENCE)
    raise AssertionError(
        f"{text!r} never came, exit code {process.returncode}:\n{''.join(seen)}{process.communicate()}"
    )


def run_letters(cli: CommandLine) -> str:
    """Run a pipeline `letters` whose tasks leave files; returns the job's id."""
    file = cli.pipeline(
        "letters",
        write='echo dear > "$PIPELINE_OUTPUTS/two words"; mkdir "$PIPELINE_OUTPUTS/sub"; '
        'echo 한글 > "$PIPELINE_OUTPUTS/sub/한글"; echo shared > "$PIPELINE_VFROOT/notes"',
        read="true",
    )
    return str(cli.json("run", file)["id"])


def folder_of_letters(cli: CommandLine) -> Path:
    """Return the folder of `letters` on disk."""
    return cli.data / "pipelines" / str(cli.json("pipeline", "show", "letters")["id"])
