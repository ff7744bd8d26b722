"""Folders of this machine that are read into a backup, without the detour through the kernel."""
