"""Words of other trainers are answered with a key that exists."""

import pytest

from detect.config.composer import Composer
from detect.config.grammar import parse
from detect.config.other_words import OTHER_WORDS, meant
from detect.config.tree import container, nodes
from detect.errors import ConfigError


def names(verb: str) -> set[str]:
    """The keys and groups of a verb, with the stock choices."""
    composer = Composer(verb, None)
    with composer.ready() as ready:
        cfg = ready.checked(parse(["hydra.run.dir=x"] if verb == "train" else []))
    return {key for key, _ in nodes(container(cfg))} | set(composer.groups)


def test_every_answer_is_a_key_or_a_group():
    known = names("train") | names("predict") | {"hydra.run.dir", "schedule.optimizer.momentum"}
    assert set(OTHER_WORDS.values()) <= known, set(OTHER_WORDS.values()) - known
    assert not set(OTHER_WORDS) & {key for key in names("train") if "." not in key}


def test_a_word_is_answered_where_its_key_exists():
    assert meant("LR", {"schedule.rate"}) == "; here it is schedule.rate"
    assert meant("lr", {"score"}) == meant("schedule", {"schedule.rate"}) == ""


def test_the_message_of_the_command_line():
    with Composer("train", None).ready() as ready, pytest.raises(ConfigError, match=r"batch.*schedule\.batch_size"):
        ready.fitted(parse(["batch=4"]), False)
        ready.checked(parse(["batch=4"]))
