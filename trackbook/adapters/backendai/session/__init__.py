"""A task's session: plan, launch, watch, outcome, termination."""
