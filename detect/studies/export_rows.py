"""Exported models and other measurements as rows of a study's CSV file. `folder` names the folder of each."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detect.errors import DataError
from detect.files import expanded
from detect.runs.folder import DETECTOR, MEASURED
from detect.studies.commands import member, portable, variants
from detect.studies.csv_file import NO_FIGURE, Row, host, rounded, versions
from detect.studies.records import FinishedRun, Records, command_words


def export_rows(records: Records) -> list[Row]:
    """A row for each exported model: scores of the file and of the run that it was made from, size and speed."""
    runs = {run.folder.resolve(): run for run in records.runs}
    sources = {folder: run_folder(about, folder) for folder, about in records.exports.items()}
    made_from = {folder: runs.get(folder.parent.resolve()) or runs.get(at.resolve()) for folder, at in sources.items()}
    members = _members([run for run in runs.values() if run in made_from.values()])
    floats = {
        (run.folder.resolve(), *_scored(about)): about["scores"]["run"].get("AP")
        for folder, about in records.exports.items()
        if (run := made_from[folder]) and not _is_qat(about) and (about.get("scores") or {}).get("run")
    }
    rows = []
    for folder, about in records.exports.items():
        source, run = sources[folder], made_from[folder]
        arm, cell = members[run.folder] if run else ("", "")
        scores = about.get("scores") or {}
        figures = {key: (scores.get(key) or {}) for key in ("file", "run", "float")}
        before = _float_detector(about, run, floats)
        rows.append(
            {
                "run": f"{arm} ({run.seed})" if run else source.name,
                "file": file_kind(about, folder),
                "split": scores.get("split", ""),
                "images": scores.get("images", ""),
                **{name: rounded(figures["file"].get(name)) for name in ("AP", "AP50")},
                "AP of the run": rounded(figures["run"].get("AP")),
                **({"AP of the float twin": rounded(figures["float"].get("AP"))} if figures["float"] else {}),
                **({} if before is None else {"AP of the float detector": rounded(before)}),
                "MB": round(about["bytes"] / 1e6, 3),
                **latencies(about.get("latency_ms")),
                "minutes": round(run.seconds / 60, 2) if run else NO_FIGURE,
                "arm": arm,
                "cell": cell,
                "seed": run.seed if run else "",
                **_place(about, folder),
            }
        )
    return sorted(rows, key=lambda row: row["run"])


def _is_qat(about: Mapping[str, Any]) -> bool:
    return (about.get("options") or {}).get("quantize") == "qat"


Scored = tuple[str, int, bool | None]
"""The split that an export was scored on, the number of its images, and whether an object got one class. None: as in
the run."""


def _scored(about: Mapping[str, Any]) -> Scored:
    scores, options = about.get("scores") or {}, about.get("options") or {}
    return scores.get("split", ""), scores.get("images", 0), options.get("class_agnostic")


def _float_detector(
    about: Mapping[str, Any], run: FinishedRun | None, floats: Mapping[tuple[Path, *Scored], float]
) -> float | None:
    """AP of the float detector that a fake-quantised model started from, scored alike; None for other models.

    It is the run's own float stage, or the run that `init` names, if a float file of that run is reported, too.
    floats: the folder of a run, and how it was scored -> its AP.
    """
    if run is None or not _is_qat(about):
        return None
    scores = about.get("scores") or {}
    if scores.get("float_stage") == DETECTOR:
        return (scores.get("float") or {}).get("AP")
    start = Path((run.summary.get("init") or {}).get("weights") or "").parent.parent.resolve()  # of RUN/detector/best
    return floats.get((start, *_scored(about)))


def _members(runs: Sequence[FinishedRun]) -> dict[Path, tuple[str, str]]:
    """By the folder of a run: its arm, with what distinguishes it from runs of the arm, and the rest of its cell."""
    found = {}
    members = [member(run) for run in runs]
    for run, of, variant in zip(runs, members, variants(members), strict=True):
        cell = of.cell
        rest = (cell.study, cell.dataset, f"{cell.share} of the images", f"{cell.budget} steps")
        found[run.folder] = f"{run.arm} {variant}".strip(), ", ".join(filter(None, rest))
    return found


def run_folder(about: Mapping[str, Any], folder: Path) -> Path:
    """The folder of the run that was exported: from the command of the export, else the parent of the export."""
    named = [word[len("run=") :] for word in command_words(about) if word.startswith("run=")]
    return expanded(named[-1]) if named else folder.parent


FORMATS = {"onnx": "ONNX", "openvino": "OpenVINO"}
"""How files are called that are neither a TFLite file nor a SavedModel."""


def file_kind(about: Mapping[str, Any], folder: Path) -> str:
    """`ptq per_tensor, tflite_op`: the options that distinguish an exported file from others of the same run."""
    options = about.get("options") or {}
    kind = options.get("quantize", "none")
    together = ["class-agnostic"] if options.get("class_agnostic") else []
    if about.get("format") == "saved_model":
        return ", ".join(["SavedModel" if kind == "none" else f"SavedModel {kind}", *together])
    if not options:
        return folder.name
    words = [about["by"]] if "by" in about else []
    words += [FORMATS[about["format"]]] if about.get("format") in FORMATS else []
    words += ["float32" if kind == "none" else kind]
    words += ["per_tensor"] if options.get("weights") == "per_tensor" else []
    ends = [options["nms"]] if options.get("nms", "none") != "none" else []
    ends += ["any batch"] if options.get("batch", 1) is None else []
    ends += [f"{options['takes']} image"] if options.get("takes", "uint8") != "uint8" else []
    return ", ".join([" ".join(words), *ends, *together])


def latencies(measured: Mapping[str, Mapping[str, float]] | float | None) -> Row:
    """Milliseconds for an image with 1 and 2 threads, each for the file and the float32 file. A SavedModel has one."""
    if not isinstance(measured, Mapping):
        return {} if measured is None else {"ms": round(measured, 2)}
    row: Row = {}
    for threads, times in measured.items():
        name = f"ms {threads} thread" + ("" if threads == "1" else "s")
        row |= {name: round(times["file"], 3)}
        row |= {f"{name} float32": round(times["float32"], 3)} if times.get("float32") is not None else {}
    return row


def measured_rows(records: Records) -> list[Row]:
    """The columns of every measured.json; null becomes n/a. An empty cell means that the row has no such column."""
    rows = []
    for folder, about in records.measured.items():
        columns = {key: _plain(value) for key, value in about["columns"].items()}
        study, place = {"study": about.get("study") or ""}, _place(about, folder)
        if taken := columns.keys() & {*study, *place}:
            named = ", ".join(f"columns.{name}" for name in sorted(taken))
            raise DataError(f"{folder / MEASURED}: {named}: a report has a column of this name; give it another one")
        rows.append({**study, **columns, **place})
    return rows


def _place(about: Mapping[str, Any], folder: Path) -> Row:
    """Where a file was made. Its folder is told from the working directory, so that other folders of the same names are
    others."""
    told = Path(os.path.relpath(folder.resolve())).as_posix()
    return {"folder": told, "command": _command(about), "host": host(about), "versions": versions(about)}


def _command(about: Mapping[str, Any]) -> str:
    """The command that made it, without local paths."""
    words = command_words(about)
    if words[1:3] == ["-m", "detect.cli"]:
        words[:3] = ["detect"]
    return shlex.join(map(portable, words))


def _plain(value: object) -> object:
    """The value; a float has six digits, None becomes n/a."""
    return NO_FIGURE if value is None else float(f"{value:.6g}") if isinstance(value, float) else value
