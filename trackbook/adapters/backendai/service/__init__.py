"""A serving task's model service: plan, reconcile, rolling update, clean-up."""
