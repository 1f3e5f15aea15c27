"""Keys of other workflow engines that would change what a pipeline does, and what to write here instead.

Such a key is refused where it stands: ignoring `depends_on` runs tasks in the wrong order. Keys are compared
without case, `-` and `_`, so that `dependsOn`, `depends-on` and `DEPENDS_ON` are one. A key that stands in the
wrong place (`image` beside `command`) is treated the same way.
"""

from __future__ import annotations

from collections.abc import Mapping


def folded(key: str) -> str:
    """Return a key as the tables below have it: lower case, without `-` and `_`."""
    return key.casefold().replace("-", "").replace("_", "")


def _all(hint: str, keys: str) -> dict[str, str]:
    return {folded(key): hint for key in keys.split()}


def command_synonym(key: str) -> bool:
    """Whether another engine gives a task's command under this key."""
    return TASK.get(folded(key)) == _COMMAND


_DEPENDENCIES = "Write `dependencies: [TASK, …]` in the task that waits."
_COMMAND = "Write `command: …` in the task: one text, run by a shell."
_COMMAND_PARTS = "Write the whole command line, or several lines of it, into the task's `command`."
_NO_TIMEOUT = "There is no time limit for tasks: write `timeout 600 …` (seconds) into the task's `command`."
_NO_CONDITION = "There are no conditions: test in the task's `command`, or write `skip: true`."
_NO_LOOP = "A task runs once in a job: write one task for each value."
_NO_SCHEDULE = "A pipeline holds no schedule: start `trackbook run FILE.yaml` from cron or a systemd timer."
_CONTINUE = "Write `continue_on_failure: true` in the task."
_RETRY = "Write `retry: {max_attempts: 2, delay: 30}` in the task; the delay is in seconds."
_WORKDIR = "Write `cd FOLDER` as the first line of the task's `command`."
_MOUNTS = "Write `mounts: ['FOLDER:ALIAS', …]`."
_ENVS = "Write `environment: {envs: {NAME: value}}`."
_IMAGE = "Write `environment: {image: NAME}`."
_RESOURCES = "Write `resources: {cpu: 1, mem: 2g}`; accelerators by their slot, such as `cuda.shares: 1`."
_SHMEM = "Write `resource_opts: {shmem: 1g}`."
_TASKS = "Write `tasks:`, a list of `{name: …, command: …}`."
_EXECUTOR = "Write `executor: NAME`."
_OF_A_TASK = "It belongs into each task of `tasks` that it is meant for."
_OF_THE_PIPELINE = "It belongs to the pipeline, beside `tasks`."

_EVERYWHERE = (
    _all(_ENVS, "env envs vars variables environment_variables env_vars env_file environments")
    | _all(_IMAGE, "image docker_image container_image container")
    | _all(_RESOURCES, "cpu cpus mem memory gpu gpus gpu_count num_gpus cuda accelerator accelerators")
    | _all(_SHMEM, "shmem shm_size")
    | _all(_MOUNTS, "volumes volume_mounts vfolders mount")
    | _all(_EXECUTOR, "runs_on runner")
    | _all(_WORKDIR, "workdir working_dir working_directory cwd")
    | _all(
        _NO_TIMEOUT,
        "timeout timeouts timeout_seconds timeout_minutes timeout_in_minutes timeout_sec execution_timeout"
        " run_timeout task_timeout job_timeout time_limit max_runtime max_duration deadline"
        " active_deadline_seconds",
    )
    | _all(_NO_SCHEDULE, "schedule schedules schedule_interval cron crons cron_schedule timetable start_date")
    | _all(_NO_CONDITION, "if unless when only except rules condition conditions run_if trigger_rule")
    | _all(_NO_LOOP, "matrix strategy for_each foreach with_items with_param with_sequence loop parallel")
)

TASK: Mapping[str, str] = {
    **_EVERYWHERE,
    **_all(
        _DEPENDENCIES,
        "depends_on depends depend dependency dependencies deps needs need requires require after run_after"
        " upstream upstreams upstream_tasks parents parent predecessors previous wait_for waits_for wait_on"
        " downstream before next",
    ),
    **_all(
        _COMMAND, "command script run cmd commands bash bash_command shell_command execute exec python_script"
    ),
    **_all(_COMMAND_PARTS, "args arguments entrypoint before_script after_script uses"),
    **_all(
        _RETRY,
        "retry retries max_retries max_retry retry_count retry_limit retry_policy retry_strategy retry_delay"
        " retry_delay_seconds retry_exponential_backoff max_attempts attempts restart_policy"
        " backoff_limit",
    ),
    **_all(
        _CONTINUE,
        "continue_on_failure continue_on_error continue_on_fail allow_failure allow_failures ignore_errors"
        " ignore_failure ignore_failed",
    ),
    **_all(_OF_THE_PIPELINE, "tasks code code_sha256"),
}
"""What to write in a task instead of a key that isn't one of its own."""

PIPELINE: Mapping[str, str] = {
    **_EVERYWHERE,
    **_all(_TASKS, "tasks task steps step jobs stages nodes dag workflow"),
    **_all(
        _OF_A_TASK,
        "dependencies command retry continue_on_failure skip cluster_mode cluster_size",
    ),
    **_all(
        _DEPENDENCIES,
        "depends_on depends needs requires upstream upstreams edges",
    ),
    **_all(_COMMAND, "script run cmd commands entrypoint"),
    **_all(_RETRY, "retries max_retries retry_policy retry_strategy max_attempts default_args"),
    **_all(_CONTINUE, "continue_on_error allow_failure ignore_errors"),
    **_all(_NO_SCHEDULE, "on triggers trigger"),
}
"""The same for the pipeline itself."""

ENVIRONMENT: Mapping[str, str] = (
    _all("Write `envs: {NAME: value}` in `environment`.", "envs env vars variables environment_variables")
    | _all("Write `image: NAME` in `environment`.", "image docker_image container_image")
)  # fmt: skip

RETRY: Mapping[str, str] = _all(
    "Write `max_attempts: N` in `retry`: how often the task runs at most, the first time included.",
    "max_attempts attempts max max_retries retries limit count times",
) | _all("Write `delay: SECONDS` in `retry`.", "delay delay_seconds interval wait backoff backoff_seconds")
