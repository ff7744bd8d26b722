"""The consistency check, and the repair of what it finds."""
