"""What libvirt runs: ``qemu.d/50-sidecar``, a shell script. A package only so that sidecarctl finds it."""
