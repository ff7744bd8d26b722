"""The distributed hash table: who announced a block, kept by the nodes nearest to its key."""
