"""The bare counterpart of the hook: what a shell costs that does nothing."""

COMMAND = ("/bin/dash", "-c", "exit 0")
