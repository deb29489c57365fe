"""Which code a configuration may name. Every hostile name would make the file of `marker` if it ran."""

import ast
import os
import pickle
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import tf_keras
import yaml
from omegaconf import OmegaConf

from detect.cli import main as cli
from detect.cli import overrides
from detect.config import hydra_node, trust
from detect.config.check import CONFIG_DIR
from detect.config.compose import compose
from detect.config.legal_values import Values, number, with_floats
from detect.config.tree import targets
from detect.errors import ConfigError, DataError
from detect.runs.folder import RunFolder
from tests import program

PACKAGE = Path(trust.__file__).resolve().parents[1]

HOSTILE = """
import os, pathlib
from os import system
from pathlib import Path

pathlib.Path(os.environ["MARKER"] + ".imported").touch()

def run(*_, **__):
    pathlib.Path(os.environ["MARKER"]).touch()

class Thing:
    def __init__(self, *_, **__):
        run()
"""


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that nothing may make, and the module `hostile` on Python's path, which makes it."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "hostile.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    place = tmp_path / "marker"
    monkeypatch.setenv("MARKER", str(place))
    yield place
    assert not place.exists(), "code of a file ran"
    assert not place.with_name("marker.imported").exists(), "a module that a file names was imported"
    assert sys.modules.pop("hostile", None) is None


def load_pickle(place: Path, marker: Path) -> Path:
    """A pickle that makes the marker when it is read."""

    class Harm:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    place.write_bytes(pickle.dumps(Harm()))
    return place


NAMES = [
    *("os.system", "posix.system", "builtins.eval", "builtins.exec", "subprocess.run", "subprocess.Popen"),
    *("numpy.load", "numpy.lib.npyio.load", "numpy.f2py.compile", "pickle.loads", "joblib.load", "runpy.run_path"),
    *("yaml.load", "yaml.unsafe_load", "pathlib.Path.touch", "shutil.rmtree", "importlib.import_module"),
    *("hydra.utils.instantiate", "hydra.utils.call", "hydra.utils.get_method", "omegaconf.OmegaConf.save"),
    *("hostile.run", "hostile.Thing", "hostile.os.system", "hostile.system"),
    *("detect.files.write_text", "detect.files.os.system", "detect.cli.main.main", "detect.api.train"),
    *("detect.weights.sources.Path", "detect.weights.sources.FromFile.read", "detect.weights.download.fetch"),
    *("detect.data.formats.voc.write_voc", "detect.data.formats.writing.write_voc", "detect.data.augment.A.load"),
    *("detect.modeling.ssd.tf.io.write_file", "detect.modeling.ssd.tf_keras.models.load_model"),
    *("detect.modeling.ssd.dataclass", "detect.modeling.backbones.layers._pad", "detect.modeling.ssd"),
    *("detect.config.trust.instantiate", "detect.runs.sweep.run_cell", "detect.training.hooks.Checkpointing"),
    *("albumentations.load", "albumentations.from_dict", "albumentations.core.serialization.load"),
    *("albumentations.random_utils.os.system", "albumentations.core.composition.random.Random"),
    *("albumentations.core.utils.Path", "albumentations.BasicTransform.get_params", "albumentations._x"),
    *("tf_keras.models.load_model", "tf_keras.utils.get_file", "tf_keras.layers.Lambda", "tf_keras.optimizers.get"),
    *("tf_keras.optimizers.SGD.from_config", "tf_keras.saving.load_model", "tensorflow.io.write_file"),
    *("optuna.samplers.TPESampler", "hydra_plugins.x.Y", "logging.FileHandler", "hydra.experimental.callbacks.X"),
    *("", ".", "os", "..os.system", "os..system", "os.system ", " os.system", "os.sys\ntem", "os/system", "ｏs.system"),
    *("${oc.env:HOME}", "detect.modeling.ssd.SSD.__init__", "detect.modeling.ssd.SSD.__class__"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_refused_before_an_import(name, marker):
    assert trust.refusal(name)
    before = set(sys.modules)
    with pytest.raises(ConfigError, match="part"):
        trust.instantiate({"part": {"_target_": name, "_args_": [f"touch {marker}"]}})
    opened = {module.partition(".")[0] for module in set(sys.modules) - before}
    libraries = {"albumentations", "albucore", "antlr4", "cv2", "numpy", "scipy", "pydantic"}
    assert opened <= libraries or "." not in name


def test_not_even_text_is_a_name(marker):
    for target in (None, 3, ["os.system"], {"a": "os.system"}, b"os.system"):
        assert trust.refusal(target)


NODES = [
    "backbone: {_target_: hostile.run}",
    "backbone: {_target_: numpy.load, file: FILE, allow_pickle: true}",
    "backbone: {_target_: hostile.Thing, _partial_: true}",
    "backbone: {_target_: 'hostile.run', _args_: [1]}",
    "backbone: {_target_: tf_keras.optimizers.SGD, learning_rate: {_target_: hostile.run}}",
    "backbone: {_target_: tf_keras.optimizers.SGD, _recursive_: false, learning_rate: {_target_: hostile.run}}",
    "backbone: {_target_: albumentations.OneOf, transforms: [{_target_: hostile.run}]}",
    "backbone: [{_target_: hostile.run}]",
    "backbone: {a: {b: [[{_target_: hostile.run}]]}}",
    "backbone: {_args_: [{_target_: hostile.run}], _target_: tf_keras.optimizers.SGD}",
    "name: hostile.run\nbackbone: {_target_: '${name}'}",
    "name: hostile\nbackbone: {_target_: '${name}.run'}",
    "backbone: {_target_: '${oc.env:HARM}'}",
    "backbone: {_target_: '${oc.decode:${oc.env:HARM}}'}",
    "backbone: ${oc.create:{_target_:hostile.run}}",
    "backbone: {x: \"${oc.create:'{_target_: hostile.run}'}\"}",
    "backbone: {x: '${oc.decode:\"{_target_: hostile.run}\"}'}",
    "other: {_target_: hostile.run}\nbackbone: {x: '${other}'}",
    "other: {_target_: hostile.run}\nbackbone: ${oc.select:other}",
    "backbone: {_target_: tf_keras.optimizers.SGD, name: '\\${oc.create:{_target_:hostile.run}}'}",
    "backbone: {_target_: '\\${oc.env:HARM}'}",
    "backbone: {_target_: !!python/name:hostile.run ''}",
    "backbone: !!python/object/apply:hostile.run []",
    "backbone: &a {_target_: hostile.run}\nneck: *a",
    "base: &a {_target_: hostile.run}\nbackbone: {<<: *a}",
    "backbone: {_target_: !!binary aG9zdGlsZS5ydW4=}",
]


@pytest.mark.parametrize("text", NODES)
def test_a_hostile_node_builds_nothing(text, marker, tmp_path, monkeypatch):
    monkeypatch.setenv("HARM", "hostile.run")
    load_pickle(tmp_path / "harm.npy", marker)
    with pytest.raises((ConfigError, yaml.YAMLError, AssertionError)) as caught:
        cfg = OmegaConf.create(yaml.load(text.replace("FILE", f"{tmp_path}/harm.npy"), Loader=yaml.SafeLoader))
        trust.instantiate(cfg.backbone)
    assert not isinstance(caught.value, AssertionError) or "binary" in text


@pytest.mark.parametrize("text", [text for text in NODES if "!!" not in text and "<<" not in text])
def test_a_hostile_run_folder_is_refused(text, marker, tmp_path, monkeypatch):
    """The folder of a run, as `predict`, `evaluate` and `export` open it."""
    monkeypatch.setenv("HARM", "hostile.run")
    load_pickle(tmp_path / "harm.npy", marker)
    (tmp_path / "config.yaml").write_text(text.replace("FILE", f"{tmp_path}/harm.npy") + "\ntrust: [hostile]\n")
    with pytest.raises(ConfigError):
        trust.instantiate(RunFolder(tmp_path).saved_config().backbone)


def test_an_error_of_a_part_that_the_user_can_correct_is_raised_as_it_is(tmp_path):
    with pytest.raises(DataError, match=f"dataset.root={tmp_path}/voc"):
        trust.instantiate({"_target_": "detect.data.formats.voc.read_voc", "root": str(tmp_path / "voc")})


def test_a_module_of_ones_own_is_opened_by_name(tmp_path, monkeypatch):
    (tmp_path / "of_mine").mkdir()
    (tmp_path / "of_mine" / "__init__.py").write_text("import os\nfrom os import system\nfrom of_mine.net import Net\n")
    (tmp_path / "of_mine" / "net.py").write_text("import functools\nclass Net: ...\ndef net(): return 3\nnumber = 4\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("of_mine.net.Net", "of_mine.Net", "of_mine.net.net"):
        with pytest.raises(ConfigError, match=r"trust=\[of_mine\]"):
            trust.instantiate({"_target_": name})
        with trust.trusting(["of_mine"]):
            assert trust.instantiate({"_target_": name}) is not None
    with trust.trusting(["of_mine.net"]):
        assert trust.instantiate({"_target_": "of_mine.net.net"}) == 3
        with pytest.raises(ConfigError, match="of_mine"):
            trust.instantiate({"_target_": "of_mine.Net"})
    with trust.trusting(["of_mine"]):
        for through in ("of_mine.os.system", "of_mine.system", "of_mine.net.functools.partial"):
            with pytest.raises(ConfigError, match="defined in"):
                trust.instantiate({"_target_": through, "_args_": ["true"]})
        with pytest.raises(ConfigError, match="a class or a function"):
            trust.instantiate({"_target_": "of_mine.net.number"})
    assert trust.trusted() == frozenset()


def test_modules_are_open_for_the_thread_that_opens_them():
    opened, left = threading.Event(), threading.Event()

    def other():
        with trust.trusting(["theirs"]):
            opened.set()
            left.wait(10)

    thread = threading.Thread(target=other)
    with trust.trusting(["mine"]):
        thread.start()
        assert opened.wait(10) and trust.trusted() == {"mine"}
    left.set()
    thread.join()
    assert trust.trusted() == frozenset()


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], ()),
        (["seed=1"], ()),
        (["trust=[a,b.c]"], ("a", "b.c")),
        (["trust=a"], ("a",)),
        (["+trust=[a]", "trust=[b]"], ("b",)),
        (["trust=null"], ()),
        (["~trust"], ()),
        (["trusted=[a]"], ()),
    ],
)
def test_what_the_command_line_opens(lines, names):
    assert trust.asked(lines) == names


@pytest.mark.parametrize("line", ["trust=a,b", "trust=[1]", "trust=[a b]", "trust=[../a]", "trust={a: b c}", "trust=1"])
def test_what_is_no_name_of_a_module(line):
    if line == "trust={a: b c}":
        assert trust.asked([line]) == ("a",)
        return
    with pytest.raises(ConfigError, match="expected names of modules"):
        trust.asked([line])


def test_everything_that_the_packaged_configuration_names_is_legal():
    named = set()
    for file in CONFIG_DIR.rglob("*.yaml"):
        if "hydra" not in file.relative_to(CONFIG_DIR).parts:
            named |= {str(node["_target_"]) for node in targets({"": yaml.safe_load(file.read_text())}).values()}
    assert len(named) > 50
    assert [name for name in sorted(named) if trust.refusal(name)] == []


def test_optimisers_and_schedules_are_there():
    import tf_keras

    for name in sorted(trust.KERAS):
        place = tf_keras.optimizers
        for part in name.split(".")[2:]:
            place = getattr(place, part)
        assert isinstance(place, type)


def test_nothing_else_builds_or_imports_by_name():
    """`detect.config.trust` is the only module that calls Hydra's instantiate, and nothing reads YAML with tags."""
    for file in sorted(PACKAGE.rglob("*.py")):
        tree, name = ast.parse(file.read_text()), file.relative_to(PACKAGE).as_posix()
        used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name | ast.alias)}
        if name != "config/trust.py":
            assert not {u for u in used if u.startswith("hydra.utils") or u.endswith((".get_class", ".get_method"))}, (
                name
            )
            froms = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
            assert "hydra.utils" not in froms and "hydra._internal.instantiate" not in froms, name
        if name not in ("config/trust.py", "config/check.py", "api.py", "cli/main.py", "apart.py"):
            assert not used & {"importlib.import_module", "__import__"}, name
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        loaders = {"yaml.BaseLoader", "yaml.SafeLoader"}
        loaders |= {c.name for c in classes if c.bases and {ast.unparse(base) for base in c.bases} <= loaders}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) in ("yaml.load", "yaml.load_all"):
                (loader,) = (ast.unparse(k.value) for k in call.keywords if k.arg == "Loader")
                assert loader in loaders, name
        assert not used & {"yaml.unsafe_load", "yaml.full_load", "pickle.load", "pickle.loads", "joblib.load"}, name


@pytest.mark.parametrize("tag", ["!!python/object/apply:hostile.run []", "!!python/name:hostile.run ''"])
def test_yaml_tags_run_nothing(tag, marker, tmp_path):
    (tmp_path / "config.yaml").write_text(f"backbone: {tag}\n")
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        RunFolder(tmp_path).saved_config()


HYDRA_FILES = [
    "callbacks: {x: {_target_: hostile.Thing}}",
    "callbacks: {x: {_target_: hydra.experimental.callbacks.PickleJobInfoCallback}}",
    "callbacks: ${oc.create:{x:{_target_:hostile.Thing}}}",
    "launcher: {_target_: hostile.Thing}",
    "launcher: {_target_: hydra_plugins.hydra_hostile.Launcher}",
    "launcher: {_target_: '${oc.env:HARM}'}",
    "sweeper: {_target_: hostile.Thing}",
    "sweeper: {sampler: {_target_: hostile.run}}",
    "sweeper: {custom_search_space: hostile.run}",
    "sweeper: {params: {trust: '[hostile]'}}",
    "sweeper: {params: {+trust: '[hostile]'}}",
    "sweeper: {params: {hydra.job_logging.handlers.console.class: hostile.Thing}}",
    "sweeper: {params: {hydra/job_logging: hostile}}",
    "job_logging: {handlers: {console: {class: hostile.Thing}}}",
    "job_logging: {handlers: {console: {(): hostile.run}}}",
    "job_logging: {handlers: {console: {stream: ext://hostile.run}}}",
    "job_logging: {handlers: {console: {stream: 'cfg://handlers'}}}",
    "job_logging: {handlers: {file: {filename: /tmp/other}}}",
    "job_logging: {handlers: {console: {class: '${oc.env:HARM}'}}}",
    "job_logging: {handlers: '${oc.create:{x:{class:hostile.Thing}}}'}",
    "job_logging: {formatters: {plain: {class: hostile.Thing}}}",
    "job_logging: {formatters: {plain: {(): hostile.run}}}",
    "job_logging: {formatters: {plain: {format: 'ext://hostile.run'}}}",
    "job_logging: {filters: {f: {(): hostile.run}}}",
    "job_logging: {handlers: {console: {class: logging.handlers.QueueHandler, listener: hostile.Thing}}}",
    "job_logging: {handlers: {console: {class: hostile}}}",
    "job_logging: ${other}",
    "hydra_logging: {handlers: {console: {class: hostile.Thing}}}",
    "hydra_logging: {root: {handlers: ['ext://hostile.run']}}",
    "job: {env_set: {LD_PRELOAD: /tmp/harm.so}}",
    "job: {env_set: {PYTHONPATH: /tmp}}",
    'job: {name: "x\\ntouch /tmp/harm"}',
    "launcher: {setup: ['touch /tmp/harm']}",
    "launcher: {additional_parameters: {wrap: touch}}",
    'launcher: {comment: "x\\ntouch /tmp/harm #"}',
    "launcher: {ray: {init: {address: 'ray://elsewhere:1'}}}",
    "launcher: {submitit_folder: /tmp/pickles}",
    'sweep: {dir: "x\\ntouch /tmp/harm #"}',
    'run: {dir: "x\\ntouch /tmp/harm #"}',
    "output_subdir: ../../elsewhere",
    "overrides: {task: ['trust=[hostile]']}",
]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Makes a stranger's folder with an experiment that sets Hydra's own node; returns the arguments that use it."""
    monkeypatch.setenv("HARM", "hostile.Thing")
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> list[str]:
        place = tmp_path / "theirs" / "experiment" / "theirs.yaml"
        place.parent.mkdir(parents=True)
        place.write_text("# @package _global_\n" + yaml.safe_dump({"hydra": yaml.safe_load(text)}))
        return ["--config-dir", str(tmp_path / "theirs"), "experiment=theirs", "dataset=digits"]

    return write


@pytest.mark.parametrize("text", HYDRA_FILES)
def test_a_file_names_no_code_in_hydras_own_node(text, marker, mine):
    argv = mine(text)
    with pytest.raises(Exception) as caught:
        overrides.prepare(overrides.read(argv, "train"))
    assert type(caught.value).__name__ in ("ConfigError", "ConfigCompositionException"), repr(caught.value)


@pytest.mark.parametrize("flag", [["--info", "config"], ["--hydra-help"], ["--help"], ["--cfg", "job"], ["-m"]])
def test_no_flag_goes_around_the_check(flag, marker, mine, capsys):
    assert cli.run("train", lambda cfg: None, [*mine("callbacks: {x: {_target_: hostile.Thing}}"), *flag]) == 2
    assert "hydra.callbacks" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["pkg://hostile", "${oc.env:SCHEME}", "p${oc.env:REST}"])
def test_no_search_path_of_a_file_imports_a_module(place, marker, tmp_path, monkeypatch):
    monkeypatch.setenv("SCHEME", "pkg://hostile")
    monkeypatch.setenv("REST", "kg://hostile")
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump({"defaults": ["/train"], "hydra": {"searchpath": [place]}}))
    name = os.path.relpath(tmp_path / "theirs", CONFIG_DIR)
    for argv in (
        ["--config-name", name],
        [f"resume={saved_run(tmp_path / 'run', [], {'job': {'config_name': name}})}"],
    ):
        with pytest.raises(ConfigError, match=r"hydra\.searchpath"):
            overrides.prepare(overrides.read(argv, "train"))
    with pytest.raises(ConfigError, match=r"hydra\.searchpath"):
        overrides.prepare(overrides.read([f"hydra.searchpath=['{place}']"], "train"))


def test_a_pickled_configuration_is_not_read(marker, tmp_path):
    load_pickle(tmp_path / "config.pickle", marker)
    with pytest.raises(ConfigError, match="--experimental-rerun"):
        overrides.read(["--experimental-rerun", str(tmp_path / "config.pickle")], "train")


def test_what_files_may_set_of_hydra(mine):
    text = """
        sweep: {dir: 'runs/${name}', subdir: '${seed}'}
        sweeper: {params: {seed: '1,2', schedule.steps: '3'}}
        job_logging: {root: {level: WARNING}, formatters: {plain: {format: '%(name)s %(message)s'}}}
    """
    command = overrides.prepare(overrides.read([*mine(text), "-m"], "train"))
    assert len(command.checked) == 2


def test_the_command_line_may_set_more_and_trust_hydra_all(mine):
    callback = "+hydra.callbacks.x._target_=hydra.experimental.callbacks.LogJobReturnCallback"
    overrides.prepare(overrides.read(["dataset=digits", callback, "+hydra.job.env_set.A=b"], "train"))
    argv = mine("job: {env_set: {A: b}}")
    with pytest.raises(ConfigError, match=r"hydra\.job\.env_set.*trust=\[hydra\]"):
        overrides.prepare(overrides.read(argv, "train"))
    overrides.prepare(overrides.read([*argv, "trust=[hydra]"], "train"))


@pytest.mark.parametrize("launcher", ["basic", "joblib_processes", "submitit_queue", "submitit_local", "joblib"])
@pytest.mark.parametrize("sweeper", ["basic", "optuna_tpe", "optuna"])
def test_packaged_launchers_and_sweepers_are_legal(launcher, sweeper):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    overrides.first_job(overrides.read([f"hydra/launcher={launcher}", f"hydra/sweeper={sweeper}"], "train"))


@pytest.mark.parametrize("option", ["none", "stdout", "disabled", "default"])
def test_hydras_own_logging_is_legal(option):
    overrides.first_job(overrides.read([f"hydra/job_logging={option}"], "train"))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("experiment/theirs.yaml", "# @package _global_\ntrust: [hostile]\nbackbone: {_target_: hostile.run}\n"),
        ("experiment/theirs.yaml", "# @package _global_\nbackbone: {_target_: hostile.run}\n"),
        ("backbone/theirs.yaml", "_target_: hostile.run\n"),
        ("dataset/theirs.yaml", "_target_: numpy.load\nfile: harm.npy\nallow_pickle: true\n"),
        (
            "augment/theirs.yaml",
            "transforms: {a: {_target_: albumentations.OneOf, transforms: [{_target_: hostile.run}]}}\n",
        ),
        ("hydra/job_logging/theirs.yaml", "version: 1\nroot: {handlers: [a]}\nhandlers: {a: {(): hostile.run}}\n"),
        ("hydra/launcher/basic.yaml", "_target_: hostile.Thing\n"),
        ("hydra/env/theirs.yaml", "# @package hydra\njob: {env_set: {A: b}}\n"),
    ],
)
def test_a_strangers_folder_runs_nothing(file, text, marker, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "theirs" / file
    place.parent.mkdir(parents=True)
    place.write_text(text)
    load_pickle(tmp_path / "harm.npy", marker)
    group, name = file.rpartition("/")[0], place.stem
    argv = ["--config-dir", str(tmp_path / "theirs"), f"{group}={name}"]
    argv += ["dataset=digits"] if group != "dataset" else []
    assert cli.run("train", lambda cfg: None, argv) == 2
    assert not (tmp_path / "runs").exists()
    assert len(capsys.readouterr().err.strip().splitlines()) <= 3


def saved_run(folder: Path, lines: list[str], hydra: dict | None = None, cfg: str = "seed: 0\n") -> Path:
    """A stranger's run folder, as `resume=` reads it."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(cfg)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(lines))
    about = {
        "overrides": {"task": lines, "hydra": []},
        "runtime": {"config_sources": []},
        "job": {"config_name": "train"},
    }
    (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": about | (hydra or {})}))
    return folder


@pytest.mark.parametrize(
    ("lines", "hydra"),
    [
        (["trust=[hostile]", "hooks=[{_target_: hostile.Thing}]"], {}),
        (["+trust=[hostile]", "backbone._target_=hostile.run"], {}),
        (["hydra.callbacks={x: {_target_: hostile.Thing}}"], {}),
        (["+hydra.job.env_set.LD_PRELOAD=x"], {}),
        (["--experimental-rerun=harm.pickle"], {}),
        (["-cd=theirs"], {}),
        ([], {"overrides": {"task": [], "hydra": ["hydra.searchpath=[pkg://hostile]"]}}),
        ([], {"job": {"config_name": "--experimental-rerun=harm.pickle"}}),
    ],
)
def test_resume_of_a_strangers_run_runs_nothing(lines, hydra, marker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load_pickle(tmp_path / "harm.pickle", marker)
    run = saved_run(tmp_path / "run", ["dataset=digits", *lines], hydra)
    assert cli.run("train", lambda cfg: None, [f"resume={run}"]) == 2


def test_a_resumed_run_with_modules_of_ones_own_asks_for_them_again(tmp_path, monkeypatch):
    (tmp_path / "of_resume.py").write_text("class Message:\n    def __init__(self, text): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    lines = ["dataset=digits", "hooks=[{_target_: of_resume.Message, text: hello}]", "trust=[of_resume]"]
    run = saved_run(tmp_path / "run", lines, cfg=OmegaConf.to_yaml(compose(lines)))
    with pytest.raises(ConfigError, match=r"hooks\.0\._target_=of_resume\.Message: .*trust=\[of_resume\]"):
        overrides.prepare(overrides.read([f"resume={run}"], "train"))
    command = overrides.prepare(overrides.read([f"resume={run}", "trust=[of_resume]"], "train"))
    assert command.trusted == ("of_resume",) and [line for line in command.overrides if "trust" in line] == [
        "trust=[of_resume]"
    ]


def test_a_file_cannot_open_a_module(marker, tmp_path):
    place = tmp_path / "theirs" / "experiment" / "theirs.yaml"
    place.parent.mkdir(parents=True)
    place.write_text("# @package _global_\ntrust: [hostile]\n")
    with pytest.raises(ConfigError, match=r"trust=.*hostile.*only the command line"):
        compose(["experiment=theirs", "dataset=digits"], config_dir=tmp_path / "theirs")


def test_groups_that_a_late_job_chooses_are_checked_before_the_first(marker, tmp_path, monkeypatch):
    monkeypatch.setattr(overrides, "CHECKED_JOBS", 1)
    folder = tmp_path / "theirs" / "experiment"
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text("# @package _global_\nseed: 1\n")
    harm = "hydra: {job_logging: {handlers: {console: {class: hostile.Thing}}}}"
    (folder / "b.yaml").write_text(f"# @package _global_\n{harm}\n")
    argv = ["-m", "--config-dir", str(tmp_path / "theirs"), "experiment=a,b", "dataset=digits"]
    with pytest.raises(ConfigError, match="hostile"):
        overrides.prepare(overrides.read(argv, "train"))


def test_the_texts_of_hydras_node_name_no_other_code():
    dotted = {text for text in hydra_node.TEXTS if text.count(".") and "$" not in text}
    heads = ("hydra._internal.core_plugins.", "hydra_plugins.hydra_", "optuna.samplers.", "logging.", "ext://sys.std")
    assert all(text.startswith((*heads, "detect.runs.log.")) for text in dotted)


@pytest.mark.slow
def test_predict_of_a_strangers_run_ends_with_a_message(marker, tmp_path, small_run):
    import shutil

    run = tmp_path / "theirs"
    shutil.copytree(small_run[0], run)
    cfg = OmegaConf.load(run / "config.yaml")
    cfg.backbone = {
        "_target_": "numpy.load",
        "file": str(load_pickle(tmp_path / "h.npy", marker)),
        "allow_pickle": True,
    }
    cfg.trust = ["numpy"]
    OmegaConf.save(cfg, run / "config.yaml")
    from PIL import Image

    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    for words in (
        ["predict", f"run={run}", f"images={tmp_path}/a.png"],
        ["evaluate", f"run={run}", "split=val"],
        ["export", f"run={run}"],
        ["inspect", "quantize", f"run={run}"],
    ):
        done = program.run(*words, folder=tmp_path)
        assert done.returncode == 2 and "backbone._target_=numpy.load" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and "trust=[numpy]" in done.stderr


@pytest.mark.parametrize(
    ("value", "hint", "found"),
    [
        (1, float, 1.0),
        (1, int, 1),
        (True, float, True),
        (None, float | None, None),
        (2, Annotated[float, number(0)] | None, 2.0),
        (2, Annotated[float, number(0)] | Literal["auto"], 2.0),
        (2, int | float, 2),
        ([1, 2.5], Sequence[float], [1.0, 2.5]),
        ([[1, 2]], Sequence[tuple[float, float]] | None, [[1.0, 2.0]]),
        ([1, 2], tuple[int, float], [1, 2.0]),
        ([1, 2], Annotated[Sequence[float], Values("y", "x")], [1.0, 2.0]),
        ({"a": 1}, Mapping[str, float], {"a": 1.0}),
        ([1], Any, [1]),
        ([1], tuple[float, float], [1]),
        ([[1]], Sequence[float] | Sequence[Sequence[float]], [[1.0]]),
        ({"_target_": "a.b"}, Mapping[str, float], {"_target_": "a.b"}),
    ],
)
def test_whole_numbers_become_floats_where_the_annotation_has_floats(value, hint, found):
    assert repr(with_floats(value, hint)) == repr(found)


@pytest.mark.parametrize("decay", ["cosine", "step", "constant"])
@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "sgd"])
def test_whole_numbers_are_numbers(optimizer, decay):
    """`schedule.rate=1` is that of `schedule.rate=1.0`, in all its steps."""

    def weights(*words):
        fixed = ("dataset=digits", f"schedule/optimizer={optimizer}", f"schedule.decay={decay}", "schedule.steps=20")
        cfg = compose([*fixed, *words])
        schedule = trust.instantiate(cfg.schedule)
        made, variable = schedule.build_optimizer(), tf_keras.backend.variable(np.ones(3))
        for _ in range(5):
            made.apply_gradients([(np.full(3, 0.5, np.float32), variable)])
        return [float(schedule.learning_rate()(step)) for step in range(20)], variable.numpy().tolist()

    keys = ("rate", "step_factor", "clip_norm", "weight_decay", "ema_decay")
    own = {"adamw": ("beta_1", "beta_2", "epsilon"), "rmsprop": ("rho", "momentum", "epsilon"), "sgd": ("momentum",)}
    values = {"rate": 1, "step_factor": 1, "clip_norm": 10, "weight_decay": 0, "ema_decay": 0, "epsilon": 1}
    keys += tuple(f"optimizer.{name}" for name in own[optimizer])
    given = {key: values.get(key.rpartition(".")[2], 0) for key in keys}
    whole = weights(*(f"schedule.{key}={value}" for key, value in given.items()))
    assert whole == weights(*(f"schedule.{key}={float(value)}" for key, value in given.items()))
