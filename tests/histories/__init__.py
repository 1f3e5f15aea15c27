"""Histories for the read side: made by the engine's own core, stored in memory."""
