"""scripts/pi_detect.py finds what the interpreter finds, and imports nothing of this package."""

import struct
import subprocess
import sys
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect.geometry.frame import Frame
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


def test_what_is_no_model_of_this_program_is_one_message(tmp_path):
    (tmp_path / "photo.tflite").write_bytes(b"no archive")
    with zipfile.ZipFile(tmp_path / "bare.tflite", "w") as archive:
        archive.writestr("names.txt", "a")
    told = {"none": "can't read the model: No such file", "photo": "this is no TFLite", "bare": "this is no TFLite"}
    for name, said in told.items():
        done = run(tmp_path / f"{name}.tflite", tmp_path / "a.png")
        assert done.returncode == 1 and done.stderr.startswith(f"{tmp_path}/{name}.tflite: {said}"), done.stderr
        assert len(done.stderr.splitlines()) == 1


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


@pytest.fixture(scope="module")
def board(tiny, settings, frames, tmp_path_factory):
    """A file that ends with detections, for each resize."""
    folder = tmp_path_factory.mktemp("board")
    for resize in ("stretch", "zoo"):
        own = replace(settings, resize=resize, nms="in_graph")
        built = package.build(tiny.model, own, package.Options(nms="in_graph"), frames)
        (folder / f"{resize}.tflite").write_bytes(built.content)
    return folder


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[1:]


def test_a_detector_of_the_zoo_gets_the_frames_that_it_was_trained_on(board, tmp_path):
    """Its kernel takes single pixels of a large photograph, without a mean over their neighbours."""
    photo = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    frame = np.rint(Frame((32, 48), "zoo").fit(photo)).astype(np.uint8)
    Image.fromarray(frame).save(tmp_path / "frame.png")
    large, small = (
        told(run(board / "zoo.tflite", tmp_path / f"{name}.png", "--score", 0)) for name in ("photo", "frame")
    )
    assert large and [line.split()[:2] for line in large] == [line.split()[:2] for line in small]
    found, wanted = (np.array([line.split()[2:] for line in lines], int) for lines in (large, small))
    np.testing.assert_allclose(found, wanted * 4, atol=4)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_grey_picture_of_sixteen_bits_keeps_its_levels(board, frames, tmp_path, bits):
    grey = np.sort(frames[0][..., 0].ravel()).reshape(32, 48)
    grey = np.rint((grey - grey.min()) / (grey.max() - grey.min()) * 255).astype(np.uint16)
    Image.fromarray(grey.astype(np.uint8)).convert("RGB").save(tmp_path / "plain.png")
    Image.fromarray(np.rint(grey / 255 * (2**bits - 1)).astype(np.uint16)).save(tmp_path / "deep.png")
    plain, deep = (told(run(board / "stretch.tflite", tmp_path / f"{n}.png", "--score", 0)) for n in ("plain", "deep"))
    assert plain and deep == plain


def test_one_bad_picture_does_not_end_the_others(board, frames, tmp_path):
    Image.fromarray(frames[0]).save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:200])
    (tmp_path / "empty.jpg").write_bytes(b"")
    size = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)  # more than Pillow opens
    chunk = struct.pack(">I", 13) + size + struct.pack(">I", zlib.crc32(size))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\x09IDAT" + bytes(13))
    names = ("good.png", "cut.png", "empty.jpg", "none.jpg", "bomb.png", "good.png")
    done = run(board / "stretch.tflite", *(tmp_path / name for name in names), "--score", 0.99)
    assert done.returncode == 1 and done.stdout.count("good.png: ") == 2 and "Traceback" not in done.stderr
    for name in names[1:5]:
        assert f"{name}: can't read the image: " in done.stderr
    assert "4 of 6 images could not be read" in done.stderr
