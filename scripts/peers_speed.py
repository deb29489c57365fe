"""Exports what `peers.py` trained to int8, and times one image of each detector in turns, on one thread.

Usage: python scripts/peers_speed.py PYTHON OUT [--rounds 5]
Takes the first seed of each detector. `detect` exports TFLite files of an SSD, and a SavedModel of a Faster R-CNN.
That has no int8 file. ultralytics exports an OpenVINO model. torchvision has no export of its detectors to int8. Run
`peers.py` again afterwards: it puts the figures beside the scores.
"""

import argparse
import json
import sys
from pathlib import Path

from bench_inference import compare
from peers import DETECT, ENTRANTS, FASTER_RCNN, RESULTS, RUN, SPEED, ULTRALYTICS, Cell, run, score

from detect.files import write_json
from detect.runs.folder import EXPORT, TFLITE_MODEL

HERE = Path(__file__).parent
FORMATS = {"": "none", "int8 ": "ptq"}
"""Prefixes of columns, and `quantize=` of their export."""


def ours(cell: Cell) -> tuple[dict[str, float], dict[str, list[str]]]:
    """AP and size of the exported files, and the programs that detect with them."""
    figures, programs = {}, {}
    kind = "saved_model" if cell.entrant.settings == FASTER_RCNN else "tflite"
    for prefix, quantize in FORMATS.items() if kind == "tflite" else [("", "none")]:
        folder = cell.group / f"{kind}_{quantize}"
        if not folder.exists():
            what = (f"run={cell.folder / RUN}", f"format={kind}", f"quantize={quantize}")
            run(cell.log, *DETECT, "export", *what, f"output={folder}", "timings=1")
        about = json.loads((folder / EXPORT).read_text(encoding="utf-8"))
        figures |= {f"{prefix}AP": round(about["scores"]["file"]["AP"], 4)} if prefix else {}
        figures[f"{prefix}MB"] = round(about["bytes"] / 1e6, 2)
        programs[prefix] = [
            sys.executable,
            str(HERE / "detect_step.py"),
            str(folder / TFLITE_MODEL if kind == "tflite" else folder),
            "1",
        ]
    return figures, programs


def theirs(cell: Cell, python: str) -> tuple[dict[str, float], dict[str, list[str]]]:
    """The same of another program."""
    weights, program = (cell.folder / RESULTS).with_suffix(".pt"), cell.entrant.program
    figures = {"MB": round(weights.stat().st_size / 1e6, 2)}
    programs = {"": [python, str(HERE / "peers_step.py"), program, str(weights)]}
    if program == ULTRALYTICS:
        results, model = cell.folder / "int8.json", weights.with_name(f"{weights.stem}_int8_openvino_model")
        if not results.exists():
            run(cell.log, python, HERE / "peers_int8.py", weights, cell.data / "yolo", results)
        figures["int8 AP"] = round(score(cell.log, results, cell.data / "coco")["AP"], 4)
        figures["int8 MB"] = round(sum(file.stat().st_size for file in model.iterdir()) / 1e6, 2)
        programs["int8 "] = [python, str(HERE / "peers_step.py"), program, str(model)]
    return figures, programs


def main() -> None:
    """Writes a file for each detector and data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for data in sorted(path.parent.absolute() for path in options.out.glob("*/coco")):
        cells = [cell for entrant in ENTRANTS if (cell := Cell(entrant, data, 0)).ended]
        figures, programs = {}, {}
        for cell in cells:
            of_detect = cell.entrant.program == "detect"
            figures[cell], commands = ours(cell) if of_detect else theirs(cell, options.python)
            programs |= {f"{prefix}{cell.entrant.folder}": command for prefix, command in commands.items()}
        times = compare(programs, options.rounds)
        for cell in cells:
            for prefix in FORMATS:
                side = times.get(f"{prefix}{cell.entrant.folder}")
                figures[cell] |= {f"{prefix}ms": side["milliseconds"]} if side else {}
            write_json(cell.group / SPEED, figures[cell])


if __name__ == "__main__":
    main()
