"""What tests read outside of the packages: the code blocks of a page, and Python files of scripts/ and docs/."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^(?P<mark><!-- run -->\n)?```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)


def module(place: str) -> ModuleType:
    """A file that is in no package, as a new module. place: from the top of the checkout."""
    path = ROOT / place
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    found = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def python_blocks(place: str) -> list[str]:
    """The blocks of Python in a page, in order."""
    fences = FENCE.finditer((ROOT / place).read_text(encoding="utf-8"))
    return [fence["text"] for fence in fences if fence["language"] == "python"]
