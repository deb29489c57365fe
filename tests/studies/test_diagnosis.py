"""Each fault of a run is named by its own row, and the first one is the verdict."""

import json

import pytest

from detect.cli.doctor import examine
from detect.errors import ConfigError, DataError
from detect.studies.diagnosis import diagnose
from tests import program

CONFIG = """
detector: {box_sampler: {size: 16}, box_classification_weight: %(weight)s, roi: {_target_: %(roi)s}}
schedule: {rate: %(rate)s, batch_norm: %(batch_norm)s, freeze_until: %(freeze)s}
"""
SHAPES = {"a/kernel": [3, 3, 3, 8], "b/kernel": [1, 1, 8, 16], "c/kernel": [1, 1, 16, 64]}  # 216, 128, 1024
GOOD = {"rate": 0.001, "batch_norm": "trainable", "freeze": "null", "weight": 1.0, "roi": "detect.modeling.roi.RoiCrop"}
NORMED = SHAPES | {"a/BatchNorm/moving_variance": [8]}


@pytest.fixture
def make_run(tmp_path):
    """Makes the folder of a run that detects, with the given changes."""

    def make(
        rate=0.001, batch_norm="trainable", freeze="null", matches=0.9, loss=(2.0, 0.5), recall=(0.5, 0.95),
        ap50=(0.1, 0.4, 0.42), skipped=(), kept=(), ledger=SHAPES, diverged=0, kind="anchors/recall_50",
        box_loss=None, box_weight=1.0, roi="detect.modeling.roi.RoiCrop",
    ):  # fmt: skip
        values = {"rate": rate, "batch_norm": batch_norm, "freeze": freeze, "weight": box_weight, "roi": roi}
        (tmp_path / "config.yaml").write_text(CONFIG % values)
        (tmp_path / "classes.json").write_text('[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]')
        stage = tmp_path / "detector"
        stage.mkdir(exist_ok=True)
        rows = []
        for k in range(20):
            share = k / 19
            row = {"kind": "train", "step": k + 1, kind: matches, "loss/total": 3.0}
            row["loss/classification"] = loss[0] + share * (loss[1] - loss[0])
            if box_loss is not None:
                row |= {"loss/box_classification": box_loss, "box/positives_per_image": 4.0}
                del row["loss/classification"]
            if recall:
                row["rpn/recall_50"] = recall[0] + share * (recall[1] - recall[0])
            rows.append(row)
        rows += [{"kind": "eval", "step": 10 * k, "val/AP50": v, "val/AP": v / 2} for k, v in enumerate(ap50)]
        (stage / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if ledger is not None:
            skip = {"skipped": {name: [1] for name in (*skipped, *kept)}, "kept": {name: [1] for name in kept}}
            kinds = {"loaded": ledger, "missing": {}, "mismatched": {}, **skip}
            (stage / "transfer.json").write_text(json.dumps({"source": "x", "totals": {}, **kinds}))
        if diverged:
            (stage / f"diverged_at_{diverged}.npz").write_bytes(b"")
        return tmp_path

    return make


def wrong(folder) -> list[str]:
    return [finding.question for finding in diagnose(folder).findings if finding.right is False]


def test_a_run_that_detects(make_run):
    found = diagnose(make_run())
    assert [f.right for f in found.findings] == [True] * 8 and found.first_wrong is None
    assert found.detects and "0.420" in found.verdict()


@pytest.mark.parametrize(
    ("changed", "question"),
    [
        ({"matches": 0.2}, "Do anchors match"),
        ({"matches": 0.2, "kind": "points/positives_per_image", "recall": None}, "Do anchors match"),
        ({"diverged": 21}, "Is the loss a number"),
        ({"kept": ("b/bias",), "skipped": ("Logits/kernel",)}, "Did all weights load"),
        ({"ledger": None}, "Did all weights load"),
        ({"freeze": "c/concat"}, "Does the backbone learn"),
        ({"batch_norm": "frozen", "rate": 0.001, "ledger": NORMED}, "Does the rate suit"),
        ({"loss": (2.0, 1.9)}, "Does the loss of the classes fall"),
        ({"box_loss": 0.6}, "Do classes beat a guess"),
        ({"recall": (0.1, 0.6)}, "Do proposals reach"),
        ({"ap50": (0.01, 0.02, 0.05)}, "Has it stopped"),
    ],
)
def test_a_fault_is_named_by_its_own_row(make_run, changed, question):
    folder = make_run(**({"ap50": (0.01, 0.02, 0.02)} | changed))
    (only,) = wrong(folder)
    assert only.startswith(question)
    found = diagnose(folder)
    assert not found.detects and found.first_wrong.remedy in found.verdict()


@pytest.mark.parametrize(
    "changed",
    [
        {"diverged": 20},  # a resumed run got over it
        {"skipped": ("Logits/kernel", "Logits/bias")},  # arrays of the file
        {"kept": ("BoxPredictor_0/ClassPredictor/kernel",)},  # of other classes
        {"batch_norm": "frozen", "rate": 0.001},  # of VGG, which has none
        {"loss": (0.2, 0.19), "ledger": SHAPES | {"BoxPredictor_0/ClassPredictor/kernel": [1]}},  # a tuned detector
    ],
)
def test_what_is_no_fault(make_run, changed):
    assert wrong(make_run(**changed)) == []


def test_a_ledger_of_an_earlier_version_does_not_tell_what_was_not_loaded(make_run):
    ledger = make_run(skipped=("b/bias",)) / "detector" / "transfer.json"
    ledger.write_text(ledger.read_text().replace('"kept"', '"before"'))
    assert diagnose(ledger.parent.parent).findings[2].right is None


def test_the_weights_of_the_best_evaluation_are_used(make_run):
    found = diagnose(make_run(ap50=(0.5, 0.6, 0.05)))
    assert found.detects and "0.600. That is of the best weights; at the end it is 0.050." in found.verdict()


def test_forced_matches_train_a_network_of_proposals_whatever_the_anchors(make_run):
    """With anchors of 2 to 16 px for objects of 25 to 104 px, Faster R-CNN is as good as with fitting ones."""
    folder = make_run(matches=0.0, ap50=(0.01, 0.02, 0.02))
    config = (folder / "config.yaml").read_text()
    assert "force_match" not in config and wrong(folder) == ["Do anchors match the boxes?"]
    for forced, right in (("true", None), ("false", False)):
        matcher = f"detector: {{rpn_target_assigner: {{matcher: {{force_match: {forced}}}}}, "
        (folder / "config.yaml").write_text(config.replace("detector: {", matcher))
        first = diagnose(folder).findings[0]
        assert first.right is right and first.found.startswith("0% of the boxes have one of IoU .5")
        assert first.found.endswith("; the best one of each is matched by force") is (forced == "true")


def test_a_run_without_val_images_has_the_score_of_its_selection_split(make_run):
    folder = make_run()
    metrics = folder / "detector" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("val/", "test/"))
    found = diagnose(folder)
    assert found.ap50 == 0.42 and found.detects and "AP50 on test is 0.420" in found.verdict()
    (steps,) = (finding for finding in found.findings if "getting better" in finding.question)
    assert steps.found.startswith("best at evaluation ")


@pytest.mark.parametrize(("after", "right"), [((0.0, 0.02), False), ((0.2, 0.35), True), ((), None)])
def test_a_twin_that_rounding_ruins(make_run, after, right):
    """The float detector has .42, of which four fifths are .336."""
    folder = make_run()
    twin = folder / "quantized" / "metrics.jsonl"
    twin.parent.mkdir()
    rows = [{"kind": "eval", "step": k, "val/AP50": value, "val/AP": value} for k, value in enumerate(after)]
    twin.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = diagnose(folder)
    assert found.ap50 == (after[-1] if after else 0.42) and found.detects is (right is not False)
    assert (found.findings[-1].question, found.findings[-1].right) == ("Does rounding keep it?", right)


def test_scores_before_rounding_begins_do_not_count(make_run):
    """It begins at step 21 of 30."""
    folder = make_run()
    (folder / "config.yaml").open("a").write("quantize: {schedule: {steps: 30}, spec: {delay: 0.7}}\n")
    (folder / "quantized").mkdir()
    rows = [{"kind": "eval", "step": k, "val/AP50": v, "val/AP": v} for k, v in ((10, 0.42), (20, 0.42), (30, 0.02))]
    (folder / "quantized" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = diagnose(folder)
    assert found.ap50 == 0.02 and found.findings[-1].right is False


def test_a_guess_by_hand(make_run):
    """4 of 16 examples are objects of two classes: -.75 ln .75 - .25 ln .125 = .736; 65% of it is .478."""
    (row,) = (f for f in diagnose(make_run(box_loss=0.47)).findings if "guess" in f.question)
    assert row.right and row.found == "loss 0.470, that of a guess is 0.736"
    (row,) = (f for f in diagnose(make_run(box_loss=0.48)).findings if "guess" in f.question)
    assert not row.right and row.remedy.endswith("divide schedule.rate by three")


@pytest.mark.parametrize(("loss", "remedy"), [(0.69, "by three"), (0.71, "by ten"), (6.6, "by ten")])
def test_a_head_that_is_no_better_than_a_guess_gets_a_tenth_of_the_rate(make_run, loss, remedy):
    """At rates of .1 and 1 in place of .001 the loss is .99 and 9 times that of a guess, and nothing is found."""
    (row,) = (f for f in diagnose(make_run(box_loss=loss)).findings if "guess" in f.question)
    assert not row.right and row.remedy.endswith(remedy)


def test_the_weight_of_the_loss_does_not_count(make_run):
    (row,) = (f for f in diagnose(make_run(box_loss=0.47 * 16, box_weight=16)).findings if "guess" in f.question)
    assert row.right and row.found == "loss 0.470, that of a guess is 0.736"
    assert not [f for f in diagnose(make_run(box_loss=0.0, box_weight=0)).findings if "guess" in f.question]


def test_a_head_behind_crops_of_the_users_own_that_is_no_better_than_a_guess_may_see_nothing(make_run):
    """Crops of proposals in another unit than they expect: the loss is 1.00 of a guess (experiments/fixed_backbone)."""
    (row,) = (f for f in diagnose(make_run(box_loss=0.74, roi="mine.Crop")).findings if "guess" in f.question)
    assert row.remedy.endswith("look at the unit in which detector.roi takes boxes")


def test_early_layers_may_be_fixed(make_run):
    """Up to b: 344 of 1368 parameters."""
    (row,) = (f for f in diagnose(make_run(freeze="b/relu")).findings if "learn?" in f.question)
    assert row.right and row.found.startswith("25% ")
    (row,) = (f for f in diagnose(make_run(freeze="z")).findings if "learn?" in f.question)
    assert row.right is None


def test_the_layers_on_the_crops_do_not_count_as_those_before_them(make_run):
    """In the ledger of a Faster R-CNN, Mixed_7a stands before Mixed_6d, and Mixed_10a would come after Mixed_7a."""
    names = ("Mixed_6c", "Mixed_7a", "Mixed_6d", "Mixed_10a")
    folder = make_run(freeze="Mixed_6d/concat", ledger={f"{name}/kernel": [1, 1, 1, 10] for name in names})
    (row,) = (f for f in diagnose(folder).findings if "learn?" in f.question)
    assert row.right and row.found.startswith("50% ")


def test_the_first_of_two_faults_is_the_verdict(make_run):
    found = diagnose(make_run(loss=(2.0, 2.0), matches=0.0, ap50=(0.0,)))
    assert found.first_wrong.question.startswith("Do anchors match") and "Row 1 " in found.verdict()


def test_a_row_has_the_number_of_the_page_although_a_run_lacks_the_one_before(make_run):
    """An SSD has no proposals (row 7), so that its last row is the eighth of docs/verbs/doctor.md all the same."""
    found = diagnose(make_run(recall=None, ap50=(0.0, 0.1, 0.2)))
    assert [finding.row for finding in found.findings] == [1, 2, 3, 4, 5, 6, 8] and "Row 8 " in found.verdict()


def test_a_run_that_has_just_begun(make_run):
    folder = make_run(ap50=())
    metrics = folder / "detector" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines()[0] + '\n{"kind": "tr')
    found = diagnose(folder)
    assert "not scored yet" in found.verdict() and found.first_wrong.question.startswith("Do proposals")


def test_a_young_run_is_no_failure(make_run, capsys):
    run = make_run(ap50=(), skipped=tuple(SHAPES))
    examine(run)
    assert "It was not scored yet." in capsys.readouterr().out


def test_what_is_no_run_is_refused(make_run, tmp_path):
    with pytest.raises(ConfigError, match=r"run=.*config\.yaml"):
        diagnose(tmp_path)
    folder = make_run()
    (folder / "detector" / "transfer.json").write_text("[]")
    with pytest.raises(DataError, match=r"transfer\.json"):
        diagnose(folder)
    (folder / "detector" / "metrics.jsonl").write_text("x\ny\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        diagnose(folder)
    make_run()
    for text in ("3\n{}\n", '{"kind": "train"}\n{}\n', '{"kind": "train", "step": "x"}\n{}\n'):
        (folder / "detector" / "metrics.jsonl").write_text(text)
        with pytest.raises(DataError, match=r"metrics\.jsonl, line 1"):
            diagnose(folder)
    make_run(rate="fast")
    with pytest.raises(DataError, match=r"config\.yaml: schedule\.rate is 'fast'"):
        diagnose(folder)
    (folder / "detector" / "metrics.jsonl").unlink()
    with pytest.raises(DataError, match="not trained yet"):
        diagnose(folder)


def test_from_the_command_line(make_run):
    folder = make_run(freeze="c/concat", ap50=(0.0, 0.01, 0.01))
    done = program.run("doctor", f"run={folder}")
    assert done.returncode == 1 and max(map(len, done.stdout.splitlines())) <= 80
    assert "WRONG  100% of its parameters" in done.stdout and "schedule.freeze_until=null" in done.stdout
    make_run()
    done = program.run("doctor", f"run={folder}")
    assert done.returncode == 0 and "The detector detects" in done.stdout


def test_a_run_without_a_float_stage_has_the_schedule_of_its_twin(make_run):
    folder = make_run(batch_norm="frozen", rate=0.01, ap50=(0.0, 0.01, 0.01), ledger=NORMED)
    (folder / "detector").rename(folder / "quantized")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(CONFIG % GOOD + f"quantize: {{{config.strip().splitlines()[-1]}}}\n")
    assert "Does the rate suit batch norm?" in wrong(folder)
    remedies = [finding.remedy for finding in diagnose(folder).findings if "schedule" in finding.remedy]
    assert remedies and all("schedule." not in text.replace("quantize.schedule.", "") for text in remedies)
    (folder / "config.yaml").write_text(CONFIG % GOOD + f"quantize: {{{(CONFIG % GOOD).strip().splitlines()[-1]}}}\n")
    assert diagnose(folder).verdict().endswith("look at quantized/first_batch.png.")


def test_a_loss_that_explodes_is_diagnosed(make_run):
    assert wrong(make_run(loss=(3e15, 1e20), ap50=(0.0, 0.0, 0.0)))
