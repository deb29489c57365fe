"""Tries random and damaged command lines: each must give a checked configuration, or one UserError or HydraException.

    python scripts/fuzz_overrides.py [CASES] [SECONDS]       # make fuzz runs it as well

A case passes `detect.cli.overrides.read` and `prepare`, as the command line does. Composed configurations are kept, so
that most cases take milliseconds. Exit code 1: another error, or a case of more than 30 seconds.
"""

import argparse
import contextlib
import copy
import dataclasses
import functools
import logging
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from composed_once import composed_once, read_once
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from detect.cli import overrides
from detect.config import compose, shorthand
from detect.config.composer import Composer
from detect.config.tree import container, nodes
from detect.errors import UserError

LONGEST = 30  # all cells of a study are composed; seconds of a case
KEPT = 300  # configurations
CHOSEN = 0.02  # of the cases choose options of several groups: these take longest
VERBS = ("train", "predict", "evaluate", "export", "inspect", "convert", "report", "fetch")
SEEDS = (
    "dataset=digits", "dataset=voc dataset.root=DIR", "backbone=vgg16 detector=faster_rcnn", "seed=3 threads=2",
    "-m seed=1,2 schedule.rate=0.1,0.2", "-m seed=range(0,4)", "-m backbone=glob(mobilenet*)", "-m arm=crops,generic",
    "init=imagenet", "init=none", "init=.", "init.scope=detector", "resume=DIR", "resume=null", "trust=[mylib]",
    "backbone._target_=mylib.Net backbone.width=3", "+augment.transforms.blur={_target_:albumentations.Blur,p:0.1}",
    "~augment.transforms.flip", "hooks=[{_target_:mylib.Hook}]", "detector.size=[96,96] limit.train=3",
    "experiment=demo", "experiment=ablation/two_stage", "debug=step", "quantize=int8", "schedule.steps=0",
    "hydra.run.dir=x", "hydra/launcher=joblib_processes", "hydra/job_logging=none", "hydra.job.name=x", "--cfg job",
    "-m schedule.rate=interval(0.1,1)", "-m seed=choice(1,2) hydra.sweep.dir=x", "run=DIR images=a[1].jpg",
    "--config-dir . experiment=x", "--config-name train", "name='a b' study=\"x\"", "dataset.classes=[a,b]",
)  # fmt: skip
VALUES = (
    "", "null", "true", "-1", "0", "1e999", "nan", "inf", "99999999999999999999", "0x1f", "1_000", "[]", "{}", "[[[]]]",
    "[1,2", "{a:1", "{a:{b:[1,{c:2}]}}", "'", '"', "'a", "\\", "\\'", "a b", "a,b", "a=b", "a:b", "a@b", "a/b", "../x",
    "/", "~", "~nobody", "~/x", "*", "?", "é", "日本", "\u202e", "\ufeff", "\0", "\n", "\t", "a" * 3000,
    "[" * 90 + "]" * 90,
    "${seed}", "${name}", "${x}", "${", "${}", "${${seed}}", "${oc.env:NOPE}", "${oc.env:HOME}", "${now:%Y}",
    "${hydra:runtime.cwd}", "${oc.decode:'['}", "${oc.select:seed,1}", "${oc.create:{a:1}}", "${nope:1}",
    "${.x}", "${..x}",
    "${oc.dict.keys:backbone}", "???", "range(3)", "range(0,1000000000)", "range(1,2,0)", "range(0,1e18)",
    "choice(1,2)",
    "choice()", "interval(1,2)", "interval(2,1)", "glob(*)", "glob([*],exclude=v*)", "sort(3,1)", "shuffle(1,2)",
    "tag(a,1)",
    "int(a)", "float(1,2)", "str([1])", "json_str({a:1})", "extend_list(1)", "cast(1)", "!!python/object:os.system",
)  # fmt: skip
SIGNS = "=+~,.:/@[]{}()'\"\\$*?!#%&|<>- \t\n\0aZ09_é"
FLAGS = ("-m", "--cfg", "job", "all", "--resolve", "--package", "x", "--help", "--config-dir", ".", "/nope",  "--info",
         "--config-name", "train", "../train", "--run", "--nope", "-x", "--", "-", "--multirun=1",
         "-cd", "-cn")  # fmt: skip


class Kept(Composer):
    """A composer that is set up once; it forgets configurations when there are many."""

    @contextlib.contextmanager
    def ready(self) -> Iterator[Composer]:
        if len(self._cache) > KEPT:
            self._cache.clear()
        yield self

    def _composed(self, lines: tuple[str, ...]) -> DictConfig:
        return composed_once(self, lines)


_composers: dict[tuple[str, Path | None], Composer] = {}


def _composer(asked: Any) -> Composer:
    """The composer of a command or a request."""
    key = (asked.config_name, asked.config_dir)
    if key not in _composers:
        _composers[key] = Kept(*key)
    return _composers[key]


_load = OmegaConf.load


@functools.cache
def _loaded(file: str | Path) -> Any:
    return _load(file)


@dataclasses.dataclass
class Tally:
    """Counts. failures: the trace of each error that is none of the legal ones, once, with the first command line."""

    cases: int = 0
    legal: int = 0
    refused: int = 0
    longest: float = 0.0
    slowest: list[str] = dataclasses.field(default_factory=list)
    failures: Counter[str] = dataclasses.field(default_factory=Counter)
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)


def damaged(words: list[str], keys: list[str], rng: random.Random) -> list[str]:
    """The words of a command line after up to three random changes."""
    words = list(words)
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        kind = rng.randrange(8)
        place = rng.randrange(len(words) + 1)
        word = words[place] if place < len(words) else ""
        at = rng.randrange(len(word) + 1)
        key, _, value = word.partition("=")
        if kind == 0:
            words[place : place + 1] = [word[:at] + rng.choice(SIGNS) + word[at:]]
        elif kind == 1:
            words[place : place + 1] = [word[:at] + word[at + rng.randrange(1, 4) :]]
        elif kind == 2:
            words[place : place + 1] = [f"{key}={rng.choice(VALUES)}"]
        elif kind == 3:
            words[place : place + 1] = [f"{rng.choice(keys)}={value or rng.choice(VALUES)}"]
        elif kind == 4:
            sign = rng.choice(("", "+", "++", "~", "+++", "~~"))
            words.insert(place, f"{sign}{rng.choice(keys)}{rng.choice(('', '=', '=' + rng.choice(VALUES)))}")
        elif kind == 5:
            words.insert(place, rng.choice(FLAGS))
        elif kind == 6 and words:
            words.insert(place, rng.choice(words))
        else:
            words[place : place + 1] = [f"{rng.choice(keys)}@{rng.choice(keys)}={rng.choice(VALUES)}"]
    return words


def options(groups: Mapping[str, Iterable[str]], rng: random.Random) -> list[str]:
    """A data set, and options of up to five other groups."""
    names = rng.sample(sorted(set(groups) - {"dataset"}), rng.randrange(2, 6))
    data = rng.choice(("dataset=digits", "dataset.root=DIR"))
    return [data, *(f"{name}={rng.choice(sorted(groups[name]))}" for name in names)]


def one(argv: list[str], verb: str) -> None:
    """Reads and checks a command line, as `detect.cli.main.run` does."""
    command = overrides.read(argv, verb)
    if command.options.help or command.options.hydra_help or command.options.info:
        overrides.first_job(command)
    elif not command.options.shell_completion:
        overrides.prepare(command)


def run(cases: int, seconds: float, seed: int = 0) -> Tally:
    """Tries `cases` command lines, or as many as the seconds allow, in an empty folder."""
    rng, tally = random.Random(seed), Tally()
    signal.signal(signal.SIGALRM, _hang)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    overrides.Command.composer = compose.Request.composer = property(_composer)  # type: ignore[assignment,method-assign]
    overrides.CHECKED_JOBS = 2
    OmegaConf.load = lambda file: copy.deepcopy(_loaded(file)) if isinstance(file, str | Path) else _load(file)
    catalogue = functools.cache(shorthand.catalogue)
    shorthand.catalogue = lambda folders: catalogue(tuple(folders))
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place), Composer("train").ready():
        base = container(Kept("train").checked([]))
        groups = Kept("train").groups
        keys = [*(key for key, _ in nodes(base)), *groups, "hydra.run.dir", "hydra.job", "hydra", "x", ""]
        while tally.cases < cases and time.monotonic() < end:
            words = [word for k in range(rng.choice((1, 1, 1, 1, 1, 2))) for word in rng.choice(SEEDS).split()]
            words = options(groups, rng) if rng.random() < CHOSEN else damaged(words, keys, rng)
            _try(words, rng.choice((*VERBS, "train", "train", "train")), tally)
    return tally


def _try(words: list[str], verb: str, tally: Tally) -> None:
    started = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        one(words, verb)
        tally.legal += 1
    except (UserError, HydraException):
        tally.refused += 1
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        trace = traceback.format_exc(limit=-3)
        tally.failures[trace] += 1
        tally.examples.setdefault(trace, [verb, *words])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    tally.cases += 1
    took = time.monotonic() - started
    if took > tally.longest:
        tally.longest, tally.slowest = took, [verb, *words]


class _Hang(BaseException):
    """No error that a program may catch: it must not become a refusal."""


def _hang(number: int, frame: object) -> None:
    raise _Hang(f"longer than {LONGEST} s")


def report(tally: Tally) -> int:
    """Prints the counts and the errors; returns the exit code."""
    print("| command lines | legal | refused | other errors | longest, s |\n|---|---|---|---|---|")
    errors = sum(tally.failures.values())
    print(f"| {tally.cases} | {tally.legal} | {tally.refused} | {errors} | {tally.longest:.2f} |")
    print(f"\nlongest: {tally.slowest!r:.300}")
    for trace, count in tally.failures.most_common(20):
        print(f"\n{count} times, first {tally.examples[trace]!r:.300}:\n{trace[-1500:]}")
    return int(bool(tally.failures) or tally.longest > LONGEST)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("cases", type=int, nargs="?", default=20_000)
    parser.add_argument("seconds", type=float, nargs="?", default=1500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    read_once()
    return report(run(given.cases, given.seconds, given.seed))


if __name__ == "__main__":
    sys.exit(main())
