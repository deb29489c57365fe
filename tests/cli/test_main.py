"""What a user types and what comes back: messages, exit codes, sweeps, init=PATH and resume=RUN.

Most tests run the command line inside this process on a small configuration of their own.
"""

import contextvars
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from detect.cli import job, overrides
from detect.cli import main as cli
from detect.config import check, composer, grammar, trust
from detect.errors import ConfigError, DataError
from detect.runs.folder import RunFolder
from detect.runs.log import Console
from scripts.composed_once import compose as composed_without_copies

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
PLAN = "_target_: sample_data.Plan\n"
FILES = {
    "train.yaml": """
        # A verb like detect train.
        defaults:
          - _self_
          - hydra: default
          - dataset: voc
          - augment: flip
          - init: none
          - schedule: default
          - experiment: null
        name: sample             # first part of the run folder's name
        seed: 0                  # of everything
        resume: null             # a run folder to go on with
        fail: null               # what goes wrong in the job
    """,
    "bare.yaml": "defaults:\n  - hydra: bare\n  - _self_\nseed: 0\n",
    "dataset/voc.yaml": """
        _target_: sample_data.read
        root: data              # folder
        classes: null           # names
        val_fraction: 0.1       # share
    """,
    "dataset/other.yaml": "_target_: sample_data.read\nroot: ???\nclasses: null\nval_fraction: 0.1\n",
    "augment/flip.yaml": """
        transforms:
          flip: {_target_: albumentations.HorizontalFlip, p: 0.5}
        min_size: 2.0
    """,
    "init/none.yaml": "kind: none\n",
    "init/imagenet.yaml": "kind: imagenet\n",
    "init/path.yaml": "_target_: sample_data.File\nkind: path\npath: ???\nscope: backbone\n",
    "schedule/default.yaml": f"{PLAN}steps: 10      # optimiser steps\nrate: 0.1\ndecay: cosine\n",
    "schedule/short.yaml": f"{PLAN}steps: 2\nrate: 0.1\ndecay: cosine\n",
    "experiment/demo.yaml": "# @package _global_\n# command: experiment=demo\nschedule: {steps: 7}\n",
}


SAMPLE = """
    from dataclasses import dataclass
    from typing import Annotated, Literal

    from detect.config.legal_values import whole

    def read(root, classes=None, val_fraction=0.1): ...

    def File(kind, path, scope: Literal["backbone", "detector"] = "backbone"): ...

    @dataclass
    class Plan:
        steps: Annotated[int, whole(1)]
        rate: float
        decay: Literal["cosine", "step", "constant"]
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Runs `detect train ARGUMENTS` on FILES; the run folders are below tmp_path/work. Returns the exit code."""
    configs = tmp_path / "configs"
    for name, text in FILES.items():
        write(configs / name, text)
    for file in (check.CONFIG_DIR / "hydra").rglob("*.yaml"):
        write(configs / file.relative_to(check.CONFIG_DIR), file.read_text())
    write(tmp_path / "sample_data.py", SAMPLE)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(check, "CONFIG_DIR", configs)
    opened = contextvars.ContextVar("trusted", default=frozenset({"sample_data"}))  # it stands for the packaged parts
    monkeypatch.setattr(trust, "_trusted", opened)
    monkeypatch.setattr(sys, "argv", ["detect train"])
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    jobs = []

    def main(cfg):
        jobs.append(cfg)
        if check.makes_runs(cfg) and not cfg.get("fail"):
            RunFolder(job.folder()).save_command(job.command(cfg))
        raising = {
            "user": DataError("image.jpg: truncated"),
            "bug": ZeroDivisionError("a bug"),
            "interrupt": KeyboardInterrupt(),
        }
        if cfg.get("fail"):
            raise raising[cfg.fail]
        return float(cfg.seed)

    def run(*arguments, verb="train"):
        return cli.run(verb, main, list(arguments))

    run.jobs, run.configs = jobs, configs
    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    return file


@pytest.fixture
def refused(program, capsys):
    """Runs a command that must be refused before its job starts; returns the one message on stderr."""

    def run(*arguments):
        assert program(*arguments) == 2
        assert program.jobs == []
        assert not Path("runs").exists(), "a refused command leaves no run folder"
        out, err = capsys.readouterr()
        assert out == "" and "Traceback" not in err and "HYDRA" not in err
        assert err.startswith("detect train: ")
        return err.removeprefix("detect train: ").rstrip("\n")

    return run


def test_a_run_leaves_its_folder(program):
    assert program("schedule.steps=3", "dataset=other", "dataset.root=x") == 0
    (cfg,) = program.jobs
    assert (cfg.schedule.steps, cfg.dataset.root) == (3, "x")
    (folder,) = Path("runs/sample").iterdir()
    assert (folder / ".hydra" / "config.yaml").is_file()


def test_flags_and_overrides_may_alternate(program, capsys):
    assert program("seed=5", "--cfg", "job", "schedule.steps=3", "--package", "schedule") == 0
    assert "steps: 3" in capsys.readouterr().out
    assert program.jobs == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["schedul.steps=3"], "unknown key schedul.steps; did you mean schedule.steps?"),
        (["steps=3"], "unknown key steps; here it is schedule.steps"),
        (["+schedule.stepss=3"],
         "unknown key schedule.stepss: sample_data.Plan has no argument stepss; did you mean steps?"),
        (["+augment.stepss=3"], "unknown key augment.stepss; did you mean augment.transforms?"),
        (["+seed=1"], "+seed=1: seed exists already: leave out the +"),
        (["~schedule.rate"], "~schedule.rate: schedule.rate can't be removed; only entries of augment.transforms can"),
        (["~schedule"], "~schedule: a group can't be removed; choose an option (schedule=...)"),
        (["dataset=vok"], "unknown dataset=vok; did you mean voc? (options: other, voc)"),
        (["datasett=voc"], "unknown key datasett; did you mean dataset?"),
        (["experiment=demoo"], "unknown experiment=demoo; did you mean demo? (options: demo)"),
        (["schedule.steps=0"], "schedule.steps=0 is not legal: expected a whole number from 1"),
        (["schedule.steps=many"], "schedule.steps=many is not legal: expected a whole number from 1"),
        (["schedule.decay=line"], "schedule.decay=line is not legal: expected one of cosine, step, constant"),
        (["dataset=other"], "dataset.root is missing: give dataset.root=DIR, or train on the embedded data set: "
                             "dataset=digits"),
        (["dataset.num_classes=5"], f"dataset.num_classes=5: {check.COUNT_IS_DERIVED}"),
        (["+detector.num_classes=5"], f"+detector.num_classes=5: {check.COUNT_IS_DERIVED}"),
        (["dataset.val_fractoin=.2"], "unknown key dataset.val_fractoin; did you mean dataset.val_fraction?"),
        (["train"], "can't read 'train': expected key=value or group=option"),
        (["--steps", "5"], "unrecognized arguments: --steps (values are set as key=value; --help lists the keys)"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
        (["seed=0,1"], "seed=0,1: several values make a sweep, which needs -m; seed=[...] is a list, "
                       "seed='...' is text"),
        (["-m", "seed=0,-1"], "seed=-1 is not legal: expected a whole number from 0 to 2147483647"),
        (["-m", "schedule=default,shrot"], "unknown schedule=shrot; did you mean short? (options: default, short)"),
        (["init=path"], "init.path is missing: give init.path=FILE"),
        (["seed=1", "++hydra.mode=MULTIRUN"], "hydra.mode=MULTIRUN: it can't be set; a sweep is detect train -m"),
        (["-m", "hydra.sweeper.params.seed='0,1'"],
         "hydra.sweeper.params.seed='0,1': the command line does not take hydra.sweeper.params; give the values "
         "themselves, as in -m seed=0,1"),
        (["hydra.searchpath=[file:///tmp]"],
         "hydra.searchpath=[file:///tmp]: the command line does not take hydra.searchpath; a folder of configurations "
         "is --config-dir DIR"),
        (["hydra.job.chdir=true"],
         "hydra.job.chdir=true: it can't be set, as paths are relative to the current folder"),
        (["init=path", "init.path=x", "init.scope=head"],
         "init.scope=head is not legal: expected one of backbone, detector"),
    ],
)  # fmt: skip
def test_refused_with_one_message(refused, arguments, message):
    assert refused(*arguments) == message


def test_an_init_that_is_nothing_names_the_options_and_the_nearest(refused):
    message = refused("init=imagnet")
    assert message.startswith("init=imagnet")
    assert "(imagenet, none, path)" in message
    assert message.endswith("did you mean imagenet?")


def test_unknown_flag_names_the_nearest(refused):
    assert "unrecognized arguments: --multirunn; did you mean --multirun?" in refused("--multirunn", "seed=1")


def test_two_flags_that_exclude_each_other_are_one_message(refused):
    assert refused("--multirun", "--cfg", "job").startswith("--multirun and --cfg can't be given together")


@pytest.mark.parametrize("flag", [["--resolve"], ["--package", "schedule"]])
def test_a_flag_of_a_shown_configuration_needs_one(refused, flag):
    assert refused(*flag).startswith(f"{flag[0]} is for --cfg")


@pytest.mark.parametrize("more", [["--resolve"], ["--package", "augment.transforms.a"]])
def test_a_shown_configuration_names_the_key_of_a_bad_interpolation(refused, more):
    message = refused("--cfg", "job", *more, "+augment.transforms.a='${nothing}'")
    assert message == "augment.transforms.a: Interpolation key 'nothing' not found"


@pytest.mark.parametrize("arguments", [["hydra.run.dir=/proc/x"], ["-m", "seed=1,2", "hydra.sweep.dir=/proc/x"]])
def test_a_folder_that_can_not_be_made_is_one_message(refused, arguments):
    assert re.match(r"hydra\.(run|sweep)\.dir=/proc/x: /proc can't be written", refused(*arguments))


def test_a_flag_whose_value_may_be_missing_takes_no_override(program, capsys):
    assert program("schedule=short", "--info") == 0
    assert "schedule: short" in capsys.readouterr().out and program.jobs == []
    assert program("--", "seed=3") == 0 and program.jobs[0].seed == 3


def test_an_option_in_a_file_of_another_ending_is_named(refused, mine):
    file = write(mine / "experiment" / "foo.yml", "# @package _global_\nseed: 3\n")
    for name in ("foo", "foo.yml"):
        assert refused("--config-dir", str(mine), f"experiment={name}") == f"{file}: rename it to foo.yaml"


def test_a_sweep_that_was_stopped_says_so_on_stderr(program, capsys):
    assert program("-m", "fail=interrupt", "hydra.sweep.dir=out") == 130
    assert "hydra.sweep.dir=out the same command goes on" in capsys.readouterr().err


def test_transforms_are_open(program):
    blur = "+augment.transforms.blur={_target_:albumentations.Blur,p:0.1}"
    assert program(blur, "augment.transforms.blur.p=.2", "~augment.transforms.flip") == 0
    assert OmegaConf.to_container(program.jobs[0].augment.transforms) == {
        "blur": {"_target_": "albumentations.Blur", "p": 0.2}
    }


def test_arguments_of_added_transforms_are_checked(refused):
    assert refused("+augment.transforms.flip.pp=.2") == (
        "unknown key augment.transforms.flip.pp: albumentations.HorizontalFlip has no argument pp; did you mean p?"
    )


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_no_large_library_is_imported_before_a_typo_is_refused(verb):
    script = """
        import sys
        from detect.cli import main as cli
        try:
            cli.main()
        finally:
            heavy = "tensorflow tf_keras keras official numpy scipy cv2 albumentations matplotlib pandas"
            print("loaded:", sorted(set(heavy.split()) & set(sys.modules)))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), verb, "schedul.steps=3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == "loaded: []\n"
    assert done.stderr.startswith(f"detect {verb}: unknown key schedul.steps")


def test_module_is_the_same_as_the_verb(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "detect.cli", "train", "schedul.steps=3"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "detect train: unknown key schedul.steps; did you mean schedule.steps?\n"


def test_help_needs_neither_hydra_nor_tensorflow():
    script = "import sys; sys.argv = ['detect', '--help']; from detect.cli import main as cli; cli.main(); " + (
        "print(sorted({'hydra', 'omegaconf', 'tensorflow', 'numpy', 'fcntl', 'resource'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *text, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    assert max(map(len, text)) <= 80
    for name in cli.VERBS:
        assert any(line.startswith(f"  {name} ") for line in text)


def test_closed_pipe_is_quiet(tmp_path):
    script = (
        "import sys; sys.argv = ['detect', 'doctor', 'devices=false']; from detect.cli import main as cli; cli.main()"
    )
    reader, writer = os.pipe()
    os.close(reader)
    environment = ENVIRONMENT
    done = subprocess.run(
        [sys.executable, "-u", "-c", script], stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, env=environment
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["train", "--cfg", "job"]])
@pytest.mark.parametrize("buffered", [True, False])
def test_nobody_who_reads_is_no_error(tmp_path, words, buffered):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, *([] if buffered else ["-u"]), "-m", "detect.cli", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, env=ENVIRONMENT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_lines_of_the_log_that_nobody_reads_are_no_error(capfd, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        console = Console()
        console.handle(logging.LogRecord("detect", logging.INFO, "", 0, "a line", None, None))
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
    assert capfd.readouterr().err == ""


def test_signs_that_the_terminal_lacks_are_shown_as_escapes(tmp_path):
    script = "from detect.cli.main import prepare_environment; prepare_environment(); print('0.5 \u00b1 0.1')"
    settings = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=ENVIRONMENT | settings)
    assert (done.stdout, done.stderr) == (b"0.5 \\xb1 0.1\n", b"")


def test_a_pipe_to_another_process_that_breaks_is_an_error(tmp_path):
    script = """
from detect.cli import main

def job(cfg):
    raise BrokenPipeError(32, "to a process")

raise SystemExit(main.run("doctor", job, []))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "BrokenPipeError: [Errno 32] to a process" in done.stderr


def test_unknown_verb(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["detect", "trian"])
    assert cli.main() == 2
    assert capsys.readouterr().err.startswith("detect: unknown verb trian; did you mean train? (verbs: train, evaluate")


@pytest.mark.parametrize(("word", "meant"), [("val", "evaluate"), ("test", "evaluate"), ("version", "--version")])
def test_a_word_of_other_programs_is_answered(monkeypatch, capsys, word, meant):
    monkeypatch.setattr(sys, "argv", ["detect", word])
    assert cli.main() == 2 and f"did you mean {meant}?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--version"], ["train", "--version"], ["train", "seed=1", "--version"]])
def test_the_version_is_that_of_this_program(monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["detect", *words])
    assert cli.main() == 0 and capsys.readouterr().out.startswith("detect ")


def test_windows_is_one_message(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "argv", ["detect", "doctor"])
    assert cli.main() == 2
    assert "WSL2" in capsys.readouterr().err


def test_help_of_a_verb(program, capsys):
    assert program("--help", "experiment=demo") == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "  dataset      other *voc" in text
    assert "  experiment   *demo" in text
    assert "  schedule.steps=7                 optimiser steps" in text
    assert "  seed=0                           of everything" in text
    assert program.jobs == []


def test_user_error_in_a_job(program, capsys):
    with pytest.raises(SystemExit) as ended:
        program("fail=user")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "detect train: image.jpg: truncated\n"


def test_a_bug_keeps_its_traceback(program):
    with pytest.raises(ZeroDivisionError, match="a bug"):
        program("fail=bug")


def test_interrupt_is_quiet(program, capsys):
    assert program("fail=interrupt") == 130
    assert capsys.readouterr().err == ""


def test_bare_verbs_leave_nothing(program):
    assert program("seed=2", verb="bare") == 0
    assert list(Path().iterdir()) == []


def test_sweep(program):
    assert program("-m", "seed=1,2", "schedule=default,short") == 0
    assert [(cfg.seed, cfg.schedule.steps) for cfg in program.jobs] == [(1, 10), (1, 2), (2, 10), (2, 2)]
    (folder,) = Path("runs/sample").iterdir()
    assert sorted(place.name for place in folder.iterdir() if place.is_dir()) == ["0", "1", "2", "3"]


def test_a_sweep_of_a_verb_that_makes_no_runs(program, capsys):
    write(program.configs / "tool.yaml", "defaults:\n  - hydra: bare\n  - _self_\nseed: 0\nfail: null\n")
    assert program("-m", "seed=1,2", verb="tool") == 0 and [cfg.seed for cfg in program.jobs] == [1, 2]
    assert program("-m", "fail=user,null", verb="tool") == 1 and len(program.jobs) == 4
    assert "detect tool: job 0 (fail=user): image.jpg: truncated" in capsys.readouterr().err
    assert list(Path().iterdir()) == []
    Path("multirun.yaml").write_text("mine")
    assert program("--cfg", "job", verb="tool") == 0 and program("-m", "seed=1,2", verb="tool") == 0
    assert [(file.name, file.read_text()) for file in Path().iterdir()] == [("multirun.yaml", "mine")]


def test_a_sweep_over_experiments_sets_a_key_that_only_they_have(program, capsys):
    """Hydra itself sets the values of a sweep before it takes the options that vary."""
    for name in ("a", "b"):
        text = f"# @package _global_\ndefaults:\n  - override /init: path\nseed: {ord(name)}\n"
        write(program.configs / f"experiment/{name}.yaml", text)
    assert program("-m", "experiment=a,b", "init.path='a, b=c.npz'", "init.scope=detector") == 0
    assert [(cfg.seed, cfg.init.path, cfg.init.scope) for cfg in program.jobs] == [
        (97, "a, b=c.npz", "detector"), (98, "a, b=c.npz", "detector"),
    ]  # fmt: skip
    program.jobs.clear()
    assert program("-m", "experiment=a,b", "init.path=null") == 0
    assert [cfg.init.path for cfg in program.jobs] == [None, None]
    program.jobs.clear()
    assert program("-m", "experiment=a,b", "init.pathh=x") == 2
    assert "unknown key init.pathh; did you mean init.path?" in capsys.readouterr().err
    assert program("-m", "experiment=a,demo", "init.path=x") == 2  # the second job has no such key
    assert "unknown key init.path" in capsys.readouterr().err and program.jobs == []


def test_no_experiment_is_an_option_beside_others(program, capsys):
    assert program("experiment=null") == 0 and program("-m", "experiment=null,demo") == 0
    grid = "hydra: {sweeper: {params: {experiment: 'null,demo'}}}"
    write(program.configs / "grid.yaml", f"defaults: [train, _self_]\n{grid}\n")
    assert program("--config-name", "grid", "-m") == 0
    assert [cfg.schedule.steps for cfg in program.jobs] == [10, 10, 7, 10, 7]
    assert program("experiment=[]") == 0
    for words in (["schedule=null"], ["-m", "schedule=null,short"], ["experiment=[demo,null]"]):
        assert program(*words) == 2
    err = capsys.readouterr().err
    assert err.count("unknown schedule=null (options: default, short)") == 2
    assert "unknown experiment=null (options: demo)" in err


def test_sweep_goes_on_after_a_bad_job_and_names_it(program, capsys):
    assert program("-m", "seed=1,2", "fail=user,null") == 1
    assert len(program.jobs) == 4
    err = capsys.readouterr().err
    assert "detect train: job 0 (fail=user,seed=1): image.jpg: truncated" in err
    assert "detect train: job 2 (fail=user,seed=2): image.jpg: truncated" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["plain.npz", "a=b, c.npz", 'it\'s "quoted".npz', "{x}[y]$z.npz"])
def test_init_path_is_taken_as_it_is(program, name):
    write(Path(name), "")
    assert program(f"init={name}") == 0
    assert program.jobs[0].init == {
        "_target_": "sample_data.File",
        "kind": "path",
        "path": str(Path(name).resolve()),
        "scope": "backbone",
    }


@pytest.mark.parametrize("name", ["photos (1)", "a, b", "it's [2]", "x=1"])
def test_paths_are_taken_as_they_are(program, name):
    Path(name).mkdir()
    assert program(f"dataset.root={name}", "hydra.run.dir=runs/x (1)") == 0
    assert program.jobs[0].dataset.root == name
    Path("runs/x (1)").rename(f"runs/{name}")
    assert program(f"resume=runs/{name}") == 0
    assert program.jobs[1].resume == str(Path("runs", name).resolve())


def test_a_folder_may_be_called_as_a_number(program):
    assert program("dataset.root=0100", "hydra.run.dir=2024") == 0
    assert program.jobs[0].dataset.root == "0100" and Path("2024/.hydra").is_dir()


def test_a_sweep_over_folders_that_are_called_as_numbers(program):
    assert program("-m", "dataset.root=2007,2012,data", "hydra.sweep.dir=s") == 0
    assert [cfg.dataset.root for cfg in program.jobs] == ["2007", "2012", "data"]


def test_a_run_of_another_configuration_is_left_as_it_is(program, finished, capsys):
    write(finished / "config.yaml", (finished / ".hydra" / "config.yaml").read_text())
    (finished / "failed.txt").write_text("the true reason")
    before = {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}
    assert program("experiment=demo", "seed=4", f"hydra.run.dir='{finished}'") == 2
    assert "it holds a run of another configuration" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in finished.iterdir()} == before and program.jobs == []


def test_the_users_own_folder_in_the_name_of_a_run_folder(program, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert program("hydra.run.dir=~/runs/a") == 0
    assert (tmp_path / "home/runs/a/.hydra").is_dir() and not Path("~").exists()


def test_an_empty_run_folder_is_refused(refused):
    assert "hydra.run.dir is empty; name a folder" in refused("hydra.run.dir=")


def test_init_takes_folders_and_checkpoint_prefixes(program):
    write(Path("model.ckpt.index"), "")
    Path("earlier run").mkdir()
    assert program("init=model.ckpt") == 0
    assert program("init='earlier run'") == 0
    assert [Path(cfg.init.path).name for cfg in program.jobs] == ["model.ckpt", "earlier run"]


def test_a_sweep_over_weights(program):
    for name in ("a.npz", "b 2.npz"):
        write(Path(name), "")
    assert program("-m", "init=a.npz,b 2.npz", "seed=1,2") == 0
    assert [Path(cfg.init.path).name for cfg in program.jobs] == ["a.npz", "a.npz", "b 2.npz", "b 2.npz"]


def test_init_options_are_left_alone(program):
    write(Path("imagenet"), "")
    assert program("-m", "init=imagenet,none") == 0
    assert [cfg.init.kind for cfg in program.jobs] == ["imagenet", "none"]


@pytest.fixture
def finished(program):
    """A run folder made by `experiment=demo seed=3`; its name asks for quotes."""
    assert program("experiment=demo", "seed=3", "hydra.run.dir='runs/a=1, b'") == 0
    program.jobs.clear()
    return Path("runs/a=1, b").resolve()


def test_resume_goes_on_in_the_run_folder_with_its_overrides(program, finished, monkeypatch):
    monkeypatch.chdir(finished.parent.parent.parent)
    assert program(f"resume='{finished}'") == 0
    assert program(f"resume='{finished}'", "seed=3") == 0
    for cfg in program.jobs:
        assert (cfg.seed, cfg.schedule.steps, cfg.resume) == (3, 7, str(finished))
    assert sorted(place.name for place in finished.parent.iterdir()) == [finished.name]
    saved = OmegaConf.load(finished / ".hydra" / "overrides.yaml")
    assert list(saved)[:2] == ["experiment=demo", "seed=3"]


def test_resume_refuses_another_configuration(program, finished, capsys):
    assert program(f"resume='{finished}'", "schedule.steps=5", "seed=4") == 2
    head, steps, seed = capsys.readouterr().err.splitlines()
    assert head.startswith(f"detect train: resume={finished}: ")
    assert re.search(r"schedule\.steps: .* 7, .* 5; a run can only become longer$", steps)
    assert re.search(r"seed: .* 3, .* 4$", seed)
    assert program(f"resume='{finished}'", "schedule.steps=9", "seed=4") == 2, "an extension excuses no other change"
    assert "seed" in capsys.readouterr().err
    assert program.jobs == []


def test_resume_extends_a_run_only_if_the_command_asks_for_it(program, finished):
    assert program(f"resume='{finished}'", "schedule.steps=9") == 0
    (cfg,) = program.jobs
    assert cfg.schedule.steps == 9
    assert program(f"resume='{finished}'") == 0, "the extended run is the run now"
    assert program.jobs[-1].schedule.steps == 9


def test_resume_may_rename_what_is_no_part_of_the_result(program, finished):
    """As a sweep and a run folder have it: one rule, config.fingerprint."""
    assert program(f"resume='{finished}'", "name=other") == 0
    (cfg,) = program.jobs
    assert (cfg.name, cfg.seed) == ("other", 3)
    assert sorted(place.name for place in finished.parent.iterdir()) == [finished.name]


def test_resume_notices_a_changed_yaml(program, finished, capsys):
    write(program.configs / "experiment" / "demo.yaml", "# @package _global_\nschedule: {steps: 8}\n")
    assert program(f"resume='{finished}'") == 2
    assert re.search(r"schedule\.steps: .* 7, .* 8$", capsys.readouterr().err, re.MULTILINE)


def test_a_sweep_whose_proposals_all_failed_names_them(program, capsys):
    """Optuna has no best one, and raises an error for it."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    words = ["-m", "fail=user", "hydra/sweeper=optuna_tpe", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=out"]
    assert program(*words, "schedule.rate=interval(.001,.1)", "hydra.sweep.subdir=${hydra.job.num}") == 1
    told = capsys.readouterr().err
    assert "failed: 0: image.jpg: truncated" in told and "failed: 1: image.jpg: truncated" in told


def test_resume_of_what_is_no_run_folder(refused):
    Path("empty").mkdir()
    message = refused("resume=empty")
    assert message.startswith(f"resume={Path('empty').resolve()}: ")
    assert "not a run folder" in message
    assert ".hydra/config.yaml" in message


def test_resume_goes_on_in_its_own_folder(program, finished, capsys):
    assert program(f"resume='{finished}'", "hydra.run.dir=elsewhere") == 2
    assert f"hydra.run.dir=elsewhere: resume={finished}" in capsys.readouterr().err
    assert program(f"resume='{finished}'", f"hydra.run.dir='{finished}'") == 0


def test_resume_of_a_sweep_names_its_runs(program, capsys):
    assert program("-m", "seed=1,2", "hydra.sweep.dir=study") == 0
    assert program("resume=study") == 2
    assert "it holds a sweep: give one of its runs (0, 1)" in capsys.readouterr().err
    assert program("resume=study/1") == 0
    assert program.jobs[-1].seed == 2
    assert program("-m", "resume=study/1", "seed=1,2") == 2
    assert "leave out -m" in capsys.readouterr().err


def test_resume_null_is_a_new_run(program):
    assert program("resume=null") == 0
    assert program("resume=nowhere", "resume=null") == 0


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=1"]])
def test_a_file_resumes_no_run(refused, mine, arguments):
    write(mine / "experiment" / "old.yaml", "# @package _global_\nresume: runs/old\n")
    message = refused("--config-dir", str(mine), "experiment=old", *arguments)
    assert message == "resume=runs/old: a file may not set it; give resume=runs/old on the command line"


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    write(folder / "dataset" / "cells.yaml", "_target_: sample_data.read\nroot: cells\n")
    write(
        folder / "experiment" / "cells.yaml", "# @package _global_\ndefaults:\n  - override /dataset: cells\nseed: 9\n"
    )
    write(folder / "schedule" / "long.yaml", f"{PLAN}steps: 1000\nrate: 0.1\ndecay: step\n")
    return folder


def test_config_dir_adds_options(program, mine, capsys):
    assert program("--config-dir", str(mine), "experiment=cells", "schedule=long") == 0
    (cfg,) = program.jobs
    assert (cfg.dataset.root, cfg.seed, cfg.schedule.steps) == ("cells", 9, 1000)
    assert program("--config-dir", str(mine), "--help") == 0
    assert "  dataset      cells other *voc" in capsys.readouterr().out


def test_config_dir_is_remembered_by_resume(program, mine):
    assert program("--config-dir", str(mine), "experiment=cells", "hydra.run.dir=one") == 0
    assert program("resume=one") == 0
    assert program.jobs[1].dataset.root == "cells"


@pytest.mark.parametrize(
    ("file", "text", "arguments", "message"),
    [
        (
            "dataset/cells.yaml",
            "_target_: sample_data.read\nroot: x\nval_fractoin: 0.2\n",
            ["dataset=cells"],
            "unknown key dataset.val_fractoin: sample_data.read has no argument val_fractoin; "
            "did you mean val_fraction?",
        ),
        (
            "dataset/cells.yaml",
            "_target_: sample_data.read\nroot: x\nnum_classes: 3\n",
            ["dataset=cells"],
            f"dataset.num_classes: {check.COUNT_IS_DERIVED}",
        ),
        (
            "experiment/cells.yaml",
            "# @package _global_\nschedul: {steps: 3}\n",
            ["experiment=cells"],
            "{file}: unknown key schedul.steps; did you mean schedule.steps?",
        ),
        (
            "schedule/long.yaml",
            f"{PLAN}stepss: 3\nsteps: 2\nrate: 0.1\ndecay: step\n",
            ["schedule=long"],
            "unknown key schedule.stepss: sample_data.Plan has no argument stepss; did you mean steps?",
        ),
        (
            "schedule/short.yaml",
            "steps: 3\n",
            ["schedule=short"],
            "{file}: the packaged file of that name hides it; give it another name",
        ),
    ],
)
def test_typos_in_a_users_files_are_refused(refused, mine, file, text, arguments, message):
    write(mine / file, text)
    assert refused("--config-dir", str(mine), *arguments) == message.format(file=mine / file)


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=1"], ["trust=[hydra]"]])
def test_no_file_makes_a_sweep_of_each_cell(refused, mine, arguments):
    write(mine / "experiment" / "swept.yaml", "# @package _global_\nhydra: {mode: MULTIRUN}\n")
    message = refused("--config-dir", str(mine), "experiment=swept", *arguments)
    assert message == "hydra.mode=MULTIRUN: it can't be set; a sweep is detect train -m"


def test_a_configuration_of_ones_own_is_an_experiment(refused, mine):
    write(mine / "mine.yaml", "defaults: [train, _self_]\n")
    message = refused("--config-dir", str(mine), "--config-name", "mine")
    assert message.startswith("--config-name mine: there is no such packaged configuration; write your own as an exp")


def test_broken_yaml_names_file_and_line(refused, mine):
    file = write(mine / "schedule" / "long.yaml", "steps: [3\n")
    message = refused("--config-dir", str(mine), "schedule=long")
    assert message.startswith(f"{file}: the file is damaged (line 2: ")


def test_typo_in_hydras_own_keys(refused):
    assert refused("hydra.rnu.dir=x").startswith("Could not override 'hydra.rnu.dir'.")


def test_typo_in_a_packaged_experiment_is_refused(refused, program):
    file = write(program.configs / "experiment" / "demo.yaml", "# @package _global_\naugment: {min_sice: 3}\n")
    assert refused("experiment=demo") == f"{file}: unknown key augment.min_sice; did you mean augment.min_size?"


def test_large_sweeps_are_checked_in_part(program, monkeypatch):
    monkeypatch.setattr(overrides, "CHECKED_JOBS", 2)
    checked = []
    monkeypatch.setattr(check, "check", lambda cfg: checked.append(cfg.seed))
    overrides.prepare(overrides.read(["-m", "seed=range(0,100)"], "train"))
    assert checked == [0, 1]


def test_a_job_is_checked_once(program, monkeypatch):
    checked, check_it = [], check.check
    monkeypatch.setattr(check, "check", lambda cfg: (checked.append(cfg.seed), check_it(cfg)))
    assert program("seed=4") == 0
    assert (checked, len(program.jobs)) == ([4], 1)
    assert program("-m", "seed=1,2") == 0
    assert (checked, len(program.jobs)) == ([4, 1, 2], 3)


def test_a_late_job_of_a_sweep_is_checked_when_it_comes(program, monkeypatch, capsys):
    monkeypatch.setattr(overrides, "CHECKED_JOBS", 1)
    assert program("-m", "seed=1,-2,3") == 1
    assert [cfg.seed for cfg in program.jobs] == [1, 3]
    assert "job 1 (seed=-2): seed=-2 is not legal: expected a whole number from 0" in capsys.readouterr().err


def test_quoted_values_come_back():
    for text in ["a", "a=b", "a, b", "it's", 'say "x"', "back\\slash", "${x}", "[1]"]:
        (override,) = grammar.parse([f"key={grammar.quoted(text)}"])
        assert override.value() == text


def test_read_refuses_a_config_path():
    with pytest.raises(ConfigError, match=r"--config-path .*--config-dir DIR"):
        overrides.read(["--config-path", "x"], "train")


def test_environment(monkeypatch):
    for name in ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS", "NO_ALBUMENTATIONS_UPDATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    cli.prepare_environment()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0", "what the user has set stays"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] in ("2", "3")
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"


@pytest.fixture
def heard():
    """Ctrl-C is heard, also in a session that began in the background, where a shell lets programs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_an_object_is_freed_is_not_forgotten(heard):
    class Freed:
        def __del__(self):
            raise KeyboardInterrupt

    before, sys.unraisablehook = sys.unraisablehook, cli._unraisable
    try:
        with pytest.raises(KeyboardInterrupt):
            Freed()
            time.sleep(5)
    finally:
        sys.unraisablehook = before


def test_ctrl_c_while_an_object_is_freed_inside_of_threading(heard):
    """The object is freed while a lock of `threading` is held; in a process of its own, as it could stand still."""
    code = """
import sys, threading, time
from detect.cli import main
class Freed:
    def __del__(self):
        raise KeyboardInterrupt
sys.unraisablehook = main._unraisable
try:
    with getattr(threading, "_shutdown_locks_lock", threading.Lock()):  # Python before 3.13
        Freed()
    time.sleep(5)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted\n"


@pytest.mark.parametrize("wrapped", [None, ConfigCompositionException, ConfigError, OSError])
def test_ctrl_c_while_the_configuration_is_composed(wrapped, tmp_path, monkeypatch, capsys):
    """A library that is stopped between two of its steps fails while it ends."""

    def composed(*words, **named):
        try:
            try:
                raise KeyboardInterrupt
            finally:
                None._invalidate_flags_cache()
        except AttributeError as error:
            if wrapped is None:
                raise
            raise wrapped(str(error)) from (error if wrapped is OSError else None)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(composer.Composer, "_composed", composed_without_copies)
    monkeypatch.setattr(composer, "compose", composed)
    monkeypatch.setattr(composer, "_PACKAGED", {})
    assert cli.run("train", lambda cfg: None, ["seed=12345", "hydra.run.dir=run"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["py_function", "pybind11", "cause", "plain"])
def test_ctrl_c_that_tensorflow_makes_another_error_of(kind, tmp_path, monkeypatch):
    """The signal arrives while C++ code calls Python: a callback of a graph, the trace of a function."""

    def function(cfg):
        import tensorflow as tf

        def callback():
            raise KeyboardInterrupt

        if kind == "py_function":
            tf.function(lambda: tf.py_function(callback, [], tf.int32))()
        if kind == "pybind11":
            raise RuntimeError("KeyboardInterrupt: <EMPTY MESSAGE>\n\nAt:\n  train.py(71): _stages\n")
        if kind == "cause":
            raise ValueError("the graph is not complete") from KeyboardInterrupt()
        first, second = RuntimeError("no interrupt"), ValueError("its cause")
        first.__cause__, second.__context__ = second, first  # a ring
        raise first

    monkeypatch.chdir(tmp_path)
    words = ["dataset=digits", f"hydra.run.dir={tmp_path / 'run'}"]
    if kind == "plain":
        with pytest.raises(RuntimeError, match="no interrupt"):
            cli.run("train", function, words)
    else:
        assert cli.run("train", function, words) == 130
        assert not (tmp_path / "run" / "failed.txt").exists()
