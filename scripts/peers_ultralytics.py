"""Trains a YOLO of ultralytics for so many minutes of processor time, and writes what it finds on test.

Usage: PYTHON peers_ultralytics.py NAME DATA OUT.json [--minutes 20] [--seed 0] [--size 320]
NAME is a network such as yolo11n. DATA is a folder that `detect convert to=yolo` made. OUT.json is a file of COCO's
results, which `detect evaluate detections=OUT.json` scores. OUT.pt has the weights. PYTHON is an environment with
ultralytics 8.4.190, whose licence is AGPL-3.0: nothing of `detect` imports it.

The settings are the program's own, but for the size, one thread, no workers, and the time. All weights start at random.
The processor time of the second epoch gives the number of epochs. The best checkpoint on val is the program's choice.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import torch
from ultralytics import YOLO, settings

PROTOCOL = {"device": "cpu", "workers": 0, "pretrained": False, "plots": False, "verbose": False, "exist_ok": True}


def results(model: YOLO, data: Path, size: int) -> list[dict]:
    """COCO's results of test."""
    rows = []
    for path in sorted(file for file in (data / "images" / "test").rglob("*") if file.is_file()):
        found = model.predict(str(path), imgsz=size, conf=0.001, device="cpu", verbose=False)[0].boxes
        for (x, y, w, h), score, kind in zip(found.xywh.tolist(), found.conf.tolist(), found.cls.tolist(), strict=True):
            bbox = [x - w / 2, y - h / 2, w, h]
            rows.append({"file_name": path.name, "category": model.names[int(kind)], "bbox": bbox, "score": score})
    return rows


def main() -> None:
    """Trains, and writes the file of results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0, help="of processor time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=320)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings.update({"sync": False})
    shared = PROTOCOL | {"data": str(options.data / "data.yaml"), "imgsz": options.size, "seed": options.seed}
    with tempfile.TemporaryDirectory() as temporary:
        used: list[float] = []
        tried = YOLO(f"{options.name}.yaml")
        tried.add_callback("on_train_epoch_end", lambda _: used.append(time.process_time()))
        tried.train(**shared, project=temporary, name="tried", epochs=2)
        epochs = max(1, round(60 * options.minutes / (used[1] - used[0])))
        print(f"{used[1] - used[0]:.1f} s an epoch: {epochs} epochs")
        began = time.process_time()
        model = YOLO(f"{options.name}.yaml")
        model.train(**shared, project=temporary, name="run", epochs=epochs, val=True)
        print(f"{(time.process_time() - began) / 60:.1f} minutes of processor time, with scoring on val")
        shutil.copy(Path(temporary, "run", "weights", "best.pt"), options.output.with_suffix(".pt"))
        found = results(model, options.data, options.size)
    options.output.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
