"""The peer of `train_step.py`: optimiser steps of a torchvision detector, with the same work and the same protocol.

Usage: PYTHON train_step_torchvision.py NAME BATCH SIZE (`make bench` makes a venv with torchvision)
On a GPU, it uses automatic mixed precision and channels last.
Prints a json line when it is ready; then, for each line N on standard input, takes N steps and prints their seconds.
"""

import resource
import sys
import time

import torch
import torchvision
from answering import answer
from torch import nn
from torchvision.models import detection

CLASSES = 20
BOXES = [[20.0, 20, 120, 150], [60, 80, 200, 220], [100, 30, 250, 140]]


class InceptionV3UntilMixed6e(nn.Sequential):
    """The stride-16 feature map of a Faster R-CNN."""

    def __init__(self):
        parts = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False).named_children()
        left_out = ("AuxLogits", "Mixed_7a", "Mixed_7b", "Mixed_7c", "avgpool", "dropout", "fc")
        super().__init__(*(part for name, part in parts if name not in left_out))
        self.out_channels = 768


def build(name: str, size: int) -> nn.Module:
    """`ssdlite_mobilenet_v3_large` (320 px), `ssd300_vgg16` (300 px) or `faster_rcnn_inception_v3` (any size)."""
    random = {"weights": None, "weights_backbone": None, "num_classes": CLASSES + 1}
    if name == "ssdlite_mobilenet_v3_large":
        return detection.ssdlite320_mobilenet_v3_large(**random)
    if name == "ssd300_vgg16":
        return detection.ssd300_vgg16(**random)
    return detection.FasterRCNN(
        InceptionV3UntilMixed6e(),
        num_classes=CLASSES + 1,
        min_size=size,
        max_size=size,
        rpn_anchor_generator=detection.rpn.AnchorGenerator(((64, 128, 256, 512),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0"], 7, 2),
        rpn_post_nms_top_n_train=300,
        box_batch_size_per_image=64,
    )


def count_macs(model: nn.Module, total: list[int]) -> None:
    """Adds to total[0] the multiply-accumulates of every convolution and linear layer that runs from now on."""

    def convolution(layer, _, output):
        total[0] += output.numel() * layer.weight[0].numel()

    def linear(layer, _, output):
        total[0] += output.numel() * layer.in_features

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(convolution)
        elif isinstance(layer, nn.Linear):
            layer.register_forward_hook(linear)


def main() -> None:
    """Builds, takes a first step, prints a description, then takes steps on request."""
    name, batch, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    start = time.perf_counter()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    model = build(name, size).train().to(device)
    if on_gpu:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images = [torch.rand(3, size, size, device=device) for _ in range(batch)]
    target = {"boxes": torch.tensor(BOXES, device=device), "labels": torch.tensor([1, 2, 3], device=device)}
    targets = [dict(target) for _ in range(batch)]
    scaler = torch.amp.GradScaler(enabled=on_gpu)
    macs = [0]
    count_macs(model, macs)

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.float16, enabled=on_gpu):
            loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if on_gpu:
            torch.cuda.synchronize()

    step()
    about = {
        "macs": macs[0] // batch,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds_to_first_step": round(time.perf_counter() - start, 1),
    }

    def used() -> dict[str, int | None]:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return {
            "peak_memory_mb": memory,
            "peak_gpu_memory_mb": torch.cuda.max_memory_allocated() >> 20 if on_gpu else None,
        }

    answer(about, step, used)


if __name__ == "__main__":
    main()
