"""Words of other trainers are answered with a key that exists."""

import functools

import pytest

from detect.config.composer import Composer
from detect.config.grammar import parse
from detect.config.other_words import ANYWHERE, OTHER_WORDS, meant
from detect.config.tree import container, nodes
from detect.errors import ConfigError


@functools.cache
def names(verb: str) -> set[str]:
    """The keys and groups of a verb, with the stock choices."""
    composer = Composer(verb, None)
    with composer.ready() as ready:
        cfg = ready.checked(parse(["hydra.run.dir=x"] if verb == "train" else []))
    return {key for key, _ in nodes(container(cfg))} | composer.own_groups()


def test_every_answer_is_a_key_or_a_group():
    known = names("train") | names("predict") | {"quantization", "schedule.optimizer.momentum", *ANYWHERE}
    answers = {key for keys in OTHER_WORDS.values() for key in keys.split(" or ")}
    assert answers <= known, answers - known
    assert not set(OTHER_WORDS) & {key for key in names("train") if "." not in key}


def test_a_word_is_answered_where_its_key_exists():
    assert meant("LR", {"schedule.rate"}) == "; here it is schedule.rate"
    assert meant("lr", {"score"}) == meant("schedule", {"schedule.rate"}) == ""


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("SOLVER.BASE_LR", "schedule.rate"),
        ("SOLVER.MAX_ITER", "schedule.steps"),
        ("SOLVER.IMS_PER_BATCH", "schedule.batch_size"),
        ("MODEL.WEIGHTS", "init"),
        ("DATASETS.TRAIN", "dataset.root"),
        ("load_from", "init"),
        ("work_dir", "hydra.run.dir"),
        ("optim_wrapper.optimizer.lr", "schedule.rate"),
        ("train_cfg.max_epochs", "epochs"),
        ("data.samples_per_gpu", "schedule.batch_size"),
        ("img_scale", "detector.size"),
        ("max_det", "detector.postprocess.total"),
        ("trainer.strategy", "distribute.kind"),
        ("close_mosaic", "mixing.until"),
        ("pipeline_config_path", "detect migrate FILE"),
        ("model_dir", "hydra.run.dir"),
        ("num_train_steps", "schedule.steps"),
        ("SOLVER.WEIGHT_DECAY", "schedule.weight_decay"),
        ("classify.batch_size", ""),
        ("classify.imgsz", ""),
        ("schedul.steps", ""),
    ],
)
def test_a_word_in_a_foreign_tree_is_answered(word, answer):
    """Of detectron2, mmdetection and the Object Detection API. Below a node of ours, the nearest key is better."""
    assert meant(word, names("train")) == (f"; here it is {answer}" if answer else "")


@pytest.mark.parametrize(
    ("verb", "line", "told"),
    [
        ("predict", "weights=FILE", "here it is model"),
        ("predict", "input=a", "here it is images"),
        ("predict", "project=a", "here it is output"),
        ("export", "int8=true", "here it is quantization"),
        ("evaluate", "data=DIR", r"here it is dataset\.root"),
        ("evaluate", "dataset.rot=DIR", r"did you mean dataset\.root"),
        ("fetch", "weights=FILE", "weights$"),
    ],
)
def test_an_answer_is_legal_in_the_verb(verb, line, told):
    with Composer(verb, None).ready() as ready, pytest.raises(ConfigError, match=told):
        ready.checked(parse([line]))


def test_the_message_of_the_command_line():
    with Composer("train", None).ready() as ready, pytest.raises(ConfigError, match=r"batch.*schedule\.batch_size"):
        ready.fitted(parse(["batch=4"]), False)
        ready.checked(parse(["batch=4"]))
