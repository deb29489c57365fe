"""Json files of strange runs: each wrong place is named, with what is legal there."""

import json

import pytest

from detect.errors import DataError
from detect.runs import forms
from detect.runs.folder import RunFolder
from detect.studies import forms as reports
from detect.studies.curves import read_curve
from detect.studies.records import FinishedRun, collect

FORM = {"name": "text", "steps?": "count", "scores": {"*": {"AP": ("number", "null")}}, "gpus?": ["text"]}
RIGHT = {"name": "x", "steps": 3, "scores": {"val": {"AP": 0.5}, "test": {"AP": None}}, "gpus": ["a"], "more": [{}]}


def test_a_right_value_and_one_without_what_may_be_missing():
    assert forms.problem(RIGHT, FORM) is None
    assert forms.problem({"name": "x", "scores": {}, "steps": None}, FORM) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": 3}, "name is 3; legal is text"),
        ({"name": "a" * 20_000}, "name is 'aaa"),
        ({"steps": -1}, "steps is -1; legal is count"),
        ({"steps": True}, "steps is True; legal is count"),
        ({"steps": 10**30}, "steps is 1000"),
        ({"scores": {"val": {}}}, "scores.val.AP is missing"),
        ({"scores": {"val": {"AP": float("nan")}}}, "scores.val.AP is nan; legal is number or null"),
        ({"scores": {"val": {"AP": float("inf")}}}, "scores.val.AP is inf; legal is number or null"),
        ({"scores": []}, "scores is []; legal is a mapping"),
        ({"gpus": "a"}, "gpus is 'a'; legal is a list"),
        ({"gpus": ["a", 1]}, "gpus[1] is 1; legal is text"),
    ],
)
def test_the_wrong_place_is_named(change, told):
    assert forms.problem(RIGHT | change, FORM).startswith(told)


def test_a_mapping_among_alternatives_is_told_by_its_own_place():
    form = ("amount", {"*": {"file": "amount"}})
    assert forms.problem(3.5, form) is None and forms.problem({"1": {"file": 2}}, form) is None
    assert forms.problem({"1": {"file": "x"}}, form) == "1.file is 'x'; legal is amount"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00", '{"a": "\udcff"}', "[" * 100_000])
def test_files_that_are_no_mapping(tmp_path, text):
    path = tmp_path / "summary.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"summary.json is not readable JSON"):
        forms.read(path, {})


def test_control_characters_of_a_file_do_not_reach_the_message(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"scores": {"\x1b[31m": 3}}))
    with pytest.raises(DataError) as caught:
        forms.read(path, forms.SCORED)
    assert "\x1b" not in str(caught.value) and "\\x1b[31m" in str(caught.value)


def test_files_of_a_run_folder(tmp_path, caplog):
    run = RunFolder(tmp_path)
    for text in ("", "{", '{"scores": 3}', '{"scores": {"val": {"AP": "x"}}}'):
        run.summary.write_text(text)
        caplog.clear()
        assert run.objective() is None, "the scores are made again"
        assert "summary.json" in caplog.text and "its scores are made again" in caplog.text
    run.summary.write_text('{"scores": {}}')
    with pytest.raises(DataError, match=r"summary\.json"):
        run.objective()
    for text in ("[]", "{", '[{"id": 1}]', '[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]', '[{"id": 1e400}]'):
        run.classes.write_text(text)
        with pytest.raises(Exception, match="this is not the list of classes of a run"):
            run.class_names()
    for text in ("a: [", "a: &a [*a]\nb: *c", "\x00"):
        run.config.write_text(text)
        with pytest.raises(Exception, match=r"config\.yaml: the file is (empty or )?damaged"):
            run.saved_config()


def test_a_report_names_the_file(tmp_path):
    (tmp_path / "detector").mkdir()
    (tmp_path / "summary.json").write_text('{"scores": {"val": {"AP": 1}}, "name": "x"}')
    with pytest.raises(DataError, match=r"summary.json: scores.val.AP50 is missing"):
        collect(tmp_path)
    (tmp_path / "summary.json").unlink()
    (tmp_path / "export.json").write_text('{"bytes": "many"}')
    with pytest.raises(DataError, match=r"export.json: bytes is 'many'; legal is count"):
        collect(tmp_path)


@pytest.mark.parametrize("row", ["3", '{"kind": "eval"}', '{"kind": "eval", "step": 1, "val/AP": "x"}'])
def test_a_row_of_metrics_names_the_line(tmp_path, row):
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector" / "metrics.jsonl").write_text(f'{{"kind": "train", "step": 1, "note": "text"}}\n{row}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2: "):
        read_curve(FinishedRun(tmp_path, {"seconds": 1.0, "steps": 1}))


def test_the_forms_of_reports_name_only_known_types():
    def types(form):
        inner = form if isinstance(form, list | tuple) else form.values() if isinstance(form, dict) else None
        return {form} if inner is None else {one for part in inner for one in types(part)}

    assert types([reports.RUN, reports.EXPORT, reports.MEASURED, reports.ROW, reports.STAGE]) <= set(forms.FORMS)
