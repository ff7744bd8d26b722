"""Sizes that bound what is written and what is accepted, with where they come from."""

MAX_CHUNK_BYTES = 1024 * 1024 - 32
"""Largest plaintext of one block of ours: what sealing adds still fits in 1 MiB."""

MAX_BLOCK_BYTES = 1024 * 1024 + 16
"""Largest stored block accepted: the rewrite of the original stores 1 MiB + one cipher block."""

MAX_PUBLIC_CHUNK_BYTES = 1024 * 1024 - 16
"""Where the original cuts files: encrypted and padded that is exactly 1 MiB."""

MAX_BLOB_BYTES = 2 * 1024 * 1024
"""Largest blob of LBRYnet."""

MAX_NAME_BYTES = 255
"""Longest name of a file or folder, Linux's NAME_MAX."""

MAX_PATH_PARTS = 2048
"""Most parts of a path inside a reference: PATH_MAX holds no more one-letter names."""
