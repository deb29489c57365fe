"""Damaged annotation files: a reader returns a data set or raises a UserError, whatever bytes and values it reads."""

import random
from collections.abc import Callable
from pathlib import Path

from detect.errors import UserError

ODD = [
    "",
    " ",
    "nan",
    "-inf",
    "1e400",
    "1e12",
    "-3",
    "0",
    "x",
    "a\x00b",
    "../..",
    "Ünïçödé",
    "9" * 5000,
    "true",
    "[]",
    "{}",
    '"',
]
"""Values that a file of text may have in place of a right one."""
ODD_JSON = [
    None,
    True,
    0,
    -1,
    1.5,
    1e300,
    10**400,
    "",
    "x",
    [],
    {},
    [[]],
    [None],
    {"a": None},
    "1",
    [1, 2],
    [[1, 2], [3]],
]
"""Values that a json may have in place of a right one."""


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A copy with a few bytes changed, removed, doubled, or cut off at the end."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(out) + 1)
        end = min(len(out), place + rng.randint(1, 12))
        kind = rng.randrange(5)
        if kind == 0:
            out[place:end] = bytes(rng.randrange(256) for _ in range(end - place))
        elif kind == 1:
            del out[place:end]
        elif kind == 2:
            out[place:place] = out[place:end]
        elif kind == 3:
            out[place:end] = rng.choice(ODD).encode()
        elif rng.random() < 0.3:
            del out[place:]
    return bytes(out)


def with_odd_value(tree: object, rng: random.Random) -> object:
    """A copy of a json's content with one value replaced, or one key or entry removed or doubled."""
    places: list[tuple[object, object]] = []

    def copy(node):
        if isinstance(node, dict):
            out = {key: copy(value) for key, value in node.items()}
        elif isinstance(node, list):
            out = [copy(value) for value in node]
        else:
            return node
        places.extend((out, key) for key in (out if isinstance(out, dict) else range(len(out))))
        return out

    tree = copy(tree)
    parent, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list):
        parent.append(parent[key])
    elif kind == 2:
        return rng.choice(ODD_JSON) if rng.random() < 0.1 else tree
    else:
        parent[key] = rng.choice(ODD_JSON)
    return tree


def count_refusals(read: Callable[[], object], path: Path, contents: list[bytes]) -> int:
    """Reads each content in place of the file's; how many are refused. Any error but a UserError is raised."""
    right = path.read_bytes()
    refused = 0
    for content in contents:
        path.write_bytes(content)
        try:
            read()
        except UserError as error:
            assert len(str(error)) < 3000
            refused += 1
    path.write_bytes(right)
    read()
    return refused
