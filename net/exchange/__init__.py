"""Blocks from node to node over HTTP: the server on the peer port and the client for it."""
