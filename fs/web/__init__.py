"""The view by URL: what a browser or curl on this machine sees of bundles, blocks and streams."""
