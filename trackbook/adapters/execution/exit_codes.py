"""What the exit code of a task's command says."""

from __future__ import annotations

WORK = "/home/work"
IMAGE_PATH = "the image's own"


def describe(code: int, path: str = IMAGE_PATH) -> str:
    """Return in words that a command failed with an exit code; `path` is what PATH the command had.

    126 and 127 are a shell's own: it found no program of that name, or could not execute it.
    """
    found = f"the command ended with exit code {code}"
    if code == 127:
        return (
            f"{found}: a program was not found (PATH: {path}; the working directory {WORK} begins empty but for "
            "mounts and the pipeline's `code`). Name it by its full path, mount its folder, or use an image that "
            "has it"
        )
    if code == 126:
        return (
            f"{found}: a program was found and can't be executed. It needs execute permission (chmod +x), or its "
            f"interpreter before it, as in `sh FILE` (PATH: {path}; working directory {WORK})"
        )
    return found
