"""What a reader did not use, or had to guess: counted by kind, and told once."""

from collections.abc import Iterable

NAMED = 3


class Notes:
    """Counts items by kind, in the order in which the kinds first occur. Only the first items of a kind are kept.

    close: the pictures that are not where an annotation names them, by the path where they were found: who asked for
    which name. again: those that one file asked for by one name again.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.first: dict[str, list[str]] = {}
        self.close: dict[str, tuple[object, str]] = {}
        self.again: set[str] = set()

    def add(self, kind: str, item: object) -> None:
        """kind: text that reads well before a count, such as "left out, pictures without an XML file"."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= NAMED:
            self.first.setdefault(kind, []).append(str(item))

    def join(self, other: "Notes") -> None:
        """Adds the items of other notes."""
        for kind, count in other.counts.items():
            first = (self.first.get(kind, []) + other.first[kind])[:NAMED]
            self.counts[kind], self.first[kind] = self.counts.get(kind, 0) + count, first
        self.close |= other.close
        self.again |= other.again

    def missing(self, paths: Iterable[str]) -> str:
        """The end of a message about pictures that are used twice: the one whose own picture may be missing."""
        path = next((path for path in paths if path in self.close), "")
        by, name = self.close.get(path, ("", ""))
        if path in self.again:
            return f". {by}: '{name}' is listed twice; join its entries"
        return f". {by}: '{name}' was found only at {path}; is its own missing?" if path else ""

    def lines(self) -> tuple[str, ...]:
        """A line for each kind: its text, the count, and the first items."""
        return tuple(f"{kind}: {count} ({self._named(kind)})" for kind, count in self.counts.items())

    def _named(self, kind: str) -> str:
        more = self.counts[kind] - NAMED
        return ", ".join(self.first[kind]) + (f" and {more} more" if more > 0 else "")
