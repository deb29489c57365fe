"""What a reader did not use, or had to guess: counted by kind, and told once."""

from detect.errors import first_few

NAMED = 3


class Notes:
    """Collects items by kind, in the order in which the kinds first occur."""

    def __init__(self) -> None:
        self.kinds: dict[str, list[str]] = {}

    def add(self, kind: str, item: object) -> None:
        """kind: text that reads well before a count, such as "left out, pictures without an XML file"."""
        self.kinds.setdefault(kind, []).append(str(item))

    def lines(self) -> tuple[str, ...]:
        """A line for each kind: its text, the count, and the first items."""
        return tuple(f"{kind}: {len(items)} ({first_few(items, NAMED)})" for kind, items in self.kinds.items())
