"""What is stored: ids, references, sealing, chunking, documents and the local store.

Synchronous and pure: nothing here knows an event loop, a network or a mount.
"""
