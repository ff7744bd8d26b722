"""The convergence secret: 32 random bytes that make the blocks of one account its own."""

from pathlib import Path

from libernet.blocks.key_files import KEY_BYTES, load_or_create_key

SECRET_BYTES = KEY_BYTES


def load_or_create_secret(path: Path) -> bytes:
    """Return the secret kept in the file *path*, made there first if there is none.

    As durable and as private as libernet.blocks.key_files says; StoreError where it is not so.
    """
    return load_or_create_key(
        path,
        name="secret",
        if_lost="a new secret is made, what is stored stays readable, but equal files are stored"
        " once more",
    )
