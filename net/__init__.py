"""Who has it: addresses of peers and the sources that blocks come from."""
