"""Exports a YOLO that `peers_ultralytics.py` trained to int8, with the program's own exporter, and detects in test.

Usage: PYTHON peers_int8.py OUT.pt DATA INT8.json [--size 320]
DATA is a folder that `detect convert to=yolo` made: the exporter measures ranges on its images of val. The model is an
OpenVINO folder beside OUT.pt. INT8.json is a file of COCO's results. PYTHON has ultralytics, openvino and nncf.
"""

import argparse
import json
from pathlib import Path

from peers_ultralytics import results
from ultralytics import YOLO


def main() -> None:
    """Exports, detects, and prints the folder of the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", type=int, default=320)
    options = parser.parse_args()
    data = str(options.data / "data.yaml")
    folder = YOLO(options.weights).export(format="openvino", int8=True, data=data, imgsz=options.size, device="cpu")
    found = results(YOLO(folder, task="detect"), options.data, options.size)
    options.output.write_text(json.dumps(found) + "\n", encoding="utf-8")
    print(folder)


if __name__ == "__main__":
    main()
