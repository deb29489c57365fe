"""scripts/pi_detect.py finds what the interpreter finds, and imports nothing of this package."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect.tflite import package
from detect.tflite.runner import Runner

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "pi_detect.py"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """The script in a process that refuses to import this package or TensorFlow."""
    guard = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(('detect', 'tensorflow', 'cv2')))\n"
        f"sys.argv = {['pi_detect.py', *map(str, words)]!r}\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    return subprocess.run([sys.executable, "-c", guard], capture_output=True, text=True, timeout=120, cwd="/")


@pytest.mark.parametrize("quantize", ["none", "ptq"])
def test_it_prints_what_is_found(tiny, settings, frames, tmp_path, quantize):
    model, photo = tmp_path / "model.tflite", tmp_path / "photo.png"
    model.write_bytes(package.build(tiny.model, settings, package.Options(quantize, nms="in_graph"), frames).content)
    Image.fromarray(frames[0]).save(photo)  # it has the size of the frame
    outputs = Runner(model)(frames[0])
    count = int(outputs["num_detections"][0])
    done = run(model, photo, "--score", 0, "--threads", 1)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first.startswith(f"{photo}: {count} objects, ") and len(lines) == count
    boxes = outputs["detection_boxes"][0, :count] * np.array([32, 48, 32, 48])
    for line, (top, left, bottom, right), kind, score in zip(
        lines, boxes, outputs["detection_classes"][0], outputs["detection_scores"][0], strict=False
    ):
        name, told, *box = line.split()
        assert (name, told) == (settings.classes[int(kind)], f"{score:.2f}")
        np.testing.assert_allclose(list(map(int, box)), [left, top, right, bottom], atol=0.51)


def test_raw_heads_are_refused(files, tmp_path):
    model = tmp_path / "model.tflite"
    model.write_bytes(files["int8"].content)
    done = run(model, model)
    assert done.returncode == 1 and "export it with nms=in_graph" in done.stderr


@pytest.mark.parametrize("resize", ["stretch", "keep_aspect"])
def test_a_photograph_that_lies_on_its_side(tiny, settings, frames, tmp_path, resize):
    """Boxes are in pixels of the upright picture, and are those of the interpreter on its frame."""
    settings = replace(settings, resize=resize, nms="in_graph")
    model = tmp_path / "model.tflite"
    model.write_bytes(package.build(tiny.model, settings, package.Options(nms="in_graph"), frames).content)
    upright = np.asarray(Image.fromarray(frames[0]).resize((24, 32)))
    Image.fromarray(upright).save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the right side of the picture comes first
    Image.fromarray(np.rot90(upright)).save(tmp_path / "turned.png", exif=exif)
    plain, turned = (
        run(model, tmp_path / f"{name}.png", "--score", 0, "--threads", 1) for name in ("upright", "turned")
    )
    lines = turned.stdout.splitlines()[1:]
    assert lines == plain.stdout.splitlines()[1:] and lines
    frame = np.zeros((32, 48, 3), np.uint8)
    width = 24 if resize == "keep_aspect" else 48
    frame[:, :width] = Image.fromarray(upright).resize((width, 32), Image.Resampling.BILINEAR)
    outputs = Runner(model)(frame)
    shares = outputs["detection_boxes"][0, : int(outputs["num_detections"][0])]
    boxes = np.clip(shares * [1, 48 / width, 1, 48 / width], 0, 1) * [32, 24, 32, 24]
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    found = np.array([line.split()[2:] for line in lines], int)
    np.testing.assert_allclose(found, boxes[:, [1, 0, 3, 2]], atol=0.51)
