"""Parses overrides with Hydra's grammar, and splits a sweep into jobs. No other module does either."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString, ValueType
from hydra.errors import HydraException

from detect.errors import ConfigError

Job = list[Override]
"""The overrides of one run, each with one value."""


MOST_VALUES = 10_000
"""The most values that a sweep may give one key."""


def quoted(text: str) -> str:
    """A value that Hydra's grammar reads back as `text`; `text` may hold =, spaces, commas and quotes."""
    return QuotedString(text, Quote.single).with_quotes()


def is_text(value: object) -> bool:
    """Whether `key=value` gives the key this very text, and no number, true, null, list, sweep or error."""
    try:
        (read,) = parse([f"key={value}"])
    except ConfigError:
        return False
    return isinstance(value, str) and read.value() == value


def demand_text(key: str, value: object) -> str:
    """A value that `is_text`. Raises ConfigError for another one."""
    if not is_text(value):
        raise ConfigError(
            f"{key}={value}: a number, true, null or a list is no name; legal is text, such as my_{value}"
        )
    return str(value)


def parse(lines: Iterable[str]) -> list[Override]:
    """The overrides that the lines hold. Raises ConfigError for a line that is not an override."""
    parser = OverridesParser.create()
    parsed = []
    for line in lines:
        try:
            parsed.append(parser.parse_override(line))
        except HydraException as error:
            reason = str(error).splitlines()[0] if "=" in line else "expected key=value or group=option"
            raise ConfigError(f"can't read {line!r}: {reason}") from None
    return parsed


def without_globs(asked: Iterable[Override], groups: Mapping[str, list[str]]) -> list[Override]:
    """The overrides with the options of a group in place of a glob. Hydra's own globs see no option in a subfolder.

    groups: their options. Raises ConfigError for a glob that no option fits.
    """
    found = []
    for override in asked:
        value: object = override._value
        if isinstance(value, Glob):
            options = value.filter(groups.get(override.key_or_group, []))
            if not options:
                raise ConfigError(f"{override.input_line}: no option of {override.key_or_group} fits")
            found += parse([f"{override.get_key_element()}={','.join(options)}"])
        else:
            found.append(override)
    return found


def jobs(asked: Sequence[Override], groups: Mapping[str, list[str]], multirun: bool) -> Iterator[Job]:
    """The overrides of every job of a sweep; without a sweep, of the only job.

    groups: their options, for sweeps over globs. Raises ConfigError for several values of a key without a sweep.
    """
    choices: list[Job] = []
    asked = without_globs(asked, groups) if multirun else asked
    if multirun:  # Hydra's sweepers use the last value of a key, at the position of the first
        asked = list({override.get_key_element(): override for override in asked}.values())
    for override in asked:
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices.append([override])
        elif not multirun:
            raise ConfigError(
                f"{override.input_line}: several values make a sweep, which needs -m; "
                f"{key}=[...] is a list, {key}='...' is text"
            )
        elif override.value_type is ValueType.INTERVAL_SWEEP:
            continue  # a sampler draws the value: it is checked when its job starts
        else:
            try:
                varied = list(itertools.islice(override.sweep_string_iterator(), MOST_VALUES + 1))
            except (ValueError, OverflowError, MemoryError) as error:
                raise ConfigError(f"{override.input_line}: {error}") from None
            if not 0 < len(varied) <= MOST_VALUES:
                raise ConfigError(f"{override.input_line}: expected 1 to {MOST_VALUES} values of {key}")
            choices.append(parse(f"{key}={each}" for each in varied))
    return (list(job) for job in itertools.product(*choices))
