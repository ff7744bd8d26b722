"""Open a backup in a store, in a process of its own: nothing else's memory counts.

Run as a program, with the store's folder and the reference; the answer is one line of JSON.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.memory import bytes_of
from libernet.blocks.documents import Listing, parse_document, parse_page
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import unseal
from libernet.blocks.store import Store


def opening(folder: Path, reference: Reference) -> dict[str, float]:
    """Open a folder, list its first entries and look into its middle.

    Return the seconds that took, and by how many bytes the most memory ever used grew.
    """
    with Store(folder, reserve_bytes=0) as store:
        before = _most_bytes()
        began = time.perf_counter()
        _first_entries(store, parse_document(_document(store, reference)))
        return {"seconds": time.perf_counter() - began, "bytes": _most_bytes() - before}


def _first_entries(store: Store, listing: Listing) -> None:
    for page in listing.pages[:1] + listing.pages[len(listing.pages) // 2 :][:1]:
        _first_entries(store, parse_page(_document(store, page.reference()), page))
    sorted((*listing.files, *listing.folders))


def _document(store: Store, reference: Reference) -> bytes:
    return unseal(reference, store.get(reference.id))


def _most_bytes() -> int:
    # not getrusage's: that counts what the parent used too
    return bytes_of("VmHWM")


if __name__ == "__main__":
    print(json.dumps(opening(Path(sys.argv[1]), Reference.parse(sys.argv[2]))))
