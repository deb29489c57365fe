"""Overrides as text and as Hydra reads them: the one place where a line is parsed, and a sweep becomes jobs."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString, ValueType
from hydra.errors import HydraException

from detect.errors import ConfigError

Job = list[Override]
"""The overrides of one run, each with one value."""


def quoted(text: str) -> str:
    """A value that Hydra's grammar reads back as `text`, whatever is in it: =, spaces, commas, quotes."""
    return QuotedString(text, Quote.single).with_quotes()


def parse(lines: Iterable[str]) -> list[Override]:
    """The overrides that the lines stand for. Raises ConfigError for a line that is none."""
    parser = OverridesParser.create()
    parsed = []
    for line in lines:
        try:
            parsed.append(parser.parse_override(line))
        except HydraException as error:
            reason = str(error).splitlines()[0] if "=" in line else "expected key=value or group=option"
            raise ConfigError(f"can't read {line!r}: {reason}") from None
    return parsed


def jobs(asked: Sequence[Override], groups: Mapping[str, list[str]], multirun: bool) -> Iterator[Job]:
    """The overrides of every job of a sweep, or of the one job.

    groups: their options, for sweeps over globs. Raises ConfigError for several values where no sweep is asked for.
    """
    choices: list[Job] = []
    if multirun:  # Hydra's sweepers let the last value of a key count, in the place of the first
        asked = list({override.get_key_element(): override for override in asked}.values())
    for override in asked:
        key = override.get_key_element()
        value: object = override._value
        if not override.is_sweep_override():
            choices.append([override])
        elif not multirun:
            raise ConfigError(
                f"{override.input_line}: several values make a sweep, which needs -m; "
                f"{key}=[...] is a list, {key}='...' is text"
            )
        elif override.value_type is ValueType.INTERVAL_SWEEP:
            continue  # a sampler draws from it: the value is checked when the job comes
        elif isinstance(value, Glob):
            options = groups.get(override.key_or_group, [])
            choices.append(parse(f"{key}={name}" for name in value.filter(options)))
        else:
            choices.append(parse(f"{key}={value}" for value in override.sweep_string_iterator()))
    return (list(job) for job in itertools.product(*choices))
