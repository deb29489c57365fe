"""What every packaged YAML file is held to; the files are globbed, so that a newcomer is tested without an edit."""

import fnmatch
import inspect
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml

from detect.cli import help
from detect.cli.overrides import prepare, read
from detect.config import check
from detect.config.compose import compose
from detect.config.composer import Composer, groups
from detect.config.legal_values import RUN_KEYS, refusals
from detect.config.signatures import static_signature
from detect.config.tree import nodes, plain, targets
from detect.errors import ConfigError
from tests.outside import module
from tests.verbs import composed

FILES = sorted(check.CONFIG_DIR.rglob("*.yaml"))
EXPERIMENTS = check.CONFIG_DIR / "experiment"
PARTS = {"neck": "extras", "head": "conv", "anchors": "ssd"}  # of detector=ssd
OPTIONS = [f"{group}={option}" for group, options in groups([check.CONFIG_DIR]).items() for option in options]


def place(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def load(file: Path) -> dict[str, Any]:
    """The file's values; a group of its defaults list (`- optimizer: adamw`) counts as a key that is given."""
    tree = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    for default in tree.pop("defaults", []):
        if isinstance(default, dict):
            for group in default:
                name = group.removeprefix("override ").partition("@")[2] or group.rpartition("/")[2]
                tree.setdefault(name, None)
    return tree


def mismatches(root: Path) -> list[str]:
    """Arguments of `detect.*` targets below `root` that the YAML lacks, and keys that the signatures lack."""
    found = []
    for file in sorted(root.rglob("*.yaml")):
        tree = load(file)
        own = f"{place(file, root)}:"
        for path, node in [("", tree), *nodes(tree)]:
            if isinstance(node, dict) and str(node.get("_target_", "")).startswith("detect."):
                found += check.target_problems(f"{own}{path}", node, complete=True)
    return found


def test_every_argument_is_in_its_yaml_and_the_other_way_round():
    assert mismatches(check.CONFIG_DIR) == []


def test_a_part_that_a_constructor_needs_is_never_null():
    """Of each packaged node; what has null in its YAML, or a default of None, may be null."""
    needed = set()
    for file in FILES:
        tree = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        found = [node for _, node in [("", tree), *nodes(tree)] if isinstance(node, dict)]
        for node in (node for node in found if str(node.get("_target_", "")).startswith("detect.")):
            for key, value in ((key, value) for key, value in node.items() if not key.startswith("_")):
                refused = check._illegal_arguments("", {"_target_": node["_target_"], key: None})
                assert value is not None or not refused, (file, key)
                needed |= {(file.stem, key)} if isinstance(value, dict) and "_target_" in value and refused else set()
    parts = {("ssd", "target_assigner"), ("ssd", "postprocess"), ("none", "mosaic"), ("faster_rcnn", "roi")}
    assert parts <= needed and ("ssd", "sampler") not in needed


def test_an_empty_tree_passes(tmp_path):
    assert mismatches(tmp_path) == []


def test_planted_mismatches_are_found(tmp_path, monkeypatch):
    code = "def build(root, scale=1.0, *, num_classes, optimizer, classes=None): ..."
    (tmp_path / "detect_sample.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "configs" / "part"
    folder.mkdir(parents=True)
    (folder / "good.yaml").write_text(
        "defaults:\n  - optimizer: sgd\n_target_: detect_sample.build\nroot: x\nscale: 1\n"
    )
    (folder / "bad.yaml").write_text("inner:\n  _target_: detect_sample.build\n  root: x\n  scael: 1\n")
    found = []
    for file in sorted(folder.glob("*.yaml")):
        for path, node in [("", load(file)), *nodes(load(file))]:
            if isinstance(node, dict) and "_target_" in node:
                found += check.target_problems(f"{file.stem}:{path}", node, complete=True)
    assert found == [
        "unknown key bad:inner.scael: detect_sample.build has no argument scael; did you mean scale?",
        "bad:inner.optimizer is missing: detect_sample.build needs it",
        "bad:inner.scale is missing: detect_sample.build needs it",
    ]


def all_keys() -> Iterator[str]:
    """Dotted keys of all packaged files, each where its group puts it."""
    for file in FILES:
        group = file.parent.relative_to(check.CONFIG_DIR).as_posix().replace("/", ".")
        for key, _ in nodes(load(file)):
            yield key if group == "." else f"{group}.{key}"


def numeric_arguments() -> dict[str, tuple[str, str, object]]:
    """Target, name and annotation of each argument in the packaged files that takes numbers, by a short name."""
    found = {}
    for file in FILES:
        for _, node in [("", load(file)), *nodes(load(file))]:
            if isinstance(node, dict) and str(target := node.get("_target_", "")).startswith("detect."):
                for name, argument in static_signature(target).parameters.items():
                    if name in node and re.search(r"\b(int|float)\b", str(argument.annotation)):
                        found[f"{target.rpartition('.')[2]}.{name}"] = target, name, argument.annotation
    return found


@pytest.mark.parametrize("short", numeric_arguments())
def test_a_number_below_0_is_refused(tmp_path, monkeypatch, short):
    """By its annotation, or by the constructor, which then knows of other arguments as well."""
    monkeypatch.chdir(tmp_path)
    target, name, annotation = numeric_arguments()[short]
    if short == "GridAnchors.offset":  # pixels in either direction
        return
    for value in (-1, -1.0, [-1], [-1, -1], [-1.0, -1.0]):
        if not refusals(name, value, annotation):
            signature = inspect.signature(call := hydra.utils.get_object(target))
            needed = {a.name: "x" for a in signature.parameters.values() if a.default is a.empty}
            with pytest.raises(ConfigError, match=name):
                call(**needed | {name: value})


@pytest.mark.parametrize("verb", sorted(help.VERBS))
def test_a_text_in_place_of_a_switch_is_refused(verb):
    """Any text is true, also `no`. Parts of tf_keras, albumentations and the catalogue have rules of their own."""
    tree = plain(composed(verb, *["quantize=int8"] * (verb == "train")))
    called = targets(tree)
    for key, value in nodes(tree):
        parent, _, name = key.rpartition(".")
        if not isinstance(value, bool) or name.startswith("_") or check.is_open(key):
            continue
        if (node := called.get(parent)) is None:
            assert any(not legal.admits("no") for legal in check._legal_of(key)), key
        elif node["_target_"].startswith("detect."):
            assert check._illegal_arguments(parent, {**node, name: "no"}), key


@pytest.mark.parametrize(
    "words",
    [
        ["detector=faster_rcnn", "detector.rpn_head.channels=0"],
        ["detector=faster_rcnn", "detector/box_head=two_fc", "detector.box_head.units=0"],
        ["classify.classifier.hidden=[0]"],
        ["detector/neck=inception_block", "detector.neck.min_depth=1"],
        ["detector.neck.channels=[512,-3]"],
        ["detector.neck.depth_multiplier=0"],
    ],
)
def test_a_layer_of_no_channels_is_refused(words):
    with pytest.raises(ConfigError, match=f"{re.escape(words[-1].partition('=')[0])}.* is not legal: expected"):
        compose(["dataset=digits", *words])


def test_rules_are_of_keys_that_exist():
    keys = set(all_keys())
    assert [glob for glob in RUN_KEYS if not any(fnmatch.fnmatchcase(key, glob) for key in keys)] == []


@pytest.mark.parametrize("option", ["", *OPTIONS])
def test_every_option_of_train_composes_and_is_legal(option):
    group = option.partition("=")[0]
    argv = [option] if option else []
    command = read(argv, "train")
    try:
        prepare(command)
    except ConfigError as error:
        unused = f"'{group}'" in str(error) or "No match in the defaults list" in str(error)
        missing = all(" is missing: give " in line for line in str(error).splitlines())
        assert unused or missing, str(error)


@pytest.mark.parametrize("verb", sorted(help.VERBS))
def test_every_verb_has_a_config_that_composes_and_a_help_of_80_columns(verb):
    command = read([], verb)
    text = help.verb_help(command)
    assert max(map(len, text.splitlines())) <= 80
    assert f"detect {verb}: {help.VERBS[verb]}" in text


@pytest.mark.parametrize("detector", sorted(f.stem for f in FILES if f.parent.name == "detector"))
def test_the_help_of_train_explains_each_key_that_it_shows(detector):
    """Also those of a group at another place, and those that an option has from the file that it is built on."""
    text = help.verb_help(read([f"detector={detector}"], "train"))
    for key in help.MOST_USED:
        shown = text.partition(f"  {key}=")[2].splitlines()
        assert len(shown[0].split("  ", 1)) > 1 or shown[1].startswith(" " * help.COLUMN), key


def test_the_help_of_train_has_every_group_of_its_defaults():
    """Also those that have no option by default."""
    text = help.verb_help(read([], "train"))
    for group in Composer("train").own_groups() - {"detector/box_head"}:
        assert f"\n  {group} " in text or f"\n  {group}@" in text, group


@pytest.mark.parametrize("file", [f for f in FILES if f.parent == check.CONFIG_DIR], ids=lambda f: f.stem)
def test_each_key_of_a_verb_has_a_comment(file):
    """But for a mapping on one line, which that of its node explains."""
    keys = module("docs/generate.py").read(file).keys
    assert [key.name for key in keys if not key.comment and not str(key.value).startswith("{")] == []


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_the_comment_of_a_key_is_on_its_line(file):
    """`--help` and the site show that line."""
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r"\s+#", line)] == []


@pytest.mark.parametrize("file", [f for f in FILES if EXPERIMENTS in f.parents], ids=lambda f: f.stem)
def test_experiment_starts_with_a_comment_that_holds_its_command(file):
    head = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        head.append(line)
    name = file.relative_to(EXPERIMENTS).with_suffix("").as_posix()
    assert f"experiment={name}" in "\n".join(head), "say what it reproduces, the command, the score and the time"


@pytest.mark.parametrize("detector", ["ssdlite", "ssd_fpn", "ssd_fpnlite", "ssd300_vgg16"])
def test_each_part_of_ssd_goes_with_each_preset(detector):
    """What a preset sets in a part goes away with that part."""
    options = groups([check.CONFIG_DIR])
    for chosen in zip_longest(*(options[f"detector/{part}"] for part in PARTS)):
        words = [f"detector/{part}={name or PARTS[part]}" for part, name in zip(PARTS, chosen, strict=True)]
        made, plain = (
            compose(["dataset=digits", "backbone=vgg16", f"detector={d}", *words]) for d in (detector, "ssd")
        )
        assert all(made.detector[part] == plain.detector[part] for part in PARTS)
