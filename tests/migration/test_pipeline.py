"""From a pipeline.config to values: each rule on a small file, and a whole network against the API's own."""

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from detect.config.compose import compose
from detect.data.augment import RandomIoUCrop
from detect.errors import ConfigError, UserError
from detect.evaluation.sqnr import sqnr
from detect.migration import experiment
from detect.migration.message import NoCounterpart
from detect.migration.pipeline import read, translate
from scripts.api_detector import inputs

FIXTURES = Path(__file__).parent / "fixtures"
HYPER = """conv_hyperparams {
  activation: RELU_6 regularizer { l2_regularizer { weight: 0.00004 } }
  initializer { truncated_normal_initializer { stddev: 0.03 } } batch_norm { scale: true decay: 0.9997 epsilon: 0.001 }
}"""
SSD = f"""
model {{ ssd {{
  num_classes: 2
  box_coder {{ faster_rcnn_box_coder {{ y_scale: 5.0 }} }}
  matcher {{ argmax_matcher {{ matched_threshold: 0.6 unmatched_threshold: 0.4 force_match_for_each_row: true }} }}
  anchor_generator {{ ssd_anchor_generator {{ num_layers: 6 aspect_ratios: 1.0 aspect_ratios: 2.0 }} }}
  image_resizer {{ fixed_shape_resizer {{ height: 96 width: 128 }} }}
  box_predictor {{ convolutional_box_predictor {{ kernel_size: 3 use_dropout: false {HYPER} }} }}
  feature_extractor {{ type: 'ssd_mobilenet_v1' depth_multiplier: 0.25 min_depth: 16 {HYPER} }}
  loss {{
    classification_loss {{ weighted_sigmoid {{ }} }} localization_loss {{ weighted_smooth_l1 {{ delta: 0.5 }} }}
    hard_example_miner {{ num_hard_examples: 100 iou_threshold: 0.9 loss_type: CLASSIFICATION
      max_negatives_per_positive: 3 min_negatives_per_image: 1 }}
    classification_weight: 1.5 localization_weight: 2.0
  }}
  post_processing {{ batch_non_max_suppression {{ score_threshold: 0.1 iou_threshold: 0.5 max_detections_per_class: 9
    max_total_detections: 20 }} score_converter: SIGMOID }}
}} }}
train_config {{
  batch_size: 8 num_steps: 1000
  optimizer {{ rms_prop_optimizer {{ learning_rate {{ exponential_decay_learning_rate {{
    initial_learning_rate: 0.004 decay_steps: 400 decay_factor: 0.5 }} }} momentum_optimizer_value: 0.8 }} }}
  fine_tune_checkpoint: "weights/model.ckpt" from_detection_checkpoint: true
  data_augmentation_options {{ random_horizontal_flip {{ }} }}
  data_augmentation_options {{ ssd_random_crop {{ }} }}
  data_augmentation_options {{ random_pad_image {{ }} }}
}}
train_input_reader {{ label_map_path: "data/map.pbtxt" tf_record_input_reader {{ input_path: "data/train.record" }} }}
"""

SHARED = (
    *("convolutional_box_predictor { kernel_size: 3", "weight_shared_convolutional_box_predictor { kernel_size: 3"),
)


@pytest.fixture
def translated(tmp_path):
    def make(text, *changes):
        for before, after in changes:
            assert before in text, before
            text = text.replace(before, after)
        file = tmp_path / "it.config"
        file.write_text(text)
        return translate(read(file))

    return make


def composed(found, folder, *more):
    """The configuration of a translation, as `detect train` checks it."""
    (folder / "experiment").mkdir(exist_ok=True)
    (folder / "experiment" / "it.yaml").write_text(experiment.text(Path("x.config"), "", found))
    return compose(["experiment=it", *more], config_dir=folder)


def test_an_ssd_with_its_training(translated, tmp_path):
    found = translated(SSD)
    cfg = composed(found, tmp_path)
    d, s = cfg.detector, cfg.schedule
    assert list(d.size) == [96, 128] and d.resize == "zoo" and not cfg.classify.enabled
    assert (cfg.backbone.depth_multiplier, cfg.backbone.min_depth, d.neck.depth_multiplier) == (0.25, 16, 0.25)
    assert (d.head.kernel, d.head.stddev, list(d.anchors.aspect_ratios)) == (3, 0.03, [1.0, 2.0])
    assert (d.target_assigner.matcher.positive, d.target_assigner.matcher.negative) == (0.6, 0.4)
    assert list(d.target_assigner.box_coder.scales) == [5.0, 10.0, 5.0, 5.0]
    assert (d.classification_weight, d.localization_weight, d.localization_loss.delta) == (1.5, 2.0, 0.5)
    assert (d.sampler.candidates, d.sampler.nms_iou, d.sampler.negatives_per_positive, d.sampler.min_negatives) == (
        *(100, 0.9),
        *(3.0, 1),
    )
    assert (d.postprocess.iou, d.postprocess.score, d.postprocess.per_class, d.postprocess.total) == (0.5, 0.1, 9, 20)
    assert (s.steps, s.batch_size, s.rate, s.decay, list(s.step_at), s.step_factor) == (
        *(1000, 8, 0.004),
        *("step", [0.4, 0.8], 0.5),
    )
    assert (s.optimizer.momentum, s.ema_decay, s.batch_norm_decay, s.weight_decay) == (0.8, 0.0, 0.9997, 4e-5)
    assert (cfg.init.path, cfg.init.scope, cfg.dataset.root) == ("weights/model.ckpt", "detector", "data")
    assert list(cfg.augment.transforms) == ["random_horizontal_flip", "ssd_random_crop"]
    assert [re.sub(r" \(.*", "", line) for line in found.left_out] == [
        "train_config.data_augmentation_options.random_pad_image"
    ]
    assert any("TFRecord file below data" in line for line in found.differs)


@pytest.mark.parametrize(
    ("records", "label_map", "root"),
    [
        ("train.record", "map.pbtxt", "."),
        ("data/train.record", "map.pbtxt", "."),
        ("data/a/train.record", "data/map.pbtxt", "data"),
        ("/x/train.record", "/y/map.pbtxt", "???"),
        ("../train.record", "map.pbtxt", "???"),
        ("/x/train.record", "map.pbtxt", "???"),
        ("data/?/train.record", "data/a/map.pbtxt", "data"),
        ("data/?/train.record", "data/?/map.pbtxt", "data"),
        ("data/a/train*", "data/a/map.pbtxt", "data/a"),
        ("", "map.pbtxt", "."),
        ("a/..", "map.pbtxt", "."),
    ],
)
def test_the_folder_of_all_files(translated, records, label_map, root):
    found = translated(SSD, ("data/train.record", records), ("data/map.pbtxt", label_map))
    assert found.values["dataset"]["root"] == root
    assert any("no common folder" in line for line in found.differs) == (root == "???")


@pytest.mark.parametrize(
    ("train", "evaluation", "told"),
    [
        ("data/faces_2018.record", "data/faces_holdout.record", ["data/faces_holdout.record: .* is for eval"]),
        ("/u/data/train.record", "/u/data/holdout.record", ["/u/data/holdout.record: .* is for eval"]),
        ("/u/test/images.record", "/u/test/holdout.record", ["/u/test/holdout.record: .* is for eval"]),
        ("data/a/images.record", "data/test/holdout.record", []),
        ("data/train.record", "data/val.record", []),
        ("data/train.record-?????-of-00010", "data/val.record-?????-of-00010", []),
        ("data/test.record", "data/val.record", ["data/test.record: .* is for train"]),
        (
            "data/train.record",
            *("data/a.record', 'data/b.record', 'data/c.record', 'data/d.record",),
            ["data/a.record, data/b.record, data/c.record and 1 more: .* is for eval"],
        ),
    ],
)
def test_a_file_whose_name_does_not_tell_its_use_is_named(translated, train, evaluation, told):
    reader = f"eval_input_reader {{ tf_record_input_reader {{ input_path: ['{evaluation}'] }} }}"
    label_map = f"{train.rpartition('/')[0]}/map.pbtxt"
    found = translated(SSD + reader, ("data/train.record", train), ("data/map.pbtxt", label_map))
    lines = [line for line in found.differs if "does not tell" in line]
    assert len(lines) == len(told) and all(map(re.match, told, lines))


@pytest.mark.parametrize(
    ("evaluation", "told"),
    [("val", []), ("test", ["15% for val"]), (None, ["15% for val and 15% for test"])],
)
def test_images_that_leave_the_training_are_told(translated, evaluation, told):
    reader = f'eval_input_reader {{ tf_record_input_reader {{ input_path: "data/{evaluation}.record" }} }}'
    found = translated(SSD + (reader if evaluation else ""))
    lines = [line for line in found.differs if "dataset.val_fraction" in line]
    assert [line.partition(": ")[2].partition(" are")[0] for line in lines] == told


@pytest.mark.parametrize(("given", "boxes"), [("", 100), ("max_number_of_boxes: 7", 7)])
def test_the_reader_of_training_images_limits_their_boxes(translated, given, boxes):
    changes = ("batch_size: 8", "batch_size: 8 max_number_of_boxes: 50"), ("label_map_path", f"{given} label_map_path")
    found = translated(SSD + "eval_input_reader { max_number_of_boxes: 9 }", *changes)
    assert found.values["max_boxes"] == boxes and not any("max_number" in line for line in found.left_out)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("batch_size: 8", "batch_size: 8 merge_multiple_label_boxes: true", "train_config.merge_multiple_label_boxes"),
        ("batch_size: 8", "batch_size: 8 merge_multiple_label_boxes: false", None),
        ("label_map_path", "num_epochs: 2 label_map_path", "2 epochs"),
        ("label_map_path", "shuffle: false label_map_path", "shuffle"),
        ("label_map_path", "input_type: TF_SEQUENCE_EXAMPLE label_map_path", "train_input_reader.input_type"),
        ("label_map_path", "input_type: TF_EXAMPLE shuffle: true num_epochs: 0 label_map_path", None),
        ("train_input", "eval_config { metrics_set: 'pascal_voc_detection_metrics' } train_input", "pascal_voc"),
        ("train_input", "eval_config { num_examples: 8000 } train_input", "8000"),
        ("train_input", "eval_config { force_no_resize: true } train_input", "eval_config.force_no_resize"),
        ("train_input", "eval_input_reader { num_epochs: 1 shuffle: false } train_input", None),
        (
            *("train_input", "eval_config { metrics_set: 'coco_detection_metrics' skip_labels: true } train_input"),
            None,
        ),
    ],
)
def test_what_changes_training_or_scores_is_told(translated, before, after, told):
    plain, found = translated(SSD), translated(SSD, (before, after))
    known = {*plain.differs, *plain.left_out}
    lines = [line for line in (*found.differs, *found.left_out) if re.sub(r" \(line.*", "", line) not in str(known)]
    assert len(lines) == (told is not None) and all(told in line for line in lines)


@pytest.mark.parametrize("path", ["${oc.env:HOME}/a", "x/${b}", "???"])
def test_what_hydra_would_replace_is_no_path(translated, path):
    found = translated(SSD, ("weights/model.ckpt", path), ("data/train.record", f"{path}/train.record"))
    if path != "???":
        assert found.values["dataset"]["root"] == "???"
    assert "init" not in found.values and found.choices["init"] == "none"
    assert "${" not in str(found.values)


def test_files_of_another_machine_are_no_path(translated):
    found = translated(SSD, ("weights/model.ckpt", "gs://b/model.ckpt"), ("data/train.record", "gs://b/train.record"))
    assert found.values["dataset"]["root"] == "???" and found.choices["init"] == "none"
    assert sum("copy" in line and "to a local folder" in line for line in found.differs) == 2


@pytest.mark.parametrize("drive", ["C:/tf", r"C:\\tf", r"d:\\tf", r"\\\\server\\tf"])
def test_files_of_a_windows_machine_are_no_path(translated, drive):
    record, label_map, start = (f"{drive}/{name}" for name in ("data/train.record", "data/map.pbtxt", "model.ckpt"))
    found = translated(
        *(SSD, ("weights/model.ckpt", start), ("data/train.record", record), ("data/map.pbtxt", label_map))
    )
    assert found.values["dataset"]["root"] == "???" and found.choices["init"] == "none"
    told = [line for line in found.differs if "not of this machine" in line]
    assert len(told) == 2 and all("copy it to a local folder" in line for line in told)


def test_relative_paths_of_a_windows_machine(translated):
    changes = ("weights/model.ckpt", r"weights\\model.ckpt"), ("data/map.pbtxt", r"data\\map.pbtxt")
    found = translated(SSD, ("data/train.record", r".\\data\\a\\train.record"), *changes)
    assert found.values["dataset"]["root"] == "data" and found.values["init"]["path"] == "weights/model.ckpt"
    assert not any("does not tell" in line for line in found.differs)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("ssd_random_crop_fixed_aspect_ratio { }", "from 0.5 to 2; the API's is 1$"),
        ("ssd_random_crop_fixed_aspect_ratio { aspect_ratio: 1.5 }", "from 0.5 to 2; the API's is 1.5$"),
        ("normalize_image { original_maxval: 255 }", "0..255 of .* to 0..1 before the network scales its input"),
        ("normalize_image { original_maxval: 255 target_maxval: 255 }", None),
        ("random_crop_image { }", "a patch has the centre of a box; the API's covers a share of 1 of a box"),
    ],
)
def test_steps_of_augmentation_that_differ(translated, step, told):
    found = translated(SSD, ("random_pad_image { }", step))
    lines = [line for line in found.differs if line.startswith(f"{step.split()[0]}: ")]
    assert len(lines) == (told is not None) and all(re.search(told, line) for line in lines)
    assert not any(step.split()[0] in line for line in found.left_out)


def test_a_random_crop_of_the_api_crops(translated):
    """The API's default wants a patch with a whole box. An IoU of 1 would be of no random patch."""
    values = translated(SSD, ("random_pad_image { }", "random_crop_image { }")).values["augment"]
    crop = dict(values["transforms"]["random_crop_image"])
    assert crop.pop("_target_").endswith(".RandomIoUCrop")
    transform = RandomIoUCrop(**crop)
    transform.set_random_seed(1)
    made = transform.get_params_dependent_on_data({"shape": (90, 90)}, {"bboxes": [(0.3, 0.3, 0.7, 0.7)]})
    assert made["crop_coords"] != (0, 0, 90, 90)


NORM = "batch_norm { scale: true decay: 0.9997"


@pytest.mark.parametrize(
    ("changes", "frozen", "told"),
    [
        ([], None, []),
        ([SHARED], None, []),
        ([(NORM, NORM + " train: false")], None, ["batch norm of the feature maps: its statistics"]),
        (
            [SHARED, (NORM, NORM + " train: false")],
            *(None, ["batch norm of the feature maps: its stat", "batch norm of the predictor: its statistics"]),
        ),
        (
            [
                SHARED,
                (NORM, NORM + " train: false"),
                ("min_depth: 16", "min_depth: 16 override_base_feature_extractor_hyperparams: true"),
            ],
            *("frozen", ["batch norm: frozen"]),
        ),
        (
            [
                SHARED,
                (NORM, NORM + " train: false"),
                ("'ssd_mobilenet_v1' depth_multiplier: 0.25", "'ssd_mobilenet_v1_keras'"),
            ],
            *(None, []),
        ),
    ],
)
def test_statistics_of_batch_norm_that_do_not_change(translated, changes, frozen, told):
    found = translated(SSD, *changes)
    assert found.values["schedule"].get("batch_norm") == frozen
    lines = [line for line in found.differs if line.startswith("batch norm")]
    assert len(lines) == len(told) and all(map(str.startswith, lines, told))


def test_the_batch_norm_of_the_predictor(translated):
    """A convolutional predictor has none in the API, whatever the file says."""
    norm = (
        "batch_norm { scale: true decay: 0.9997 epsilon: 0.001 }",
        "batch_norm { decay: 0.9 epsilon: 0.01 center: false }",
    )
    predictor, line, rest = SSD.partition("  feature_extractor {")
    found = translated(predictor.replace(*norm) + line + rest)
    assert found.values == translated(SSD).values and found.differs == translated(SSD).differs
    decay = (norm[0], norm[0].replace("0.9997", "0.9"))
    shared = predictor.replace(*decay).replace(*SHARED) + line + rest
    assert "batch norm of the predictor: a decay of 0.9997, not 0.9" in translated(shared).differs


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("matched_threshold: 0.6", "matched_threshold: 0.3", "expected 0 <= unmatched_threshold=0.4 <= 0.3 <= 1"),
        ("num_layers: 6", "num_layers: 6 scales: [.1, .2]", "scales: 2 scales of anchors for 6 feature maps"),
    ],
)
def test_values_that_the_api_refuses(translated, before, after, message):
    with pytest.raises(ConfigError, match=rf"it\.config:\d+: .*{message}"):
        translated(SSD, (before, after))


def test_a_miner_without_a_limit_considers_all_anchors(translated):
    found = translated(SSD, ("num_hard_examples: 100", "num_hard_examples: 0"))
    assert found.values["detector"]["sampler"]["candidates"] > 100_000


def test_another_start_of_a_translated_experiment(translated, tmp_path):
    weights = FIXTURES / "tiny_fpn.config"
    assert composed(translated(SSD), tmp_path, f"init={weights}").init.path == str(weights)


@pytest.mark.parametrize(
    ("before", "after", "part"),
    [
        ("'ssd_mobilenet_v1'", "'ssd_resnet50_v1_fpn'", "the feature extractor ssd_resnet50_v1_fpn"),
        ("min_depth: 16", "min_depth: 16 use_explicit_padding: true", "use_explicit_padding"),
        ("min_depth: 16", "min_depth: 16 pad_to_multiple: 50", "padding of 96x128 px to a multiple of 50"),
        ("weighted_sigmoid ", "bootstrapped_sigmoid ", "bootstrapped_sigmoid"),
        ("weighted_smooth_l1 ", "weighted_iou ", "weighted_iou"),
        ("loss_type: CLASSIFICATION", "", "hard examples by the loss BOTH"),
        ("score_converter: SIGMOID", "", "scores by IDENTITY of a network that learns by SIGMOID"),
        (
            "max_total_detections: 20",
            *("use_class_agnostic_nms: true max_classes_per_detection: 3", "3 classes of one object"),
        ),
        ("kernel_size: 3", "kernel_size: 5", "a predictor of 5x5"),
        ("epsilon: 0.001", "epsilon: 0.01", "batch norm of the feature extractor with an epsilon of 0.01"),
        ("fixed_shape_resizer { height: 96 width: 128 }", "identity_resizer { }", "identity_resizer"),
        ("model { ssd", "model { center_net", "center_net"),
        (
            "kernel_size: 3",
            "kernel_size: 3 min_depth: 64 max_depth: 0 num_layers_before_predictor: 1",
            "layers before a predictor that is not shared",
        ),
        (
            "fixed_shape_resizer { height: 96 width: 128 }",
            "keep_aspect_ratio_resizer { min_dimension: 96 max_dimension: 192 pad_to_max_dimension: true }",
            "an SSD whose images are padded from 96x192 to 192x192 px",
        ),
        ("num_classes: 2", "num_classes: 2 add_background_class: false", "add_background_class: false"),
    ],
)
def test_parts_without_counterpart(translated, before, after, part):
    with pytest.raises(NoCounterpart) as error:
        translated(SSD, (before, after))
    assert error.value.part == part
    assert re.match(r".*it\.config:\d+: model\.", str(error.value))


@pytest.mark.parametrize(
    ("rate", "steps", "wanted"),
    [
        ("constant_learning_rate { learning_rate: .1 }", 10, {"rate": 0.1, "decay": "constant", "warmup": 0}),
        (
            "cosine_decay_learning_rate { learning_rate_base: .1 total_steps: 90 warmup_steps: 5 }",
            90,
            {"rate": 0.1, "decay": "cosine", "warmup": 5},
        ),
        (
            "manual_step_learning_rate { initial_learning_rate: .1 schedule { step: 20 learning_rate: .01 } "
            "schedule { step: 60 learning_rate: .001 } schedule { step: 500 learning_rate: .0001 } }",
            80,
            {"rate": 0.1, "decay": "step", "step_at": [0.25, 0.75], "step_factor": pytest.approx(0.1)},
        ),
        (
            "manual_step_learning_rate { initial_learning_rate: .01 schedule { step: 20 learning_rate: .1 } "
            "schedule { step: 50 learning_rate: .05 } warmup: true }",
            100,
            {"rate": 0.1, "decay": "step", "warmup": 20, "step_at": [0.5], "step_factor": pytest.approx(0.5)},
        ),
        (
            "manual_step_learning_rate { initial_learning_rate: .001 schedule { step: 10 learning_rate: .01 } "
            "schedule { step: 20 learning_rate: .1 } schedule { step: 50 learning_rate: .05 } }",
            100,
            {"rate": 0.1, "decay": "step", "warmup": 20, "step_at": [0.5], "step_factor": pytest.approx(0.5)},
        ),
        (
            "manual_step_learning_rate { initial_learning_rate: .001 schedule { step: 500 learning_rate: .01 } }",
            2000,
            {"rate": 0.01, "decay": "constant", "warmup": 500},
        ),
        (
            "exponential_decay_learning_rate { initial_learning_rate: .1 decay_steps: 800720 }",
            200000,
            {"rate": 0.1, "decay": "constant"},
        ),
        (
            "exponential_decay_learning_rate { initial_learning_rate: 1 decay_steps: 1 decay_factor: .99 }",
            1000,
            {"decay": "step", "step_factor": pytest.approx(0.99**5)},
        ),
        (
            "exponential_decay_learning_rate { decay_steps: 1000 decay_factor: .01 staircase: false }",
            1000,
            {
                "decay": "step",
                "step_factor": pytest.approx(0.01 ** (1 / 200)),
                "step_at": [k / 200 for k in range(1, 200)],
            },
        ),
        (
            "exponential_decay_learning_rate { decay_steps: 1 decay_factor: .5 staircase: false }",
            4,
            {"decay": "step", "step_factor": 0.5, "step_at": [0.25, 0.5, 0.75]},
        ),
    ],
)
def test_learning_rates(translated, rate, steps, wanted):
    old = re.search(r"exponential_decay_learning_rate \{.*?\}", SSD, re.DOTALL).group()
    found = translated(SSD, (old, rate), ("num_steps: 1000", f"num_steps: {steps}"))
    assert {key: found.values["schedule"][key] for key in wanted} == wanted


def test_a_shared_predictor_without_layers(translated, tmp_path):
    head = composed(translated(SSD, SHARED), tmp_path).detector.head
    assert (head.convolutions, head.channels) == (0, None)
    with pytest.raises(ConfigError, match="depth: expected a whole number from 1 for the 2 layers"):
        translated(SSD, SHARED, ("use_dropout: false", "use_dropout: false num_layers_before_predictor: 2"))


def test_a_decay_after_a_burn_in_is_told(translated):
    burn_in = ("decay_steps: 400", "decay_steps: 400 burnin_steps: 10")
    told = [line for line in translated(SSD, burn_in).differs if "from the end of the burn-in" in line]
    assert len(told) == 1 and not any("burn-in" in line for line in translated(SSD).differs)


def test_a_rate_that_rises_is_told(translated):
    old = re.search(r"exponential_decay_learning_rate \{.*?\}", SSD, re.DOTALL).group()
    rising = "manual_step_learning_rate { initial_learning_rate: .001 schedule { step: 500 learning_rate: .01 } }"
    assert any("the rise of the rate to 0.01" in told for told in translated(SSD, (old, rising)).differs)
    again = (
        "manual_step_learning_rate { initial_learning_rate: .1 schedule { step: 10 learning_rate: .01 } "
        "schedule { step: 50 learning_rate: .05 } }"
    )
    assert any("the drops of the rate: by" in told for told in translated(SSD, (old, again)).differs)


@pytest.mark.parametrize(
    ("given", "kept", "decay"),
    [
        ("", "", 0.0),  # the API keeps the average, but scores and exports the weights themselves
        ("eval_config { use_moving_averages: true }", "", 0.9999),
        ("eval_config { use_moving_averages: true }", "moving_average_decay: .99", 0.99),
        ("eval_config { use_moving_averages: true }", "use_moving_average: false", 0.0),
        ("eval_config { use_moving_averages: false num_examples: 5 }", "moving_average_decay: .99", 0.0),
    ],
)
def test_the_average_of_the_weights_counts_if_the_api_scores_it(translated, given, kept, decay):
    found = translated(SSD + given, ("momentum_optimizer_value: 0.8 }", f"momentum_optimizer_value: 0.8 }} {kept}"))
    assert found.values["schedule"]["ema_decay"] == decay
    assert not any("average" in line for line in found.left_out)


@pytest.mark.parametrize(("value", "told"), [("", []), ("0", []), ("123.7", ["the border of a padded image: 0"])])
def test_the_border_of_a_padded_image(translated, value, told):
    pad = " ".join(f"per_channel_pad_value: {value}" for _ in range(3 * bool(value)))
    resizer = f"keep_aspect_ratio_resizer {{ min_dimension: 96 max_dimension: 96 pad_to_max_dimension: true {pad} }}"
    found = translated(SSD, ("fixed_shape_resizer { height: 96 width: 128 }", resizer))
    assert [line.partition(";")[0] for line in found.differs if "border" in line] == told


def test_quantisation(translated, tmp_path):
    rewriter = SSD + "graph_rewriter { quantization { delay: 600 } }"
    cfg = composed(translated(rewriter), tmp_path)
    assert cfg.quantize.enabled and not cfg.quantize.float_stage and not cfg.quantize.spec.per_channel
    assert (cfg.quantize.spec.delay, cfg.quantize.schedule.steps, cfg.quantize.schedule.rate) == (600, 1000, 0.004)
    assert cfg.quantize.schedule.optimizer.momentum == 0.8
    found = translated(rewriter, ("delay: 600", "delay: 1000"))
    assert "quantize" not in found.values and any("quantisation: none" in line for line in found.differs)


def test_losses_of_the_classes(translated):
    def loss(text, *changes):
        return translated(SSD, ("weighted_sigmoid { }", text), *changes).values["detector"]["classification_loss"]

    zeros = ("num_classes: 2", "num_classes: 2 encode_background_as_zeros: true")
    assert loss("weighted_sigmoid { }", zeros) == {"_target_": "detect.modeling.losses.ZeroBackgroundSigmoid"}
    focal = {"_target_": "detect.modeling.losses.FocalClassification", "gamma": 2.0}
    assert loss("weighted_sigmoid_focal { }") == {**focal, "alpha": None, "background": "one", "prior": None}
    bias = ("kernel_size: 3", "kernel_size: 3 class_prediction_bias_init: -4.6")
    prior = pytest.approx(0.009952, abs=1e-6)
    assert loss("weighted_sigmoid_focal { alpha: .7 }", zeros, bias) == {
        **focal, "alpha": 0.7, "background": "zero", "prior": prior,
    }  # fmt: skip
    softmax = loss("weighted_softmax { }", ("score_converter: SIGMOID", "score_converter: SOFTMAX"))
    assert softmax == {"_target_": "detect.modeling.losses.SoftmaxClassification"}


FASTER = """
model { faster_rcnn {
  num_classes: 2
  image_resizer { keep_aspect_ratio_resizer { min_dimension: 96 max_dimension: 160 } }
  feature_extractor { type: 'faster_rcnn_inception_v2' }
  first_stage_anchor_generator {
    grid_anchor_generator { scales: [0.25, 0.5] aspect_ratios: [1.0] height: 128 width: 128 }
  }
  first_stage_box_predictor_conv_hyperparams { initializer { truncated_normal_initializer { stddev: 0.01 } } }
  first_stage_max_proposals: 50 first_stage_localization_loss_weight: 2.0
  initial_crop_size: 14 maxpool_kernel_size: 2 maxpool_stride: 2
  second_stage_box_predictor { mask_rcnn_box_predictor { fc_hyperparams { op: FC } } }
  second_stage_post_processing { batch_non_max_suppression { iou_threshold: 0.6 } score_converter: SOFTMAX }
} }
train_config { batch_size: 1 num_steps: 10 gradient_clipping_by_norm: 10.0
  optimizer { momentum_optimizer { learning_rate { constant_learning_rate { } } } use_moving_average: false } }
"""


def test_a_faster_rcnn(translated, tmp_path):
    cfg = composed(translated(FASTER), tmp_path, "dataset.root=x")
    d = cfg.detector
    assert (list(d.size), d.resize, d.add_truth, d.roi.method, d.roi.crop, d.roi.pool) == (
        *([96, 160], "keep_aspect", False),
        *("crop_and_resize", 14, 2),
    )
    assert (list(d.anchors.scales), d.anchors.base, d.anchors.stride, d.proposals.count) == ([0.25, 0.5], 128, 16, 50)
    assert (d.rpn_localization_weight, d.box_localization_weight, d.rpn_sampler.size) == (2.0, 1.0, 256)
    assert (cfg.schedule.batch_norm, cfg.schedule.clip_norm, cfg.schedule.ema_decay) == ("frozen", 10.0, 0.0)
    differs = translated(FASTER, ("max_dimension: 160", "max_dimension: 160 pad_to_max_dimension: true")).differs
    assert any("the API's frame is 160x160 px" in line for line in differs)
    assert any("the scaling of images: bilinear between the centres" in line for line in differs)
    normal = ("{ op: FC }", "{ op: FC initializer { truncated_normal_initializer { stddev: 0.01 } } }")
    lines = [line for line in translated(FASTER, normal).differs if "the predictors of the second stage" in line]
    assert lines == [
        "initial values of the predictors of the second stage: those of this program, not truncated_normal_initializer"
    ]
    with pytest.raises(NoCounterpart, match="masks"):
        translated(FASTER, ("num_classes: 2", "num_classes: 2 number_of_stages: 3"))


def test_a_suppression_of_all_classes_together(translated, tmp_path):
    together = ("max_total_detections: 20", "max_total_detections: 20 use_class_agnostic_nms: true")
    assert composed(translated(SSD, together), tmp_path).detector.postprocess.class_agnostic
    several = ("max_total_detections: 20", "max_total_detections: 20 max_classes_per_detection: 3")
    assert not translated(SSD, several).values["detector"]["postprocess"]["class_agnostic"]  # then it does not count


def test_the_loss_of_the_second_stage(translated):
    def loss(text):
        return translated(FASTER, ("initial_crop", f"second_stage_classification_loss {{ {text} }} initial_crop"))

    assert loss("weighted_softmax { }").left_out == []
    with pytest.raises(NoCounterpart, match="weighted_sigmoid"):
        loss("weighted_sigmoid { }")
    with pytest.raises(NoCounterpart, match="logit_scale"):
        loss("weighted_softmax { logit_scale: 2.0 }")


def test_an_initialiser_of_keras(translated):
    old = "truncated_normal_initializer { stddev: 0.03 }"
    differs = translated(SSD, (old, 'keras_initializer_by_name: "glorot_uniform"')).differs
    for part in ("the predictors", "the feature maps"):
        assert f"initial values of {part}: those of this program, not glorot_uniform of Keras" in differs


def test_losses_of_the_weights_that_differ_by_part(translated):
    def told(text, *changes):
        found = translated(text, *changes)
        assert not any("regulariz" in line for line in found.left_out)
        lines = [line for line in found.differs if line.startswith("weight decay of")]
        return found.values["schedule"]["weight_decay"], [re.sub(r": .* an", "", line) for line in lines]

    predictor, line, rest = SSD.partition("  feature_extractor {")
    first = predictor.replace("l2_regularizer { weight: 0.00004 }", "l1_regularizer { weight: 0.5 }") + line + rest
    assert told(SSD) == (4e-5, [])
    assert told(first) == (4e-5, ["weight decay of the predictor L1 loss of 0.5"])
    assert told(predictor.replace("0.00004", "0.01") + line + rest) == (
        *(4e-5, ["weight decay of the predictor L2 loss of 0.01"]),
    )
    assert told(first, ("batch_size: 8", "batch_size: 8 add_regularization_loss: false")) == (0.0, [])
    l2 = "regularizer { l2_regularizer { weight: 0.001 } }"
    assert told(FASTER, ("{ initializer", f"{{ {l2} initializer"), ("{ op: FC }", f"{{ op: FC {l2} }}")) == (
        *(
            0.0,
            [f"weight decay of the {part} L2 loss of 0.001" for part in ("region proposal network", "second stage")],
        ),
    )


def test_every_damaged_file_is_refused_or_translated(tmp_path):
    import random

    draw, file = random.Random(1), tmp_path / "it.config"
    words = re.findall(r"\S+", SSD)
    for _ in range(300):
        damaged = list(words)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(damaged))
            damaged[place : place + draw.randint(0, 1)] = [draw.choice([*words, "-1", "1e30", "'x'", "inf", "{", "}"])]
        file.write_text("\n".join(damaged))
        try:
            translate(read(file))
        except UserError as error:
            assert "it.config" in str(error)


def test_files_that_are_no_pipeline(tmp_path):
    file = tmp_path / "x.config"
    for content in (b"", b"item { id: 1 }", b"\x00\xff\x80"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"x\.config"):
            read(file)


def test_the_whole_network_equals_the_apis_own(tmp_path):
    """A checkpoint of TensorFlow 2, outputs, losses and detections that scripts/api_detector.py made."""
    from detect.training import build
    from detect.weights.sources import FromFile
    from detect.weights.transfer import transfer

    with tarfile.open(FIXTURES / "tiny_fpn.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    cfg = composed(translate(read(FIXTURES / "tiny_fpn.config")), tmp_path, "init=none")
    detector, given = build.detector(cfg, 3), inputs((96, 128), 3)
    arrays = FromFile(str(tmp_path / "ckpt-1")).read(build.instantiate(cfg.backbone))
    ledger = transfer(detector.model, arrays, source="x", layers=detector.backbone_layers, scope="detector")
    assert (len(ledger.loaded), len(ledger.skipped)) == (len(detector.model.weights), 0)
    frame = np.array([96, 128, 96, 128], np.float32)
    with np.load(tmp_path / "answers.npz") as theirs:
        np.testing.assert_allclose(detector.anchors[::8], theirs["anchors"] * frame, atol=1e-3)
        outputs = detector.model.predict(given["images"].astype(np.float32), verbose=0)
        assert sqnr(theirs["box_encodings"], outputs["codes"][:, ::8]) > 60
        assert sqnr(theirs["class_predictions_with_background"], outputs["logits"][:, ::8]) > 60
        batch = {"image": given["images"], "boxes": given["boxes"] * frame, "classes": given["classes"]}
        parts = detector.losses(batch, training=False).parts
        for name in ("classification", "localization"):
            assert float(parts[name]) == pytest.approx(float(theirs[f"loss.Loss.{name}_loss"]), rel=1e-4)
        found = {name: value.numpy() for name, value in detector.detect(given["images"]).items()}
        np.testing.assert_allclose(found["scores"], theirs["found.detection_scores"], atol=1e-4)
        for image in range(2):  # equal scores may come in any order
            boxes, classes = (
                theirs["found.detection_boxes"][image] * frame,
                theirs["found.detection_classes"][image] + 1,
            )
            near = np.abs(boxes[:, None] - found["boxes"][image]).max(axis=-1) < 0.05
            assert (near & (classes[:, None] == found["classes"][image])).any(axis=1).all()
