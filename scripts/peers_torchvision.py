"""Trains a detector of torchvision for so many minutes of processor time, and writes what it finds on test.

Usage: PYTHON peers_torchvision.py NAME DATA OUT.json [--minutes 20] [--seed 0]
DATA is a folder that `detect convert to=coco` made. OUT.json is a file of COCO's results, which
`detect evaluate detections=OUT.json` scores. OUT.pt has the weights. PYTHON is an environment with torch 2.14.1,
torchvision 0.29.1 and faster-coco-eval.

The optimiser, the schedule and the augmentation are those that torchvision's own training scripts name for the network.
The rate is scaled with the batch size. All weights start at random. The best of five checkpoints by AP on val is kept.
"""

import argparse
import io
import json
import math
import time
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_image
from torchvision.models import detection
from torchvision.transforms import v2

CHECKPOINTS = 5


class Split(torch.utils.data.Dataset):
    """The images and boxes of a split, with the transforms of training or without."""

    def __init__(self, data: Path, split: str, transform: v2.Transform | None = None):
        self.truth = json.loads((data / "annotations" / f"{split}.json").read_text(encoding="utf-8"))
        self.folder, self.transform = data / "images", transform
        self.numbers = [row["id"] for row in self.truth["categories"]]
        self.boxes: dict[object, list[tuple[list[float], int]]] = {}
        for row in self.truth["annotations"]:
            if not row["iscrowd"]:
                box = (row["bbox"], self.numbers.index(row["category_id"]) + 1)
                self.boxes.setdefault(row["image_id"], []).append(box)

    def __len__(self) -> int:
        return len(self.truth["images"])

    def __getitem__(self, place: int) -> tuple[torch.Tensor, dict]:
        row = self.truth["images"][place]
        image = tv_tensors.Image(decode_image(str(self.folder / row["file_name"]), ImageReadMode.RGB))
        boxes = self.boxes.get(row["id"], [])
        corners = torch.tensor([[x, y, x + w, y + h] for (x, y, w, h), _ in boxes], dtype=torch.float32).reshape(-1, 4)
        target = {
            "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=image.shape[-2:]),
            "labels": torch.tensor([kind for _, kind in boxes], dtype=torch.int64),
        }
        return self.transform(image, target) if self.transform else (v2.functional.to_dtype(image, scale=True), target)


def ready(*transforms: v2.Transform) -> v2.Compose:
    """Transforms, after which an image is float32 in 0..1 and boxes without area are gone."""
    return v2.Compose([*transforms, v2.ToDtype(torch.float32, scale=True), v2.SanitizeBoundingBoxes()])


NETWORKS = {  # network, batch, rate for that batch, weight decay, linear warm-up, transforms
    "ssdlite320_mobilenet_v3_large": (
        lambda classes: detection.ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=classes + 1
        ),
        (8, 0.15 * 8 / 192, 4e-5),
        ready(v2.RandomIoUCrop(), v2.RandomHorizontalFlip()),
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (
        lambda classes: detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=classes + 1
        ),
        (4, 0.02 * 4 / 16, 1e-4),
        ready(v2.RandomHorizontalFlip()),
    ),
}


def detect(model: torch.nn.Module, split: Split) -> list[dict]:
    """COCO's results of a split."""
    model.eval()
    results = []
    with torch.inference_mode():
        for row, (image, _) in zip(split.truth["images"], split, strict=True):
            found = model([image])[0]
            for box, score, kind in zip(*(found[key].tolist() for key in ("boxes", "scores", "labels")), strict=True):
                bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
                number = split.numbers[kind - 1]
                results.append({"image_id": row["id"], "category_id": number, "bbox": bbox, "score": score})
    model.train()
    return results


def average_precision(split: Split, results: list[dict]) -> float:
    """AP of a split."""
    from faster_coco_eval import COCO, COCOeval_faster

    if not results:
        return 0.0
    with redirect_stdout(io.StringIO()):
        truth = COCO(split.truth)
        scored = COCOeval_faster(truth, truth.loadRes(results), "bbox")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return float(scored.stats[0])


def main() -> None:
    """Trains, prints a line at each checkpoint, and writes the file of results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NETWORKS)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0, help="of processor time, scoring on val aside")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    build, (batch, rate, decay), transform = NETWORKS[options.name]
    train, val, test = (
        Split(options.data, name, transform if name == "train" else None) for name in ("train", "val", "test")
    )
    model = build(len(train.numbers)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    loader = torch.utils.data.DataLoader(
        train, batch, shuffle=True, drop_last=True, collate_fn=lambda rows: tuple(zip(*rows, strict=True))
    )
    budget, aside, steps, best, kept, scored = 60 * options.minutes, time.process_time(), 0, -1.0, None, 0
    while scored < CHECKPOINTS:
        for images, targets in loader:
            spent = min(
                (time.process_time() - aside) / budget, 1.0
            )  # the share of the time is the place in the schedule
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, 20 * spent + 0.01) * (0.5 + 0.5 * math.cos(math.pi * spent))
            loss = sum(model(list(images), list(targets)).values())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            steps += 1
            if int(spent * CHECKPOINTS) > scored:
                scored, began = int(spent * CHECKPOINTS), time.process_time()
                precision = average_precision(val, detect(model, val))
                print(
                    f"step {steps}, {spent:.0%} of the time: loss {float(loss.detach()):.3f}, val AP {precision:.3f}",
                    flush=True,
                )
                if precision > best:
                    best, kept = precision, {name: value.clone() for name, value in model.state_dict().items()}
                aside += time.process_time() - began
            if scored == CHECKPOINTS:
                break
    model.load_state_dict(kept)
    about = {"name": options.name, "classes": len(train.numbers), "weights": kept}
    torch.save(about, options.output.with_suffix(".pt"))
    options.output.write_text(json.dumps(detect(model, test)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
