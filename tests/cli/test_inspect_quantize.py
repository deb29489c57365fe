"""`detect inspect quantize`: its command line, what it writes of a small run, and the collapse that people report."""

import csv
import logging
from functools import partial

import hydra
import numpy as np
import pytest

from detect.cli.overrides import prepare, read
from detect.config.check import CONFIG_DIR
from detect.errors import ConfigError, WeightsError
from tests import verbs

call = partial(verbs.call, "inspect")


def row(name: str = "conv", place: int = 0, **figures):
    from detect.quantization.sensitivity import LayerDamage

    values = {
        **{"kernel_low": -2.0, "kernel_high": 31.6, "output_low": 0.0, "output_high": 6.0, "sqnr_db": 30.0},
        **{"layer_sqnr_db": 33.0, "kernel_sqnr_db": 40.0, "network_sqnr_db": 20.0, "dead_share": 0.0},
        **{
            "imbalance": 2.0,
            "worst_channels": (3,),
            "dead_channels": (),
            "channel_ranges": np.float32([1, 0, 2, 31.6]),
        },
    }
    return LayerDamage(name=name, kind="conv", place=place, **values | figures)


def test_a_word_says_what_to_inspect():
    assert prepare(read(["quantize", "run=RUN"], "inspect")).overrides == ("only=quantize", "run=RUN")
    assert prepare(read(["network"], "inspect")).overrides == ("only=network",)
    with pytest.raises(ConfigError, match=r"quantise: .*did you mean quantize"):
        prepare(read(["quantise"], "inspect"))
    with pytest.raises(ConfigError, match="weights=per_layer"):
        prepare(read(["quantize", "weights=per_layer"], "inspect"))


def test_it_wants_a_run_and_only_it_does(tmp_path):
    with pytest.raises(ConfigError, match="run=RUN"):
        call("only=quantize")
    with pytest.raises(ConfigError, match=r"run=somewhere is not legal here: detect inspect quantize takes it"):
        call("run=somewhere")
    with pytest.raises(ConfigError, match="only a run folder has Keras layers"):
        call("only=quantize", f"run={tmp_path}")


@pytest.mark.parametrize(
    "words",
    [
        *(
            ["only=quantize", "run=x", key]
            for key in ("images=4", "decode=false", "seed=1", "max_boxes=5", "threads=1")
        ),
        ["only=quantize", "run=x", "dataset.root=photos"],
        *(["only=data", key] for key in ("stage=detector", "weights=per_tensor", "representative=3")),
        *(["only=network", key] for key in ("output=new", "images=4", "decode=false")),
    ],
)
def test_a_key_that_the_part_does_not_read_is_refused(words):
    with pytest.raises(ConfigError, match=f"^{words[-1]} is not legal here: detect inspect"):
        call(*words)


@pytest.mark.drawn
def test_the_layers_of_a_run_as_table_csv_picture_and_tensorboard(small_run, tmp_path, caplog, eager):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with caplog.at_level(logging.INFO, "detect"):
        call("only=quantize", f"run={small_run[0]}", "representative=1", f"output={tmp_path}")
    rows = list(csv.DictReader((tmp_path / "quantize_layers.csv").open()))
    assert len(rows) == 27 + 8 + 12  # backbone, extra feature maps, two predictors for each of six maps
    damage = [float(entry["sqnr_db"]) for entry in rows]
    assert damage == sorted(damage)
    assert {"Conv2d_0", "Conv2d_13_depthwise", "BoxPredictor_0/ClassPredictor"} < {entry["name"] for entry in rows}
    assert (tmp_path / "quantize_layers.png").stat().st_size > 10_000
    board = EventAccumulator(str(tmp_path / "tensorboard"), {"tensors": 0, "images": 0})
    board.Reload()
    curve = {event.step: event.value for event in board.Scalars("layers/sqnr_db")}
    assert curve[int(rows[0]["place"])] == pytest.approx(damage[0], rel=1e-4)
    assert "log2_of_channel_ranges/Conv2d_1_depthwise" in board.Tags()["histograms"]
    assert board.Tags()["images"] == ["quantize_layers"]
    lines = [record.getMessage() for record in caplog.records if record.name == "detect"]
    assert any(line.startswith(rows[0]["name"]) for line in lines)
    assert lines[-1] == f"all 47 layers are in {tmp_path}"


def test_a_stage_that_the_run_does_not_have(small_run):
    with pytest.raises(WeightsError, match="no quantized/best"):
        call("only=quantize", "stage=quantized", f"run={small_run[0]}")


def test_the_table_has_80_columns_and_the_end_of_long_names():
    from detect.quantization.sensitivity_report import table

    wide = row("Conv2d_13_pointwise_2_Conv2d_3_3x3_s2_512", sqnr_db=-12.3, kernel_high=-1.5, kernel_low=-1.234e5)
    lines = table([wide, row(sqnr_db=float("inf"), dead_share=1.0)])
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[1:] == ["-12.3", "20.0", "1.23e+05", "6", "0%", "2.0"]
    assert lines[1].startswith("..") and lines[1].split()[0].endswith("Conv2d_3_3x3_s2_512")
    assert lines[2].split() == ["conv", "inf", "20.0", "31.6", "6", "100%", "2.0"]


def test_the_verdict_names_layers_and_channels():
    from detect.quantization.sensitivity_report import verdict

    guilty = row("first", sqnr_db=2.5, worst_channels=(3, 1), dead_channels=(1, 3, 5), imbalance=12.0)
    lines = verdict(
        [
            guilty,
            *(row(f"layer{i}", sqnr_db=9.0, imbalance=5.0 - 3 * (i == 1)) for i in range(6)),
            row("sound", sqnr_db=40.0),
        ]
    )
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert text.startswith("7 layers ruin the model")
    assert "first: 2.5 dB; the dead channels 3, 1 set the range of its kernel, 12.0 times that of the median" in text
    assert "layer0: 9.0 dB; the channel 3 sets the range" in text
    assert "layer1: 9.0 dB; no channel of its kernel stands out: the largest is 2.0 times the median" in text
    assert text.endswith("and layer4, layer5")
    assert verdict([guilty])[0].startswith("1 layer ruins the model")
    (sound, *_) = [" ".join(" ".join(verdict([row("a"), row("b", sqnr_db=50, network_sqnr_db=12)])).split())]
    assert sound.startswith("no layer ruins the model: the worst leaves 30.0 dB")
    assert sound.endswith("all together leave 12.0 dB at b")


def test_a_second_report_into_the_same_folder_supersedes_the_first(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from detect.quantization.sensitivity_report import picture, write_board

    for rows in ([row("a"), row("b", 1)], [row("a", sqnr_db=10.0)]):
        write_board(tmp_path, rows, picture(rows))
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("layers/sqnr_db")] == [(0, 10.0)]


@pytest.mark.slow
def test_what_ruins_imagenets_mobilenet_v1_are_dead_channels_of_depthwise_layers(shared):
    """Its first three depthwise layers, and their channels with a moving variance of 4e-35."""
    from detect.data.image_file import read_image
    from detect.data.image_folder import read_image_folder
    from detect.geometry.frame import Frame
    from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
    from detect.modeling.classifier import Classifier
    from detect.quantization.sensitivity import culprits, layer_damage
    from detect.quantization.spec import Spec
    from detect.weights.sources import FromFile
    from detect.weights.transfer import transfer

    backbone = MobileNetV1()
    classifier = Classifier(backbone, 1001, (224, 224))
    arrays = FromFile(str(shared / "weights/mobilenet_v1_1.0_224"), "detector").read(backbone)
    transfer(classifier.model, arrays, source="", layers=classifier.backbone_layers, scope="detector")
    examples = read_image_folder(shared / "data/grocery10").splits["train"][::87]
    frames = np.stack([Frame((224, 224)).fit(read_image(example.path)) for example in examples])
    rows = layer_damage(classifier.model, frames, Spec(per_channel=False, ranges="calibrated"))
    assert {layer.name for layer in rows[:3]} == {f"Conv2d_{i}_depthwise" for i in (1, 2, 3)}
    assert {layer.name for layer in rows[:3]} <= {layer.name for layer in culprits(rows)}
    for layer in rows[:3]:
        assert layer.worst_channels and set(layer.worst_channels) <= set(layer.dead_channels)
        assert layer.kernel_sqnr_db > 30 > 15 > layer.sqnr_db
    assert not culprits(layer_damage(classifier.model, frames, Spec(ranges="calibrated")))


@pytest.mark.slow
def test_both_stages_of_a_faster_rcnn():
    from detect.quantization.sensitivity import layer_damage
    from detect.quantization.spec import Spec

    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose(
            "inspect", ["detector=faster_rcnn", "backbone.depth_multiplier=0.25", "detector.size=[128,160]"]
        )
    backbone = hydra.utils.instantiate(cfg.backbone)
    detector = hydra.utils.instantiate(cfg.detector, backbone=backbone, num_classes=3)
    images = [np.random.default_rng(i).uniform(0, 255, (1, 128, 160, 3)).astype(np.float32) for i in range(2)]
    inputs = [detector.network_inputs(image) for image in images]
    assert [part.shape[0] for part in inputs[0]] == [1, 16]
    rows = {layer.name: layer for layer in layer_damage(detector.model, inputs, Spec(ranges="calibrated"))}
    assert {"Conv2d_0", "FirstStageBoxPredictor/Conv", "SecondStageBoxPredictor/ClassPredictor"} < rows.keys()
    assert all(np.isfinite(layer.sqnr_db) for layer in rows.values())
