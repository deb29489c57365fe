"""The ledger of a transfer of weights: which variables of the model and arrays of the file were loaded."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from detect.errors import printable
from detect.files import write_json

Shape = tuple[int, ...]


@dataclass
class Ledger:
    """The result for every variable of the model (or of its backbone) and every array of the file, name -> shape.

    loaded: in both, and assigned. skipped: named by the caller, or a head when only the backbone is wanted.
    missing: in the model only. unexpected: in the file only. mismatched: name -> (file shape, model shape).
    kept: the skipped variables of the model, which keep their values. The other skipped ones are arrays of the file.
    """

    source: str
    loaded: dict[str, Shape] = field(default_factory=dict)
    skipped: dict[str, Shape] = field(default_factory=dict)
    missing: dict[str, Shape] = field(default_factory=dict)
    unexpected: dict[str, Shape] = field(default_factory=dict)
    mismatched: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    kept: dict[str, Shape] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, unexpected or mismatched."""
        return not (self.missing or self.unexpected or self.mismatched)

    def totals(self) -> dict[str, tuple[int, int]]:
        """(variables, parameters) of each of the five kinds. For mismatched variables, the model's parameters count."""
        shapes: dict[str, list[Shape]] = {
            "loaded": list(self.loaded.values()),
            "skipped": list(self.skipped.values()),
            "missing": list(self.missing.values()),
            "unexpected": list(self.unexpected.values()),
            "mismatched": [model for _, model in self.mismatched.values()],
        }
        return {key: (len(items), sum(math.prod(shape) for shape in items)) for key, items in shapes.items()}

    def lines(self, width: int = 80) -> list[str]:
        """Five lines for the console: variables and parameters of each kind, and a name for each kind except loaded."""
        result = []
        for kind, (variables, parameters) in self.totals().items():
            line = f"{kind:<10} {variables:>4} variables {parameters:>11,} parameters"
            names = [] if kind == "loaded" else list(getattr(self, kind))
            if names:
                line += f"  {printable(names[0])}" + (", ..." if len(names) > 1 else "")
            result.append(line if len(line) <= width else line[: width - 3] + "...")
        return result

    def save(self, path: str | Path) -> None:
        """Writes the whole ledger as JSON."""
        kinds = {kind: getattr(self, kind) for kind in self.totals()}
        totals = {kind: {"variables": n, "parameters": p} for kind, (n, p) in self.totals().items()}
        write_json(Path(path), {"source": self.source, "totals": totals, **kinds, "kept": self.kept}, indent=1)
