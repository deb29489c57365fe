"""Short forms of several overrides. They are written out before any override is parsed.

init=PATH           means init=path init.path=PATH if PATH is not an option of the group
init=NAME           means init=catalogue init.name=NAME for a name in the catalogue of published weights
init=A,B            of a sweep: the same for several paths, or for several names
init.scope=detector also loads the heads, so stage 1 is left out: classify.enabled=false. With quantize=int8 and
                    the run folder of a detector, stage 2 is left out as well: quantize.float_stage=false.
                    Not so for several values of a sweep, and in files, which give both
fetch NAME          means fetch name=NAME
report STUDY        means report study=STUDY
compare RUN RUN     means compare runs=[RUN,RUN]
migrate FILE        means migrate config=FILE
inspect WHAT        means inspect only=WHAT, for example `inspect quantize`
advise rate         means advise propose=rate
export quantize=X   means export quantization=X, because `quantize` is a group of `train`
evaluate dataset.root=DIR   means evaluate dataset=auto dataset.root=DIR; the same holds for benchmark
"""

import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override

from detect.config.grammar import parse, quoted
from detect.config.resume import CLASSES
from detect.config.tree import listed, nearest, read_yaml
from detect.errors import ConfigError
from detect.files import absolute

PUBLIC = "public"
"""The catalogue of published weights that the configuration uses by default."""

ONLY = ("data", "network", "quantize")
"""The parts that `detect inspect` can show alone."""

WORDS = {"inspect": {word: f"only={word}" for word in ONLY}, "advise": {"rate": "propose=rate"}}
"""Verbs that take certain words, and what each means."""

OF_A_RUN = ("evaluate", "benchmark")
"""Verbs that take the data set of a run if none is named: their group `dataset` starts without an option."""

ONE_WORD = {"fetch": "name", "report": "study", "migrate": "file", "inspect": "part", "advise": "word"}
"""Verbs that take one word without a key, and what it is."""

PATHS = (
    *("run", "model", "output", "annotations", "detections", "config", "resume", "watch", "cache", "init.path"),
    *("dataset.root", "dataset.roots", "classify.dataset.root", "hydra.run.dir", "hydra.sweep.dir"),
)
"""Keys that hold one path, or a list of paths."""
AS_IT_IS = {
    **{"predict": ("images",), "convert": ("images",)},
    **{"report": ("study", "runs", "baseline"), "compare": ("runs",)},
}
"""Further keys of a verb whose value needs no quotes."""


def written_out(
    lines: Iterable[str],
    config_name: str,
    groups: Mapping[str, list[str]],
    folders: Sequence[Path],
    multirun: bool = False,
) -> list[str]:
    """The overrides without short forms; overrides that are written out already stay as they are.

    config_name: the verb's configuration. groups: their options. folders: of configurations, the packaged one first.
    Raises ConfigError for an `init` that is neither an option, nor a published name, nor a file or folder.
    """
    options, names = groups.get("init", []), catalogue(folders)
    lines = list(lines)
    if config_name in ONE_WORD and len(words := [line for line in lines if _is_word(line)]) > 1:
        raise ConfigError(f"{' and '.join(words)}: detect {config_name} takes one {ONE_WORD[config_name]}")
    lines = [_path_as_it_is(line, config_name) for line in lines]
    if config_name == "compare":
        lines = _compared(lines)
    worded = [line for given in lines for line in _word(given, names, config_name)]
    found = [line for given in worded for line in _init(given, options, names, multirun)]
    given = {override.key_or_group: override for override in parse(found)}
    if config_name in OF_A_RUN and "dataset.root" in given and "dataset" not in given:
        found.append("dataset=auto")
    if "init.scope" in given and given["init.scope"].value() == "detector" and "classify" in groups:
        quantised = "quantize" in given and given["quantize"].value() != "none" and _is_of_a_run(given.get("init.path"))
        implied = {"classify.enabled": True, "quantize.float_stage": quantised}
        found += [f"{key}=false" for key, wanted in implied.items() if wanted and key not in given]
        if "quantize.float_stage=false" in found and (unread := [key for key in given if key.startswith("schedule.")]):
            raise ConfigError(
                f"{unread[0]} has no effect: init.scope=detector with the run of a detector leaves the float stage "
                f"out; legal are quantize.{unread[0]}, for the fake-quantised stage, and quantize.float_stage=true"
            )
    return found


def _is_of_a_run(path: Override | None) -> bool:
    """Whether `init.path` is the folder of a run, or the weights in one. Other detectors may know other classes."""
    if path is None or path.is_sweep_override():
        return False
    place = absolute(str(path.value()), "init.path")
    return any((folder / CLASSES).is_file() for folder in (place, *place.parents[:2]))


def catalogue(folders: Iterable[Path]) -> dict[str, str]:
    """Names of the published weights, and the option of the group `init/archives` that holds each."""
    files = [file for folder in folders for file in sorted(folder.glob("init/archives/*.yaml"))]
    return {name: file.stem for file in files for name in _names(file, file.stat().st_mtime_ns)}


@functools.lru_cache(maxsize=64)
def _names(file: Path, changed: int) -> tuple[str, ...]:
    """The top keys of a YAML file, which was changed at that time."""
    return tuple(map(str, read_yaml(file)))


def _word(line: str, names: Mapping[str, str], config_name: str) -> list[str]:
    """Writes out the word that a verb takes without a key, and `export quantize=`."""
    if config_name == "export" and line.startswith("quantize="):
        return [line.replace("quantize", "quantization", 1)]
    if config_name in WORDS and _is_word(line):
        legal = WORDS[config_name]
        if line not in legal:
            raise ConfigError(
                f"{line}: expected key=value, or a word of detect {config_name} ({', '.join(legal)})"
                f"{nearest(line, legal)}"
            )
        return [legal[line]]
    words = {"report": "study", "migrate": "config"}
    if config_name in words and _is_word(line):
        return [f"{words[config_name]}={quoted(line)}"]
    if config_name != "fetch" or ("=" in line and not line.startswith("name=")):
        return [line]
    given, name = (line, line.removeprefix("name=")) if "=" in line else (f"name={quoted(line)}", line)
    return [given, *_held(names.get(name, PUBLIC), "init/archives@archives")]


def _path_as_it_is(line: str, config_name: str) -> str:
    """The override with its value in quotes, if it is a path that exists or that Hydra's grammar can't read.

    So a name with brackets, blanks or commas needs no quotes: `images=IMG[1].jpg`, `dataset.root=photos (1)`. Neither
    does the variant of a study: `baseline=crop=17`.
    """
    key, _, value = line.partition("=")
    keys = (*PATHS, *AS_IT_IS.get(config_name, ()))
    if key.lstrip("+") not in keys or not value or value[0] in "'\"":
        return line
    if key.startswith("hydra."):  # Hydra makes this folder, and does not know `~`
        value = os.path.expanduser(value)
        line = f"{key}={value}"
    if os.path.exists(os.path.expanduser(value)):
        return f"{key}={quoted(value)}"
    items = value[1:-1].split(",") if re.fullmatch(r"\[[^\[\]'\"]*\]", value) else []
    try:
        (override,) = parse([line])
    except ConfigError:
        return f"{key}={_list(items) if items else quoted(value)}"
    if items and any(isinstance(each, int | float) for each in listed(override.value())):
        return f"{key}={_list(items)}"
    if override.is_sweep_override() and not override.is_choice_sweep():
        return line
    values = list(override.sweep_string_iterator()) if override.is_sweep_override() else [value]
    shown = [quoted(each) if _is_number(key, each) else each for each in values]
    return f"{key}={','.join(shown)}" if shown != values else line


def _list(items: Iterable[str]) -> str:
    """A list of these texts, as Hydra reads it."""
    return f"[{','.join(quoted(item.strip()) for item in items)}]"


def _is_number(key: str, value: str) -> bool:
    """Whether Hydra reads a path as a number, as that of a folder called 2024."""
    (override,) = parse([f"{key}={value}"])
    return not override.is_sweep_override() and isinstance(override.value(), int | float)


def _is_word(line: str) -> bool:
    """Whether a line is no override but a word, such as a path that exists, which may hold `=`. `~KEY` is none."""
    removes = line.startswith("~") and not line.startswith("~/")
    return not ("=" in line or removes) or os.path.exists(os.path.expanduser(line))


def _compared(lines: Iterable[str]) -> list[str]:
    """Writes out the words of `detect compare` as one list."""
    lines = list(lines)
    words = [line for line in lines if _is_word(line)]
    others = [line for line in lines if not _is_word(line)]
    return [*others, f"runs=[{','.join(quoted(word) for word in words)}]"] if words else others


def _held(option: str, group: str) -> list[str]:
    """The override that chooses a user's own catalogue; none for the public one."""
    return [] if option == PUBLIC else [f"{group}={option}"]


def _init(line: str, options: list[str], names: Mapping[str, str], multirun: bool) -> list[str]:
    """Writes out `init=VALUE` if VALUE is not an option of the group: as a file or folder, else as a published name."""
    key, _, value = line.partition("=")
    values = [value, *value.split(",")] if multirun else [value]
    known = value in ("", "null", *options) or (multirun and all(v.strip() in options for v in values[1:]))
    if key != "init" or "path" not in options or known:
        return [line]
    found = _one_init(value, options, names)
    if found is None and len(values) > 2:
        return _varied_init(line, [v.strip() for v in values[1:]], options, names)
    if found is None:
        near = nearest(value, [*options, *names])
        fetched = ", nor a name that `detect fetch` lists," if names else ""
        raise ConfigError(
            f"init={value} is neither an option ({', '.join(options)}){fetched} nor a file or folder here{near}"
        )
    return found


def _one_init(value: str, options: list[str], names: Mapping[str, str]) -> list[str] | None:
    """What `init=VALUE` means, for a file, a folder or a published name; None for nothing of these."""
    unquoted = value[1:-1] if len(value) > 1 and value[0] in "'\"" and value[0] == value[-1] else value
    place = absolute(unquoted, "init")
    # A TensorFlow checkpoint is named by a prefix: model.ckpt means model.ckpt.index and its data files.
    if place.exists() or place.with_name(place.name + ".index").exists():
        return ["init=path", f"init.path={quoted(str(place))}"]
    if unquoted in names and "catalogue" in options:
        return ["init=catalogue", f"init.name={quoted(unquoted)}", *_held(names[unquoted], "init/archives")]
    return None


def _varied_init(line: str, values: list[str], options: list[str], names: Mapping[str, str]) -> list[str]:
    """What `init=A,B` of a sweep means. Raises ConfigError unless all are paths, or names of one catalogue."""
    each = [_init(f"init={value}", options, names, multirun=False) for value in values]
    heads = {(lines[0], *lines[2:]) for lines in each}
    if len(heads) > 1:
        raise ConfigError(
            f"{line} is not legal: a sweep varies options ({', '.join(options)}), or files and folders, or names of "
            "one catalogue; not several of these"
        )
    key = each[0][1].partition("=")[0]
    return [each[0][0], f"{key}={','.join(lines[1].partition('=')[2] for lines in each)}", *each[0][2:]]
