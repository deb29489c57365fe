"""The arms of the two-stage ablation: what they change, what contradicts them, and where their crops come from."""

import itertools
from pathlib import Path

import cv2
import hydra
import numpy as np
import pytest

from detect.cli.overrides import prepare, read
from detect.config.check import CONFIG_DIR, check
from detect.config.composer import groups
from detect.config.fingerprint import fingerprint
from detect.data.crops import crop_dataset
from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.subset import limit, share
from detect.errors import ConfigError
from tests.verbs import composed

FILES = sorted((CONFIG_DIR / "experiment").glob("*/*.yaml"))


def compose(*overrides: str):
    return composed("train", "dataset=digits", *overrides)


def example(i: int, label: int, path: Path = Path("none")) -> Example:
    return Example(path, 64, 48, [[8, 8, 40, 40]], [label], [False], f"image{i}")


@pytest.mark.parametrize(
    ("arm", "stage_1", "start", "extra"),
    [
        ("random", False, "random", False),
        ("generic", False, "generic", False),
        ("generic_extra", False, "generic", True),
        ("crops", True, "generic", False),
        ("random_crops", True, "random", False),
    ],
)
def test_arms(arm, stage_1, start, extra):
    cfg = compose(f"arm={arm}")
    assert (cfg.arm.name, cfg.classify.enabled, cfg.arm.start, cfg.arm.extra) == (arm, stage_1, start, extra)
    check(cfg)


def test_without_an_arm_classify_enabled_decides():
    for enabled in (True, False):
        check(compose(f"classify.enabled={enabled}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["arm=crops", "classify.enabled=false"], r"classify.enabled=false: arm=crops begins with stage 1"),
        (["arm=generic", "classify.enabled=true"], r"classify.enabled=true: arm=generic has no stage 1"),
        (["arm=generic_extra", "classify.schedule.patience=2"], r"classify.schedule.patience=2: .* legal is null"),
        (["arm=generic", "init=none"], r"init=none: arm=generic starts from the weights of init"),
        (["arm=generic_extra", "quantize=int8", "quantize.float_stage=false"], r"quantize.float_stage=false: "),
        (["arm=random", "init=path", "init.path=x", "init.scope=detector"], r"init.scope=detector: arm=random"),
        (["limit.fraction=1.5"], r"limit.fraction=1.5 is not legal"),
        (["limit.fraction=0"], r"limit.fraction=0 is not legal"),
    ],
)
def test_what_contradicts_an_arm_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check(compose(*overrides))


def test_the_rate_of_an_arm_is_its_own():
    rates = "rates.detector={random: .004, crops: .002}"
    assert compose("experiment=ablation/two_stage", "arm=random", rates).schedule.rate == 0.004
    assert compose("experiment=ablation/two_stage", "arm=crops", rates).schedule.rate == 0.002
    same = [fingerprint(compose("arm=crops", f"rates.detector.random={rate}", "study=x")) for rate in (0.1, 0.2)]
    assert same[0] == same[1] == fingerprint(compose("arm=crops"))


def test_experiments_in_folders_are_options():
    assert "ablation/two_stage" in groups([CONFIG_DIR])["experiment"]
    with pytest.raises(ConfigError, match=r"unknown experiment=ablation/two_stag; did you mean ablation/two_stage\?"):
        prepare(read(["experiment=ablation/two_stag"], "train"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_experiments_in_folders_start_with_their_command(file):
    head = "".join(itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines(keepends=True)))
    assert f"-m experiment={file.parent.name}/{file.stem} " in head and "# Expected: " in head


def test_a_smaller_share_lies_in_a_larger_one_and_keeps_the_classes_proportions():
    examples = [example(i, 1 if i < 60 else 2) for i in range(90)]
    drawn = {f: share(examples, f, seed=3) for f in (0.1, 0.2, 0.5, 1.0)}
    assert [len(part) for part in drawn.values()] == [9, 18, 45, 90]
    for smaller, larger in itertools.pairwise(drawn.values()):
        assert {e.id for e in smaller} < {e.id for e in larger}
    assert [sum(e.classes[0] == 2 for e in part) for part in drawn.values()] == [3, 6, 15, 30]
    half = [e.id for e in drawn[0.5]]
    assert half == [e.id for e in examples if e.id in half], "in the data set's order"
    assert {e.id for e in share(examples, 0.2, seed=4)} != {e.id for e in drawn[0.2]}
    assert len(share(examples[:3], 0.01, seed=0)) == 1


def test_the_share_of_an_image_does_not_hang_on_the_images_order():
    examples = [example(i, 1 + i % 3) for i in range(30)]
    assert {e.id for e in share(examples[::-1], 0.4, 1)} == {e.id for e in share(examples, 0.4, 1)}


def test_crops_come_from_the_share_of_the_run_alone(tmp_path):
    """Every image has a grey of its own: the pixels of stage 1's batches tell which images they were cut from."""
    from detect.data.classification_stream import ClassificationStream

    for i in range(20):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((48, 64, 3), 10 * i + 5, np.uint8))
    examples = tuple(example(i, 1 + i % 2, tmp_path / f"{i}.png") for i in range(20))
    whole = DetectionDataset("greys", ("a", "b"), {"train": examples, "val": (), "test": ()})
    dataset = limit(whole, {"fraction": 0.3}, 5)
    kept = {10 * int(e.path.stem) + 5 for e in dataset.splits["train"]}
    crops = crop_dataset(dataset, background_per_image=1.0, seed=5).splits["train"]
    assert {e.id.partition("#")[0] for e in crops} == {e.id for e in dataset.splits["train"]} and len(kept) == 6
    stream = ClassificationStream(
        crops,
        num_classes=3,
        size=(32, 32),
        batch_size=8,
        augment=hydra.utils.instantiate(compose("augment=none").augment),
        seed=5,
        threads=1,
        balanced=True,
    )
    seen = {int(value) for step in range(12) for value in np.unique(stream.batch(step)["image"])}
    assert seen == kept


def test_the_cost_of_a_step_of_stage_1_by_hand():
    """Two convolutions of 3x3, to 8 and to 4 channels, and logits of 3 classes: 32x32x(27x8 + 72x4) + 12 an image."""
    import tf_keras

    from detect.modeling.classifier import Classifier
    from detect.training import stages
    from detect.training.schedule import Schedule

    class Backbone:
        logits = "Logits/Conv"

        def __call__(self, image):
            x = tf_keras.layers.Conv2D(8, 3, padding="same", name="a")(image)
            return {"b": tf_keras.layers.Conv2D(4, 3, padding="same", name="b")(x)}

    schedule = Schedule(steps=7, batch_size=5, optimizer=lambda **_: None, rate=0.1)
    classifier = Classifier(Backbone(), num_classes=3, size=(32, 32))
    assert stages.step_macs(classifier, schedule) == 5 * (32 * 32 * (27 * 8 + 72 * 4) + 4 * 3)
