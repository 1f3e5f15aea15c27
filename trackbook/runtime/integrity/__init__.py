"""Evidence of loss, and the witnesses that find it."""
