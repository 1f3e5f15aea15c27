"""The pure core under stories, a simulated world and mutation."""
