"""Trains detectors of this program and of others for the same processor time, and scores all with the same evaluator.

Usage: python scripts/peers.py PYTHON OUT [--minutes 20] [--seeds 0 1] [--init CHECKPOINT] [--only NAME ...]
PYTHON is an environment with torch, torchvision, ultralytics and faster-coco-eval (see the scripts of the programs).
OUT has a folder for each data set, with `coco` and `yolo` inside, which `detect convert` made. CHECKPOINT has ImageNet
weights of MobileNet v1. Without it, networks that start from them are left out.

Each program is used as its own documentation tells: this one with what `detect advise` proposes for the data, the
others with the settings of their own training scripts. Two cells run at a time, with one thread each. A cell that
ended is not run again. `peers_speed.py` adds size and speed. `detect report runs=OUT rows=measured` makes the table.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from detect.files import write_json
from detect.runs import provenance
from detect.runs.folder import MEASURED, RunFolder
from detect.studies.csv_file import NO_FIGURE

SCRIPTS = Path(__file__).parent
DETECT = (sys.executable, "-m", "detect.cli")
CELL, RESULTS, RUN, SPEED = "cell.json", "results.json", "run", "speed.json"
SPEEDS = ("MB", "ms", "int8 AP", "int8 MB", "int8 ms")
"""Columns of `peers_speed.py`."""
TORCHVISION, ULTRALYTICS = "torchvision", "ultralytics"


@dataclass(frozen=True)
class Entrant:
    """A detector of a program. settings: overrides of `detect advise`, or the name that the program's script takes."""

    name: str
    program: str
    settings: tuple[str, ...]
    weights: str = "random"

    @property
    def folder(self) -> str:
        return f"{self.name} {self.weights}".replace(" ", "_").lower()


FASTER_RCNN = (  # as torchvision's: two layers, 150 proposals, 100 boxes an image
    *("detector=faster_rcnn", "detector/box_head=two_fc", "backbone=mobilenet_v1", "detector.box_sampler.size=32"),
    *("detector.proposals.count=150", "detector.postprocess.total=100"),
)
ENTRANTS = (
    Entrant("SSD MobileNet v1", "detect", ("detector=ssd", "backbone=mobilenet_v1"), "ImageNet"),
    Entrant("SSD MobileNet v1", "detect", ("detector=ssd", "backbone=mobilenet_v1")),
    Entrant("SSDLite MobileNet v2", "detect", ("detector=ssdlite", "backbone=mobilenet_v2")),
    Entrant("Faster R-CNN MobileNet v1", "detect", FASTER_RCNN, "ImageNet"),
    Entrant("Faster R-CNN MobileNet v1", "detect", FASTER_RCNN),
    Entrant("SSDLite320 MobileNet v3", TORCHVISION, ("ssdlite320_mobilenet_v3_large",)),
    Entrant("Faster R-CNN MobileNet v3 320 FPN", TORCHVISION, ("fasterrcnn_mobilenet_v3_large_320_fpn",)),
    Entrant("YOLOv8n", ULTRALYTICS, ("yolov8n",)),
    Entrant("YOLO11n", ULTRALYTICS, ("yolo11n",)),
)


@dataclass(frozen=True)
class Cell:
    """A training. data: a folder with `coco` and `yolo`."""

    entrant: Entrant
    data: Path
    seed: int

    @property
    def group(self) -> Path:
        """The folder of all seeds."""
        return self.data / self.entrant.folder

    @property
    def folder(self) -> Path:
        return self.group / f"seed_{self.seed}"

    @property
    def ended(self) -> bool:
        return (self.folder / CELL).exists()

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def train(self, options: argparse.Namespace) -> None:
        """Trains and scores, and writes the cell's file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.entrant.program == "detect":
            scores, minutes = self._ours(options)
        else:
            script = SCRIPTS / f"peers_{self.entrant.program}.py"
            data = self.data / {TORCHVISION: "coco", ULTRALYTICS: "yolo"}[self.entrant.program]
            found, asked = self.folder / RESULTS, ("--minutes", str(options.minutes), "--seed", str(self.seed))
            minutes = run(self.log, options.python, script, *self.entrant.settings, data, found, *asked)
            scores = score(self.log, found, self.data / "coco")
        write_json(self.folder / CELL, {"scores": scores, "minutes": minutes})

    def _ours(self, options: argparse.Namespace) -> tuple[dict, float]:
        """Scores on test, and minutes of processor time. All seeds have the experiment of the first."""
        budget, advice, place = (f"minutes={options.minutes}", "threads=1"), self.group / "advice", self.folder / RUN
        if not advice.exists():
            init = f"init={options.init}" if self.entrant.weights == "ImageNet" else "init=none"
            data = f"dataset.root={self.data / 'coco'}"
            run(self.log, *DETECT, "advise", data, init, *self.entrant.settings, *budget, f"output={advice}")
        shutil.rmtree(place, ignore_errors=True)  # of a cell that was cut off: its minutes are not known
        given = ("--config-dir", advice, "experiment=advised", *budget, f"seed={self.seed}", f"hydra.run.dir={place}")
        minutes = run(self.log, *DETECT, "train", *given)
        return json.loads(RunFolder(place).summary.read_text(encoding="utf-8"))["scores"]["test"], minutes


def run(log: Path, *command: object) -> float:
    """Minutes of processor time of a command. Its output goes into a file."""
    words = [str(word) for word in command]
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, env=os.environ | {"OMP_NUM_THREADS": "1"})
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}: see {log}")
    return (used.ru_utime + used.ru_stime) / 60


def score(log: Path, results: Path, coco: Path) -> dict:
    """The scores of a file of results on test."""
    folder = results.parent / f"evaluation_{results.stem}"
    run(log, *DETECT, "evaluate", f"detections={results}", f"dataset.root={coco}", f"output={folder}")
    return json.loads((folder / "test_scores.json").read_text(encoding="utf-8"))


def rows(cells: list[Cell]) -> dict[str, dict[str, object]]:
    """What a study is called -> the columns of an entrant on a data set, from its cells that ended."""
    ended = [json.loads((cell.folder / CELL).read_text(encoding="utf-8")) for cell in cells]
    entrant, precisions = cells[0].entrant, [one["scores"]["AP"] for one in ended]
    speed, classes = cells[0].group / SPEED, ended[0]["scores"]["per_class"]
    speeds = json.loads(speed.read_text(encoding="utf-8")) if speed.exists() else {}
    names = {
        "data": cells[0].data.name,
        "program": entrant.program,
        "detector": entrant.name,
        "weights": entrant.weights,
    }
    scores = {
        "AP": round(fmean(precisions), 4),
        "AP of each seed": " ".join(f"{ap:.3f}" for ap in precisions),
        "AP50": round(fmean(one["scores"]["AP50"] for one in ended), 4),
        **{f"{name} AP": round(fmean(one["scores"]["per_class"][name]["AP"] for one in ended), 4) for name in classes},
        "CPU minutes": round(fmean(one["minutes"] for one in ended), 1),
    }
    files = {column: speeds.get(column, NO_FIGURE) for column in SPEEDS}
    return {"accuracy": names | scores} | ({"files": names | files} if speeds else {})


def main() -> None:
    """Runs the cells that are left, seed by seed, and writes a row for each entrant and data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0, help="of processor time")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--init", type=Path)
    parser.add_argument("--only", nargs="+", choices=[one.folder for one in ENTRANTS])
    options = parser.parse_args()
    options.python = options.python.absolute()
    datasets = [path.parent.absolute() for path in sorted(options.out.glob("*/coco"))]
    cells = [
        Cell(entrant, data, seed)
        for seed in options.seeds
        for data in datasets
        for entrant in ENTRANTS
        if (options.init or entrant.weights == "random") and (not options.only or entrant.folder in options.only)
    ]
    left = [cell for cell in cells if not cell.ended]
    with ThreadPoolExecutor(2) as pool:
        for cell, _ in zip(left, pool.map(lambda cell: cell.train(options), left), strict=True):
            print(f"{cell.data.name}, {cell.group.name}, seed {cell.seed}: ended", flush=True)
    for group in {cell.group for cell in cells if cell.ended}:
        ended = [cell for cell in cells if cell.group == group and cell.ended]
        for study, columns in rows(ended).items():
            folder = group / f"{group.parent.name}_{study}"  # a report tells records apart by the last two folders
            folder.mkdir(exist_ok=True)
            write_json(folder / MEASURED, {"columns": columns, "study": study, **provenance.collect()})


if __name__ == "__main__":
    main()
