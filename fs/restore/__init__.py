"""Writing what the mount shows read-only to a folder of this machine, past the kernel."""
