"""How often each of very many numbers is in use, without an object for each."""

from array import array

_PAGE_NUMBERS = 64  # those of a folder are often neighbours: a page of 512 bytes serves them all


class UseCounts:
    """A count for each number, 0 unless it was added to.

    State: _pages, arrays of the counts of 64 numbers in a row each; none is all zeros.
    """

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}

    def __contains__(self, number: int) -> bool:
        """Tell whether a number is in use."""
        page = self._pages.get(number // _PAGE_NUMBERS)
        return page is not None and page[number % _PAGE_NUMBERS] > 0

    def add(self, number: int) -> None:
        """Count one use more."""
        place = number // _PAGE_NUMBERS
        page = self._pages.get(place)
        if page is None:
            page = self._pages[place] = array("Q", bytes(8 * _PAGE_NUMBERS))
        page[number % _PAGE_NUMBERS] += 1

    def take(self, number: int, times: int) -> bool:
        """Count so many uses less, 0 at the least, and tell whether any is left."""
        place = number // _PAGE_NUMBERS
        page = self._pages.get(place)
        if page is None:
            return False
        index = number % _PAGE_NUMBERS
        page[index] = max(0, page[index] - times)
        if page[index]:
            return True
        if not any(page):
            del self._pages[place]
        return False
