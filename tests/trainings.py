"""Commands that save their work when they get SIGTERM, for tests of how sessions are ended."""

from __future__ import annotations

COUNT = 24
"""So many trainings run in one session: what ends a handler's program does so now and then, not always."""
TRAIN = f"""
cat >save <<'END'
echo saving
until [ -e "$PIPELINE_VFROOT/save" ]; do sleep 0.05; done
echo saved >"$PIPELINE_OUTPUTS/checkpoint-$1"
END
cat >train <<'END'
trap 'sh save "$1"; exit 0' TERM
echo ready
while :; do sleep 0.5; done
END
for number in $(seq {COUNT}); do sh train "$number" & done
"""
"""Trainings that write a checkpoint when they get SIGTERM, each by a program that it starts then.

They say `ready`, and `saving`, and are done once there is a file `save` in the pipeline's shared folder.
"""
WAITS = f"trap : TERM\n{TRAIN}wait\nwait\n"
"""A command that waits for its trainings."""
DIES = f"{TRAIN}wait\n"
"""A command that ends by SIGTERM at once, and leaves its trainings behind."""
