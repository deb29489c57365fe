"""`detect migrate` from the command line: the file that it writes, what it tells, and what it refuses."""

from pathlib import Path

import pytest

from detect.config.compose import compose
from detect.errors import ConfigError
from detect.migration import experiment
from tests import program
from tests.verbs import call

CONFIG = Path(__file__).parent.parent / "migration" / "fixtures" / "tiny_fpn.config"


@pytest.fixture
def migrate(caplog):
    """Runs the verb in this process and returns what it logs."""

    def run(*words: str) -> str:
        caplog.clear()
        with caplog.at_level("INFO", "detect"):
            call("migrate", *words)
        return "\n".join(record.getMessage() for record in caplog.records)

    return run


def test_the_experiment_composes_and_the_account_fits_the_console(tmp_path, migrate):
    told = migrate(f"config={CONFIG}", f"output={tmp_path}/out")
    assert f"detect train --config-dir {tmp_path}/out experiment=tiny_fpn" in told
    assert "- init: random weights, as fine_tune_checkpoint is a placeholder" in told
    account = told.partition("\nwrote ")[0].splitlines()
    assert account[0] == "Differs from the file:" and max(map(len, account)) <= 79
    text = (tmp_path / "out" / "experiment" / "tiny_fpn.yaml").read_text()
    assert text.startswith("# @package _global_\n# Translated from tiny_fpn.config") and "???" not in text
    cfg = compose(["experiment=tiny_fpn"], config_dir=tmp_path / "out")
    assert cfg.detector.head.one_tower and cfg.name == "tiny_fpn" and cfg.dataset.root == "data"


@pytest.mark.parametrize(
    ("given", "output", "more", "file"),
    [
        ("my model/pipeline.config", "a/experiment/mine.yaml", [], "a/experiment/mine.yaml"),
        ("my model", "b", ["name=mine"], "b/experiment/mine.yaml"),
        ("my model", "b", [], "b/experiment/my_model.yaml"),  # the folder's name tells more than pipeline.config
    ],
)
def test_places(tmp_path, migrate, given, output, more, file):
    source = tmp_path / "my model" / "pipeline.config"
    source.parent.mkdir()
    source.write_bytes(CONFIG.read_bytes())
    migrate(f"config='{tmp_path}/{given}'", f"output={tmp_path}/{output}", *more)
    assert (tmp_path / file).is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["output=x.yaml"], "legal are a folder, and a file DIR/experiment/NAME.yaml"),
        (["output={config}"], "it is a file"),
        (["name=demo"], "an experiment of this program has this name"),
        (["config=absent.config"], r"config=absent\.config: there is no file .*/absent\.config"),
        (["config=."], r"config=\.: there is no file .*/pipeline\.config"),
        (["name=300"], "name=300: .*legal is text, such as my_300"),
        (["name=true"], "name=True: .*legal is text"),
        (["output=experiment/1.5.yaml"], r"output=1\.5: .*legal is text"),
    ],
)
def test_refusals(migrate, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        migrate(*[f"config={CONFIG}"] * ("config=" not in words[0]), *(word.format(config=CONFIG) for word in words))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [("height: 96", "height: 32", "detector.size"), ("aspect_ratios: [1.0, 2.0, 0.5]", "", "anchors.aspect_ratios")],
)
def test_values_that_are_not_legal_here_leave_no_file(tmp_path, migrate, before, after, key):
    bad = tmp_path / "bad.config"
    bad.write_text(CONFIG.read_text().replace(before, after))
    with pytest.raises(ConfigError, match=rf"bad\.config: its values are not legal here: .*{key}"):
        migrate(f"config={bad}", f"output={tmp_path}/out")
    assert not list(tmp_path.rglob("*.yaml"))


def test_a_word_without_a_key_is_the_file(tmp_path):
    bad = tmp_path / "bad.config"
    bad.write_text("model { center_net { } }\n")
    done = program.run("migrate", bad, folder=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr == f"detect migrate: {bad}:1: model.center_net: center_net has no counterpart here\n"


def test_a_file_that_is_there_stays_if_the_new_one_is_refused(tmp_path, migrate):
    migrate(f"config={CONFIG}", f"output={tmp_path}")
    file = tmp_path / "experiment" / "tiny_fpn.yaml"
    before = file.read_text()
    (tmp_path / "tiny_fpn.config").write_text(CONFIG.read_text().replace("iou_threshold: ", "iou_threshold: 7"))
    with pytest.raises(ConfigError, match="its values are not legal here"):
        migrate(f"config={tmp_path}/tiny_fpn.config", f"output={tmp_path}")
    assert file.read_text() == before
    migrate(f"config={CONFIG}", f"output={tmp_path}")  # its own file is replaced
    file.write_text("# @package _global_\nseed: 3\n")
    with pytest.raises(ConfigError, match=r"tiny_fpn\.yaml is there already, and was not made by detect migrate"):
        migrate(f"config={CONFIG}", f"output={tmp_path}")
    assert file.read_text().endswith("seed: 3\n")


def test_a_file_that_was_changed_by_hand_stays(tmp_path, migrate):
    source = tmp_path / f"{'n' * 88}.config"  # the line of the mark breaks within it
    source.write_bytes(CONFIG.read_bytes())
    for _ in range(2):  # its own file is replaced
        migrate(f"config={source}", f"output={tmp_path}")
    (file,) = (tmp_path / "experiment").iterdir()
    made = file.read_text()
    assert experiment.BY not in made
    file.write_text(made.replace("batch_size: 4", "batch_size: 8"))
    with pytest.raises(ConfigError, match=r"was changed by hand .*; give another name="):
        migrate(f"config={source}", f"output={tmp_path}")
    assert "batch_size: 8" in file.read_text()
    older = [line for line in made.replace("batch_size: 4", "batch_size: 8").splitlines() if "# Digest" not in line]
    file.write_text("\n".join(older))  # an older version has no digest
    migrate(f"config={source}", f"output={tmp_path}")
    assert file.read_text() == made


@pytest.mark.parametrize("folder", ["20200711", "1.5", "true", "null"])
def test_a_folder_whose_name_is_no_text(tmp_path, migrate, folder):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "pipeline.config").write_bytes(CONFIG.read_bytes())
    told = migrate(f"config={tmp_path}/{folder}/pipeline.config", f"output={tmp_path}/my models")
    assert f"detect train --config-dir '{tmp_path}/my models' experiment=migrated_{folder}" in told
    cfg = compose([f"experiment=migrated_{folder}"], config_dir=tmp_path / "my models")
    assert cfg.name == f"migrated_{folder}"
