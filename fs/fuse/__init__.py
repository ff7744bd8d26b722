"""The namespace as a FUSE mount: the only part that knows pyfuse3."""
