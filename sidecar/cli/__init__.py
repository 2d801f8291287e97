"""``sidecarctl``, the host's command line."""
