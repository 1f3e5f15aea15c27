"""The only loops: composition root, command handling, saga driver, projector."""
