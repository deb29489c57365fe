"""`detect -sc install=bash` and what the shell asks then: Hydra's completion, behind the verb of the command line."""

import os

from detect.cli.help import VERBS

FLAGS = ("-sc", "--shell-completion")


def begin(words: list[str]) -> tuple[str, list[str]] | None:
    """The verb and the words with which Hydra answers; None if the verbs were printed, which the shell offers first.

    words: those after `detect`. A shell gives its line in COMP_LINE, and Hydra reads that line without the verb.
    """
    if not words[1:] or not words[1].startswith("query="):
        return "train", words  # installs, or tells what is legal
    program, *given = os.environ.get("COMP_LINE", "").split()[:2] or ["detect"]
    line = os.environ.get("COMP_LINE", "")
    if not given or (line.split()[-1:] == given and not line.endswith(" ")):
        print(" ".join(VERBS))
        return None
    if given[0] not in VERBS:
        return None
    os.environ["COMP_LINE"] = program + line.partition(program)[2].partition(given[0])[2]
    return given[0], words
