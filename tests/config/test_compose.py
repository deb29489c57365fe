"""compose() does what the command line does, and a user's own modules need no edit of the library."""

import json
import os
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from detect.cli.overrides import prepare, read
from detect.config import check, composer
from detect.config.compose import compose
from detect.config.shorthand import written_out
from detect.config.signatures import static_signature
from detect.config.tree import plain
from detect.errors import ConfigError
from scripts.composed_once import by_hydra, composed_once
from scripts.composed_once import compose as composed_without_copies

MYLIB = """
from typing import Literal

import albumentations as A

from detect.data.digits import make_digits
from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.heads import ConvPredictor


class Net(MobileNetV1):
    def __init__(self, variant: str = "tiny", padding: int = 0, scale: float | bool = 0.25):
        assert variant == "smallest" and padding == 3
        super().__init__(depth_multiplier=scale)


class Head(ConvPredictor):
    def __init__(self, padding: Literal["a", "b"] = "a", scale: float = 1.0):
        assert padding == "b"
        super().__init__(1, 0.03 * scale)


class Blur(A.GaussianBlur):
    def __init__(self, variant: str = "wide", p: float = 0.5):
        super().__init__(p=p)


def read(root: str, variant: int, split: str = "none"):
    assert variant == 5 and split == "ours"
    return make_digits(root, {"train": 8, "val": 4, "test": 4})
"""

OWN = [
    *("backbone._target_=mylib.Net", "backbone.variant=smallest", "backbone.padding=3"),
    *("detector.head._target_=mylib.Head", "detector.head.padding=b"),
    "+augment.transforms.mine={_target_: mylib.Blur, variant: narrow}",
    *("dataset._target_=mylib.read", "dataset.variant=5", "dataset.split=ours"),
    "init=none",
    "trust=[mylib]",
]


@pytest.fixture
def mylib(tmp_path, monkeypatch) -> Path:
    """A folder with a user's own module, on Python's path."""
    (tmp_path / "mylib.py").write_text(MYLIB)
    monkeypatch.syspath_prepend(tmp_path)
    static_signature.cache_clear()
    yield tmp_path
    static_signature.cache_clear()


def test_it_is_the_configuration_of_the_command_line():
    cfg = compose(["dataset=digits", "seed=3", "backbone=vgg16", "detector.size=[96,128]"])
    assert (cfg.seed, cfg.detector.size) == (3, [96, 128]) and cfg.backbone._target_.endswith(".VGG16")
    assert "hydra" not in cfg
    assert plain(cfg) == plain(
        prepare(read(["dataset=digits", "seed=3", "backbone=vgg16", "detector.size=[96,128]"], "train")).first
    )


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        ((), 0.003),
        (("detector=fcos",), 0.003),
        (("detector=faster_rcnn",), 0.001),
        (("detector=ssd300_vgg16", "backbone=vgg16"), 0.001),
        (("detector=faster_rcnn", "schedule=faster_rcnn"), 0.0002),
        (("detector=faster_rcnn", "schedule.rate=.01"), 0.01),
        (("experiment=microcontrollers_faster_rcnn_inception_v3",), 0.0003),
    ],
)
def test_a_detector_has_the_rate_that_suits_it_unless_one_is_given(words, rate):
    assert compose([*words, "dataset.root=DIR"]).schedule.rate == rate


def test_it_knows_the_short_ways(tmp_path):
    (tmp_path / "a, b.npz").write_text("")
    cfg = compose(["dataset=digits", f"init={tmp_path}/a, b.npz", "init.scope=detector"])
    assert cfg.init.path == f"{tmp_path}/a, b.npz" and cfg.classify.enabled is False
    assert compose(["network"], "inspect").only == "network"


def test_only_a_detector_of_this_program_is_fake_quantised_without_more_float_training(tmp_path):
    (tmp_path / "run" / "detector").mkdir(parents=True)
    (tmp_path / "run" / "classes.json").write_text("[]")
    (tmp_path / "zoo").mkdir()
    for place, trained in (("run", False), ("run/detector/best", False), ("zoo", True)):
        words = ["dataset=digits", f"init.path={tmp_path / place}", "init=path", "init.scope=detector", "quantize=int8"]
        cfg = compose(words)
        assert cfg.quantize.float_stage is trained and cfg.classify.enabled is False
        assert compose([*words, "quantize.float_stage=false"]).quantize.float_stage is False


@pytest.mark.parametrize("quantize", ["quantize=int8", "quantize=contrib_2017"])
def test_a_schedule_of_the_float_stage_that_is_left_out_is_refused(tmp_path, quantize):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "classes.json").write_text("[]")
    words = ["dataset=digits", f"init.path={tmp_path / 'run'}", "init=path", "init.scope=detector", quantize]
    with pytest.raises(ConfigError, match=r"^schedule\.rate has no effect.*legal are quantize\.schedule\.rate"):
        compose([*words, "schedule.rate=.0003"])
    cfg = compose([*words, "schedule.rate=.0003", "quantize.float_stage=true"])
    assert cfg.schedule.rate == 0.0003
    assert compose([*words, "quantize.schedule.rate=.0003"]).quantize.schedule.rate == 0.0003


def test_the_other_verbs_know_them(tmp_path):
    for verb in ("evaluate", "benchmark"):
        assert (
            compose(["model=m", f"dataset.root={tmp_path}"], verb).dataset
            == compose([f"dataset.root={tmp_path}"]).dataset
        )
        assert compose(["model=m", "dataset=digits"], verb).dataset.name == "digits"


def test_a_short_form_may_begin_with_plus_signs(tmp_path):
    folder = tmp_path / "photos (1)"
    assert compose(["dataset=digits", "init=path", "init.path=x", "++init.scope=detector"]).classify.enabled is False
    scored = compose(["model=m", f"++dataset.root={folder}"], "evaluate")
    assert scored.dataset == compose([f"dataset.root={folder}"]).dataset
    with pytest.raises(ConfigError, match=r"^resume=.*nowhere: this is not a run folder"):
        compose(["dataset=digits", "++resume=nowhere"])


def test_items_of_a_list_of_paths_need_no_quotes():
    assert compose(["dataset=join", "dataset.roots=[a, b (1),2024_05]"]).dataset.roots == ["a", "b (1)", "2024_05"]
    assert compose(["runs=[2024_05,x]"], "report").runs == ["2024_05", "x"]
    assert compose(["runs=['a,b',c]"], "report").runs == ["a,b", "c"]


def test_another_verb_than_train_is_repeated_by_m(tmp_path):
    words = ["-m", f"dataset.root={tmp_path}", "to=coco,yolo", "output='out/${to}'"]
    command = prepare(read(words, "convert"))
    assert len(command.checked) == 2 and command.cells == () and command.first.output == "out/coco"


def test_a_variable_that_is_not_set_names_the_key():
    with pytest.raises(ConfigError, match=r"^dataset\.root: .*'NO_SUCH_VARIABLE' not found"):
        compose(["dataset.root=${oc.env:NO_SUCH_VARIABLE}"])


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_bytes("# @package _global_\nname: caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(file))}: the file is damaged \('utf-8' codec"):
        compose(["dataset=digits", "experiment=mine"], config_dir=tmp_path)


def test_words_may_be_paths_with_equals_signs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("seed=0", "seed=1"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert compose(["runs/seed=0", "runs/seed=1", "split=val"], "compare").runs == ["runs/seed=0", "runs/seed=1"]


def test_it_takes_a_folder_of_the_users_own(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 11\n")
    assert compose(["dataset=digits", "experiment=mine"], config_dir=tmp_path).seed == 11
    assert compose(["runs=a", "output=b"], "report").output == "b"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedul.steps=3"], "unknown key schedul.steps; did you mean schedule.steps?"),
        (["dataset=digits", "schedule.steps=0"], "schedule.steps=0 is not legal: expected a whole number from 1"),
        (["dataset=digits", "backbone=mobilenet_v3_small", "backbone.variant=tiny"],
         "backbone.variant=tiny is not legal: expected one of large, small"),
        ([], "dataset.root is missing: give dataset.root=DIR, or train on the embedded data set: dataset=digits"),
        (["dataset.root=null"], "dataset.root=null is not legal: expected the path of a folder or a file"),
        (["dataset=join", "dataset.roots=a"], "dataset.roots=a is not legal: expected a list, as [A,B]"),
        (["dataset=join", "dataset.roots=[a,'']"],
         "dataset.roots=['a', ''] is not legal: expected a list of folders, as [DIR,DIR]"),
        (["dataset.root="], "dataset.root= is not legal: expected the path of a folder or a file"),
        (["dataset=digits", "detector.head=null"],
         "detector.head=null is not legal: expected a class with its arguments"),
        (["dataset=digits", "schedule.optimizer=null"],
         "schedule.optimizer=null is not legal: expected a class with its arguments"),
        (["dataset=digits", "classify.augment=null"],
         "classify.augment=null is not legal: expected keys below it (transforms, min_visibility, min_size)"),
        (["dataset=digits", "hooks=mine.Hook"],
         "hooks=mine.Hook is not legal: expected a list of classes with arguments, as [{_target_: my.Hook}]"),
        (["dataset=digits", "hooks=[mine.Hook]"],
         "hooks=['mine.Hook'] is not legal: expected a list of classes with arguments, as [{_target_: my.Hook}]"),
        (["seed=1,2"], "seed=1,2: several values make a sweep, which needs -m; seed=[...] is a list, "
                       "seed='...' is text"),
    ],
)  # fmt: skip
def test_it_refuses_alike(overrides, message):
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    assert str(caught.value) == message


def test_a_folder_that_has_no_name_is_refused():
    with pytest.raises(ConfigError, match=r"^hydra\.sweep\.subdir: the folder has no name .*\$\{arm\.name\}"):
        compose(["experiment=ablation/two_stage", "arm=none", "dataset=digits"])


def test_it_refuses_to_resume_what_is_no_run_folder():
    with pytest.raises(ConfigError, match=rf"^resume={re.escape(str(Path('nowhere').resolve()))}: .*not a run folder"):
        compose(["resume=nowhere"])


def test_hydras_state_is_afterwards_what_it_was():
    before = GlobalHydra.instance().is_initialized(), HydraConfig.instance().cfg
    first, second = compose(["dataset=digits", "seed=1"]), compose(["dataset=digits", "seed=2"])
    with pytest.raises(ConfigError):
        compose(["dataset=digits", "seed=-1"])
    assert (first.seed, second.seed) == (1, 2)
    assert (GlobalHydra.instance().is_initialized(), HydraConfig.instance().cfg) == before


def test_inside_a_job_and_without_tensorflow(tmp_path):
    script = """
        import sys
        from detect.cli import job, main
        from detect.config.compose import compose

        def train(cfg):
            assert compose(["dataset=digits", "seed=5"]).seed == 5
            print(cfg.seed, job.folder().name, job.task_overrides())
            print(sorted({"tensorflow", "tf_keras", "official"} & set(sys.modules)))

        print(main.run("train", train, ["dataset=digits", "seed=4", "hydra.run.dir=here"]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.splitlines() == ["4 here ['dataset=digits', 'seed=4']", "[]", "0"], done.stderr


def test_own_targets_compose_with_arguments_of_any_name(mylib):
    cfg = plain(compose([*OWN, "dataset.root=data"]))
    assert cfg["backbone"] == {"_target_": "mylib.Net", "variant": "smallest", "padding": 3}
    assert cfg["detector"]["head"] == {"_target_": "mylib.Head", "padding": "b"}
    assert cfg["augment"]["transforms"]["mine"] == {"_target_": "mylib.Blur", "variant": "narrow"}
    expected = {"_target_": "mylib.read", "_convert_": "all", "root": "data", "variant": 5, "split": "ours"}
    assert cfg["dataset"] == expected
    assert "mylib" not in sys.modules


def test_arguments_that_both_take_keep_their_values(mylib):
    net = ["backbone._target_=mylib.Net", "backbone.padding=3", "trust=[mylib]"]
    cfg = compose(["dataset=digits", "backbone=inception_v3", *net])
    assert plain(cfg)["backbone"] == {"_target_": "mylib.Net", "padding": 3, "scale": False}
    reader = ["dataset._target_=mylib.read", "dataset.variant=5", "trust=[mylib]"]
    cfg = compose(["dataset=voc", "dataset.root=x", *reader])
    assert plain(cfg)["dataset"] == {"_target_": "mylib.read", "_convert_": "all", "root": "x", "variant": 5}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=digits", "backbone.widht=2", "backbone._target_=mylib.Net"],
         "unknown key backbone.widht: mylib.Net has no argument widht"),
        (["dataset=digits", "detector.head._target_=mylib.Head", "detector.head.padding=c"],
         "detector.head.padding=c is not legal: expected one of a, b"),
        (["dataset.root=x", "dataset._target_=mylib.read"], "dataset.variant is missing: mylib.read needs it"),
        (["dataset=digits", "backbone._target_=mylob.Net"],
         "backbone._target_=mylob.Net: there is no module mylob; is it on PYTHONPATH?"),
    ],
)  # fmt: skip
def test_own_targets_are_checked_by_their_own_signature(mylib, overrides, message):
    with pytest.raises(ConfigError) as caught:
        compose([*overrides, "trust=[mylib]"])
    assert str(caught.value) == message


@pytest.mark.slow
def test_own_targets_train_a_step(mylib, small_overrides):
    """Every stage builds, and trains a step with, a backbone, head, transform and data set that the library lacks."""
    small = [line for line in small_overrides if not line.startswith(("init", "backbone.", "dataset", "schedule.st"))]
    small = [line for line in small if "classify.schedule.steps" not in line and "warmup" not in line]
    command = [sys.executable, "-m", "detect.cli", "train", "debug=step", *OWN, *small, f"dataset.root={mylib}/data"]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(mylib)])
    done = subprocess.run(
        [*command, f"hydra.run.dir={mylib}/run"],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=mylib,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    assert (mylib / "run" / "summary.json").is_file()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\na: 2\n", "line 2: found duplicate key a"),
        (b"a: [1\n", "line 2"),
        (b"a: *x\n", "alias"),
        (b"\0", "x0000"),
    ],
)
@pytest.mark.parametrize("place", ["experiment/bad.yaml", "backbone/bad.yaml", "init/archives/bad.yaml"])
def test_a_damaged_file_of_the_user_is_named_with_its_line(tmp_path, place, content, said):
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    group = file.parent.relative_to(tmp_path).as_posix()
    chosen = [] if group == "init/archives" else [f"{group}=bad"]
    with pytest.raises(ConfigError, match=rf"{re.escape(str(file))}: the file is damaged \(.*{said}"):
        compose(["dataset=digits", *chosen], config_dir=tmp_path)


def test_a_choice_of_groups_is_composed_once(monkeypatch):
    """The second configuration with the same groups needs one composition: that of its own values."""
    composed, by_hydra = [], composer.compose
    monkeypatch.setattr(composer, "_PACKAGED", {})
    monkeypatch.setattr(composer.Composer, "_composed", composed_without_copies)
    monkeypatch.setattr(
        composer, "compose", lambda *words, **named: composed.append(words) or by_hydra(*words, **named)
    )
    first = compose(["dataset=digits", "seed=1"])
    assert len(composed) == 2
    assert compose(["dataset=digits", "seed=1"]) == first and len(composed) == 3
    assert compose(["dataset=digits", "seed=2"]).seed == 2 and len(composed) == 4
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"unknown key sed; did you mean seed"):
            compose(["dataset=digits", "sed=2"])


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("seed=3",),
        ("backbone=vgg16", "detector=faster_rcnn", "schedule.rate=.1", "dataset=voc", "dataset.root=x"),
        ("+augment.transforms.blur={_target_:albumentations.Blur,p:0.1}", "~augment.transforms.flip", "name='a b'"),
        ("hydra.run.dir=x/${seed}", "hydra/launcher=joblib_processes", "hydra.launcher.n_jobs=2", "seed=${threads}"),
        ("experiment=ablation/two_stage_ssd", "arm=crops", "hydra.job.config.override_dirname.exclude_keys=[arm]"),
        ("detector.size=[96,96]", "++init.x=1", "quantize=int8", "quantize.spec.delay=0.25"),
    ],
)
def test_the_tests_compose_as_hydra(lines):
    with composer.Composer("train").ready() as own:
        for _ in range(2):
            with by_hydra():
                expected = composed_without_copies(own, lines)
            got = composed_once(own, lines)
            assert OmegaConf.to_container(got) == OmegaConf.to_container(expected)
            assert list(got.hydra.runtime.choices) == list(expected.hydra.runtime.choices)
        assert OmegaConf.is_struct(got) == OmegaConf.is_struct(expected)


def test_the_tests_compose_a_users_files_as_hydra(tmp_path):
    """Also after a change of these files."""
    folder = tmp_path / "own"
    (folder / "experiment").mkdir(parents=True)
    (folder / "schedule").mkdir()
    for steps in (7, 8):
        (folder / "schedule" / "mine.yaml").write_text(f"defaults: [default]\nsteps: {steps}\n")
        (folder / "experiment" / "mine.yaml").write_text(
            f"# @package _global_\ndefaults: [/experiment/ablation/rates, override /schedule: mine]\nseed: {steps}\n"
        )
        with composer.Composer("train", folder).ready() as own:
            lines = (f"hydra.searchpath=[file://{folder}]", "experiment=mine", "name=x")
            with by_hydra():
                expected = composed_without_copies(own, lines)
            got = composed_once(own, lines)
        assert got.schedule.steps == got.seed == steps and got.name == "x"
        assert OmegaConf.to_container(got) == OmegaConf.to_container(expected)


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("migrate", ["a.config", "b.config"], "a.config and b.config: detect migrate takes one file"),
        ("fetch", ["a", "b"], "a and b: detect fetch takes one name"),
        ("report", ["runs/a", "runs/b"], "runs/a and runs/b: detect report takes one study"),
        ("inspect", ["network", "data"], "network and data: detect inspect takes one part"),
        ("advise", ["rate", "more"], "rate and more: detect advise takes one word"),
    ],
)
def test_a_second_word_is_refused(verb, words, message):
    with pytest.raises(ConfigError, match=message):
        compose(words, verb)


@pytest.fixture
def own(tmp_path):
    """A function that composes with a file of the user's own and returns the message that refuses it."""

    def refusal(name: str, text: str, *words: str) -> str:
        file = tmp_path / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            compose(["dataset=digits", *words], config_dir=tmp_path)
        message = str(caught.value)
        assert message.startswith(f"{file}: "), message
        return message.removeprefix(f"{file}: ")

    return refusal


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("experiment/mine", "seed: 11\n", "experiment=mine"),
        ("experiment/mine", "defaults:\n  - override /backbone: vgg16\n  - _self_\nseed: 11\n", "experiment=mine"),
        ("experiment/mine", "\n# mine\n# @package _global_\nseed: 11\n", "experiment=mine"),
        ("experiment/sub/mine", "seed: 11\n", "experiment=sub/mine"),
        ("experiment/mine", "# @package global\nseed: 11\n", "experiment=mine"),
        ("experiment/mine", "\ufeff# @package _global_\nseed: 11\n", "experiment=mine"),
        ("experiment/mine", "", "experiment=mine"),
        ("experiment/mine", "- seed: 11\n", "experiment=mine"),
        ("debug/mine", "seed: 11\n", "debug=mine"),
        ("experiments/mine", "seed: 11\n", "+experiments=mine"),
    ],
)
def test_an_experiment_that_sets_nothing_is_refused(own, name, text, word):
    message = own(name, text, word)
    assert "where nothing reads them; its first line must be `# @package _global_`" in message
    assert ("without a byte order mark" in message) is text.startswith("\ufeff")


def test_an_arm_that_sets_nothing_is_refused(own):
    """Other files of its group write to the whole configuration."""
    assert (
        own("arm/mine", "arm:\n  start: random\n", "arm=mine") == "unknown key arm.arm.start; did you mean arm.start?"
    )


def test_a_group_of_ones_own_may_hold_what_a_file_reads(tmp_path):
    (tmp_path / "places").mkdir()
    (tmp_path / "places" / "here.yaml").write_text("seed: 11\nplace: desk\n")
    cfg = compose(["dataset=digits", "+places=here", "seed=${places.seed}"], config_dir=tmp_path)
    assert plain(cfg)["seed"] == 11
    (tmp_path / "places" / "here.yaml").write_text("seed: 11\n")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: ${places.seed}\n")
    cfg = compose(["dataset=digits", "+places=here", "experiment=mine"], config_dir=tmp_path)
    assert plain(cfg)["seed"] == 11


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("backbone: mobilenet_v2", "override /backbone: mobilenet_v2"),
        ("detector: ssdlite", "override /detector: ssdlite"),
        ("detector: {neck: fpn}", "override /detector/neck: fpn"),
        ("init: none", "override /init: none"),
        ("augment: none", "override /augment: none"),
        ("mixing: mosaic", "override /mixing: mosaic"),
        ("quantize: int8", "override /quantize: int8"),
        ("arm: generic", "override /arm: generic"),
        ("schedule: quantize", "override /schedule: quantize"),
        ("schedule: {optimizer: sgd}", "override /schedule/optimizer: sgd"),
        ("logger: csv", "override /logger: csv"),
        ("experiment: demo", "/experiment/demo"),
    ],
)
def test_a_group_as_a_key_of_an_experiment_is_refused(own, text, entry):
    message = own("experiment/mine", f"# @package _global_\n{text}\n", "experiment=mine")
    key, _, value = text.replace(": {", ".").rstrip("}").partition(": ")
    assert message == f"{key}={value} is not legal: {key} is a group; write into the defaults list: - {entry}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("init: x.npz", "init=x.npz is not legal: init is a group (options: catalogue, imagenet, none, path)"),
        ("classify: false", "classify=false is not legal: expected keys below it (enabled, balanced, classifier and"),
        ("classify:", "classify=null is not legal: expected keys below it"),
        ("backbone: 1", "backbone=1 is not legal: expected keys below it"),
        (
            "distribute: mirrored",
            "distribute=mirrored is not legal: expected keys below it (kind, devices, sync_batch_",
        ),
        ("limit: 5", "limit=5 is not legal: expected keys below it (steps, fraction, train and 3 more)"),
        ("limit: [5]", "ConfigTypeError raised while composing config: Cannot merge DictConfig with ListConfig"),
    ],
)
def test_a_value_in_place_of_a_node_is_refused(own, text, message):
    assert own("experiment/mine", f"# @package _global_\n{text}\n", "experiment=mine").startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schedule.steps: 120", "schedule.steps: a key has no dot; write it nested, as schedule: {steps: VALUE}"),
        ("schedule: {a.b.c: 1}", "a.b.c: a key has no dot; write it nested, as a: {b: {c: VALUE}}"),
    ],
)
def test_a_key_with_a_dot_is_refused(own, text, message):
    assert own("experiment/mine", f"# @package _global_\n{text}\n", "experiment=mine") == message


def test_names_inside_of_an_argument_may_have_dots(tmp_path):
    (tmp_path / "dataset").mkdir()
    reader = "_target_: detect.data.formats.voc.read_voc\nroot: x\nrename: {v1.2: cat}\n"
    (tmp_path / "dataset" / "mine.yaml").write_text(reader)
    assert compose(["dataset=mine"], config_dir=tmp_path).dataset.rename == {"v1.2": "cat"}


@pytest.mark.parametrize("key", ["distribute", "limit", "rates", "quantize.spec", "classify.classifier"])
@pytest.mark.parametrize("value", ["${now:%Y}", "${seed}"])
@pytest.mark.parametrize("where", ["line", "file"])
def test_a_value_that_an_interpolation_puts_in_place_of_a_node_is_refused(key, value, where, tmp_path):
    lines, folder = [f"{key}={value}"], None
    if where == "file":
        (tmp_path / "experiment").mkdir()
        node = reduce(lambda inner, name: {name: inner}, reversed(key.split(".")), value)
        (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{json.dumps(node)}\n")
        lines, folder = ["experiment=mine"], tmp_path
    with pytest.raises(ConfigError, match=rf"{key}=\d+ is not legal: expected keys below it"):
        compose(["dataset=digits", "quantize=int8", "seed=2024", *lines], config_dir=folder)


@pytest.mark.parametrize("line", ["limit=5", "distribute=mirrored", "limit=null", "++rates.detector=1"])
def test_a_value_in_place_of_a_node_is_refused_on_the_command_line(line):
    message = rf"^{re.escape(line.lstrip('+'))} is not legal: expected keys below it"
    with pytest.raises(ConfigError, match=message):
        compose(["dataset=digits", line])


def test_nodes_may_be_merged_taken_away_and_read_from_elsewhere(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "limit: {steps: 5}\naugment: {transforms: {flip: null}}\n"
    text += "schedule: {optimizer: '${classify.schedule.optimizer}'}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    cfg = plain(compose(["dataset=digits", "experiment=mine"], config_dir=tmp_path))
    assert cfg["limit"]["steps"] == 5 and cfg["schedule"]["optimizer"] == cfg["classify"]["schedule"]["optimizer"]
    assert cfg["augment"]["transforms"]["flip"] is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("override backbone: mobilenet_v2", "override backbone: .* did you mean override /backbone\\?$"),
        ("override detector/neck: fpn", "override detector/neck: .* did you mean override /detector/neck\\?$"),
        ("override /backbon: mobilenet_v2", "override /backbon: .* did you mean backbone\\?$"),
        (
            "override /schedule@quantize.schedule: default",
            "Could not override 'schedule@quantize.schedule'. Did",
        ),
    ],
)
def test_an_override_of_no_group_names_its_file(own, entry, message):
    text = f"# @package _global_\ndefaults:\n  - {entry}\n  - _self_\nseed: 1\n"
    assert re.match(message, own("experiment/mine", text, "experiment=mine"))


def test_weights_may_be_varied(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.npz", "b.npz", "a.npz,b.npz"):
        (tmp_path / name).write_text("")
    groups = {"init": ["catalogue", "none", "path"]}

    def written(line, multirun=True):
        return written_out([line], "train", groups, [], multirun)

    assert written("init=a.npz,b.npz", multirun=False) == ["init=path", f"init.path='{tmp_path}/a.npz,b.npz'"]
    (tmp_path / "a.npz,b.npz").unlink()
    assert written("init=a.npz,b.npz") == ["init=path", f"init.path='{tmp_path}/a.npz','{tmp_path}/b.npz'"]
    assert written("init=none,path") == ["init=none,path"]
    with pytest.raises(ConfigError, match=r"^init=c\.npz is neither an option"):
        written("init=a.npz,c.npz")
    with pytest.raises(ConfigError, match=r"^init=none,a\.npz is not legal: a sweep varies options .* or files"):
        written("init=none,a.npz")


def test_published_weights_may_be_varied():
    names = ["mobilenet_v1_1.0_224", "mobilenet_v1_0.75_224"]
    written = written_out(
        [f"init={','.join(names)}"], "train", {"init": ["catalogue", "path"]}, [check.CONFIG_DIR], True
    )
    assert written == ["init=catalogue", f"init.name='{names[0]}','{names[1]}'"]


@pytest.mark.parametrize(
    ("verb", "word", "message"),
    [
        ("inspect", "quantise", r"quantise: .*detect inspect \(data, network, quantize\); did you mean quantize\?"),
        ("advise", "rates", r"rates: .*detect advise \(rate\); did you mean rate\?"),
    ],
)
def test_a_wrong_word_is_answered_with_the_legal_ones(verb, word, message):
    with pytest.raises(ConfigError, match=message):
        compose([word], verb)


def test_a_key_that_is_removed_is_no_word():
    cfg = compose(["dataset=digits", "~augment.transforms.flip", "~augment.transforms.crop"], "inspect")
    assert not {"flip", "crop"} & set(cfg.augment.transforms)


def test_a_sweep_to_resume_tells_how_many_runs_it_has(tmp_path):
    for number in range(7):
        (tmp_path / str(number) / ".hydra").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"give one of its runs \(0, 1, 2, 3, 4 and 2 more\)"):
        compose([f"resume={tmp_path}"])


def test_threads_compose_one_after_the_other():
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: compose(["dataset=digits", f"seed={seed}"]).seed, range(8)))
    assert found == list(range(8))
