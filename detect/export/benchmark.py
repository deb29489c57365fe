"""Every format of a detector side by side: AP, size, time, memory, and agreement with the run."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.examples import Example
from detect.data.image_file import read_image
from detect.detector import Detector
from detect.environment import usable_cores
from detect.errors import ConfigError, DataError, UserError, printable
from detect.evaluation import agreement
from detect.evaluation.coco import CocoEvaluator
from detect.export import timing
from detect.export.images import photographs
from detect.export.options import LABELS
from detect.export.timing import Model
from detect.files import read_json, write_csv, write_json
from detect.geometry.frame import Frame
from detect.portable.packages import MODEL, READS, require
from detect.runs import provenance
from detect.runs.folder import DETECTOR, DETECTOR_JSON, EXPORT, QUANTIZED, TFLITE_MODEL, RunFolder
from detect.tflite import detection_output, flatbuffer
from detect.tflite.metadata import Settings
from detect.tflite.package import ONE_THREAD
from detect.weights import checkpoint

log = logging.getLogger("detect")
FILES = (TFLITE_MODEL, *MODEL.values())
SUFFIXES = {".tflite": "tflite", ".onnx": "onnx", ".xml": "openvino"}
NAMED = 24  # characters of a name on the console


def find_models(run: Path | None, models: Sequence[Path]) -> dict[str, Model]:
    """The models by short names: the run and all exports in its folder, and those that are named besides.

    An export in the folder that can't be opened is left out with a warning. Raises DataError if there is none.
    """
    found: dict[str, Model] = {}
    if run is not None:
        stages = [s for s in (DETECTOR, QUANTIZED) if checkpoint.exists(RunFolder(run).stage(s).best)]
        found |= {f"run ({stage})" if stages[1:] else "run": Model("run", run, stage) for stage in stages}
        for report in sorted(run.glob(f"*/{EXPORT}")):
            try:
                model = recognised(report.parent)
                if model.kind in READS:
                    require(model.kind, f"model={model.path}")
                found[report.parent.name] = model
            except UserError as error:
                log.warning("%s is left out: %s", printable(report.parent.name), error)
    for path in models:
        name = path.name if path.is_dir() or path.parent.name in ("", ".") else f"{path.parent.name}/{path.name}"
        found[name if name not in found else str(path)] = recognised(path)
    if not found:
        raise DataError(f"run={run}: it has neither a trained detector nor an export")
    return found


def recognised(path: Path) -> Model:
    """The kind of a model, and its file, which may be renamed. Raises ConfigError if there is none."""
    files = [path] if path.is_file() else sorted(path.glob("*"))
    models = [file for file in files if file.suffix in SUFFIXES and file.is_file()]
    models = [file for file in models if file.name in FILES] or models
    if len(models) == 1:
        (file,) = models
        return Model(SUFFIXES[file.suffix], file, _stage(file.with_name(EXPORT)))
    if (path / "saved_model.pb").is_file():
        return Model("saved_model", path, _stage(path / EXPORT))
    if RunFolder(path).is_run:
        return Model("run", path, RunFolder(path).last_stage() or DETECTOR)
    raise ConfigError(f"model={path}: legal are a .tflite, .onnx or .xml file, a folder of an export, or a run")


def _stage(report: Path) -> str:
    """The stage of a run that a file was made from, as its export.json tells."""
    options = read_json(report).get("options", {}) if report.is_file() else {}
    return QUANTIZED if options.get("quantize") == "qat" else DETECTOR


def size_of(model: Model) -> int | None:
    """The bytes that ship; None of a run, which does not."""
    kind, path = model.kind, model.path
    if kind == "run":
        return None
    files = [path, path.with_suffix(".bin")] if kind == "openvino" else [path]
    if kind == "saved_model":
        own = [path / name for name in ("saved_model.pb", "fingerprint.pb", DETECTOR_JSON, LABELS)]
        own += [file for part in ("variables", "assets") for file in path.glob(f"{part}/**/*")]
        files = [file for file in own if file.is_file()]
    return sum(file.stat().st_size for file in files)


def benchmark(
    models: Mapping[str, Model],
    detectors: Mapping[str, Detector],
    examples: Sequence[Example],
    runs: int,
    threads: int | None,
) -> list[dict[str, Any]]:
    """A row for each model that is open. detectors: those of the open models, by name.

    examples: scored; without any, AP and agreement are None. runs: of each time. threads: the second number of threads;
    None is the number of cores. The time is that of one image of the size of the frame in the model alone.
    """
    models = {name: models[name] for name in detectors}
    rows: list[dict[str, Any]] = []
    seen: dict[tuple[str, bool], list[agreement.Frame]] = {}  # by name, and whether all classes compete
    for name, model in sorted(models.items(), key=lambda item: item[1].kind != "run"):  # what others are compared with
        detector = detectors[name]
        origin, together = origin_of(name, models), detector.class_agnostic
        seen[name, together], ap = _detections(detector, examples)
        if origin and (origin, together) not in seen:
            run = Detector.load(models[origin].path, models[origin].stage, class_agnostic=together)
            seen[origin, together] = _detections(run, examples)[0]
        wanted, found = seen[origin, together] if origin else [], seen[name, together]
        same = agreement.agreement(wanted, found, 1.0) if wanted else None
        rows.append(
            {"name": name, "kind": model.kind, "bytes": size_of(model), "AP": ap, "size": list(detector.size)}
            | {"partners": same and same["partners"]}
            | {"largest_score_difference": same and same["largest_score_difference"]}
        )
        log.info("scored %s", name)
    rows.sort(key=lambda row: list(models).index(row["name"]))
    image = read_image(examples[0].path) if examples else photographs()[0]
    for count in dict.fromkeys((1, threads or usable_cores())):
        for size in dict.fromkeys(tuple(row["size"]) for row in rows):
            alike = {row["name"]: _right(models[row["name"]], count) for row in rows if tuple(row["size"]) == size}
            frame = np.rint(Frame(size, "stretch").fit(image)).astype(np.uint8)
            measured = timing.measure(alike, frame, count, runs)
            for row in rows:
                if row["name"] in alike:
                    row.setdefault("threads", {})[str(count)] = measured.get(row["name"])
                    row["one_thread"] = row.get("one_thread", False) or alike[row["name"]].alone
    return rows


def _right(model: Model, threads: int) -> Model:
    """The model, told to run alone if it is a TFLite file that gives wrong results with so many threads."""
    if model.kind != "tflite":
        return model
    settings = Settings.read(flatbuffer.read(model.path.read_bytes()), str(model.path))
    return replace(model, alone=detection_output.right_threads(settings, threads) != threads)


def origin_of(name: str, models: Mapping[str, Model]) -> str | None:
    """The name of the run that a model is compared with, which may be itself; None if it is not among the models.

    It is the run in whose folder the model lies, or else the only one, in the same stage.
    """
    model = models[name]
    if model.kind == "run":
        return name
    runs = [key for key, other in models.items() if other.kind == "run" and other.stage == model.stage]
    runs = [key for key in runs if models[key].path.resolve() in model.path.resolve().parents] or runs
    return runs[0] if len(runs) == 1 else None


def _detections(detector: Detector, examples: Sequence[Example]) -> tuple[list[agreement.Frame], float | None]:
    """The detections of each image, boxes as shares of its longer side, and AP."""
    evaluator = CocoEvaluator(examples, detector.classes) if examples else None
    found: list[agreement.Frame] = []
    for example in examples:
        image = read_image(example.path)
        (one,) = detector(image)
        found.append((one.boxes / max(image.shape[:2]), one.scores, one.classes))
        assert evaluator is not None
        evaluator.add(example.id, one.boxes, one.scores, one.classes)
    return found, evaluator.result().summary["AP"] if evaluator else None


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows for the console, in 80 columns."""
    counts = list(rows[0]["threads"])
    titles = "".join(f"{f'ms {n} thread' + 's' * (n != '1'):>15}" for n in counts)
    lines = [f"{'':<{NAMED}}{'MB':>6}{'AP':>7}{'same':>6}{titles}{'memory':>7}"]
    for row in rows:
        name = row["name"] if len(row["name"]) < NAMED else f"{row['name'][: NAMED - 2]}…"
        size = "-" if row["bytes"] is None else f"{row['bytes'] / 1e6:.1f}"
        ap = "-" if row["AP"] is None else f"{row['AP']:.3f}"
        same = "-" if row["partners"] is None else f"{row['partners']:.0%}"
        times = "".join(f"{_time(row['threads'][n]):>15}" for n in counts)
        first = row["threads"][counts[0]]
        memory = f"{first['memory_mb']:.0f}" if first else "-"
        lines.append(f"{name:<{NAMED}}{size:>6}{ap:>7}{same:>6}{times}{memory:>7}")
        lines += [ONE_THREAD] * row.get("one_thread", False)
    return lines


def _time(measured: Mapping[str, float] | None) -> str:
    """Median and half the distance of the quartiles."""
    if measured is None:
        return "-"
    return f"{measured['ms']:.1f} ±{(measured['high'] - measured['low']) / 2:.1f}"


def write(rows: Sequence[Mapping[str, Any]], images: int, folder: Path) -> None:
    """Writes `benchmark.json` and `benchmark.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"images": images, "models": list(rows), **provenance.collect()}
    write_json(folder / "benchmark.json", json.loads(json.dumps(about)))
    counts = list(rows[0]["threads"])
    plain = ["name", "kind", "bytes", "AP", "partners", "largest_score_difference"]
    figures = [(n, key) for n in counts for key in ("ms", "low", "high", "memory_mb")]
    columns = [*plain, *(f"{key}_{n}" for n, key in figures)]
    lines = [
        [*(row[key] for key in plain), *((row["threads"][n] or {}).get(key, "") for n, key in figures)] for row in rows
    ]
    write_csv(folder / "benchmark.csv", columns, lines)
