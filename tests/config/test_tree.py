"""Nodes, leaves and nearest names of plain trees."""

import pytest
from omegaconf import OmegaConf

from detect.config.tree import below, container, leaves, listed, nearest, nodes, plain, targets
from detect.errors import ConfigError


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("schedul.steps", "schedule.steps"),
        ("schedule.stepss", "schedule.steps"),
        ("schedule.batchsize", "schedule.batch_size"),
        ("sed", "seed"),
        ("steps", "schedule.steps or classify.schedule.steps"),
    ],
)
def test_nearest(wanted, meant):
    legal = ["seed", "schedule", "schedule.steps", "schedule.batch_size", "schedule.rate", "classify.schedule.steps"]
    text = nearest(wanted, legal)
    assert sorted(text.removeprefix("; did you mean ").removesuffix("?").split(" or ")) == sorted(meant.split(" or "))


def test_the_key_itself_is_not_near():
    assert nearest("logger", ["logger", "name"]) == ""


def test_nearest_of_nothing_alike():
    assert nearest("zzz", ["seed", "schedule.steps"]) == ""
    assert nearest("zzz", []) == ""


def test_plain_resolves_and_leaves_out_hydra():
    cfg = OmegaConf.create({"a": [1, "${b.c}"], "b": {"c": 2, "d": "???"}, "hydra": {"x": "${nowhere}"}})
    del cfg["hydra"]
    assert plain(cfg) == {"a": [1, 2], "b": {"c": 2, "d": "???"}}


def test_nodes_and_leaves():
    tree = {"a": {"b": 1, "c": {}}, "d": [{"e": 2}]}
    assert [key for key, _ in nodes(tree)] == ["a", "a.b", "a.c", "d", "d.0", "d.0.e"]
    assert list(leaves(tree)) == [("a.b", 1), ("a.c", {}), ("d", [{"e": 2}])]


def test_a_single_value_is_a_list_of_one():
    found = [listed(value) for value in (None, "abc", 2024, ["a", "b"], OmegaConf.create(["a"]))]
    assert found == [[], ["abc"], [2024], ["a", "b"], ["a"]]


def test_container_leaves_interpolations():
    assert container(OmegaConf.create({"a": "${b}", "b": 1})) == {"a": "${b}", "b": 1}


def test_plain_names_the_key_of_a_bad_interpolation():
    with pytest.raises(ConfigError, match=r"^a\.b: Interpolation key 'c' not found"):
        plain(OmegaConf.create({"a": {"b": "${c}"}}))


def test_targets_and_what_is_below():
    tree = {"a": {"_target_": "x.f", "b": [{"_target_": "x.g"}]}, "c": {"d": 1}}
    assert list(targets(tree)) == ["a", "a.b.0"]
    assert below("a.b", targets(tree)) and below("a.b.0.k", ["a.b.0"])
    assert not below("a", targets(tree)) and not below("ab.c", ["a"])
