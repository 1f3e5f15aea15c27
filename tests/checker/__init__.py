"""An independent checker of what the log and the commands themselves recorded; it imports nothing of ours."""
