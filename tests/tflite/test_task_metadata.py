"""TFLite Metadata: read without MediaPipe, field by field, and by MediaPipe where it is installed."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from flatbuffers import encode, number_types
from flatbuffers.table import Table

from detect.tflite import detection_output, flatbuffer, package, tables, task_metadata
from detect.tflite.runner import Runner


class Reader:
    """A table of a flatbuffer by the numbers of its fields; independent of `detect.tflite.tables`."""

    def __init__(self, content: bytes, place: int | None = None):
        self.content = content
        root = encode.Get(number_types.UOffsetTFlags.packer_type, content, 0) if place is None else place
        self.table = Table(content, root)

    def _field(self, number: int) -> int:
        offset = self.table.Offset(4 + 2 * number)
        return offset and offset + self.table.Pos

    def text(self, number: int) -> str:
        return self.table.String(self._field(number)).decode()

    def number(self, number: int, flags=number_types.Int8Flags):
        place = self._field(number)
        return self.table.Get(flags, place) if place else 0

    def numbers(self, number: int, kind: str) -> list:
        start, count = self._vector(number)
        return np.frombuffer(self.content, kind, count, start).tolist()

    def child(self, number: int) -> "Reader":
        return Reader(self.content, self.table.Indirect(self._field(number)))

    def children(self, number: int) -> list["Reader"]:
        start, count = self._vector(number)
        return [Reader(self.content, self.table.Indirect(start + 4 * i)) for i in range(count)]

    def _vector(self, number: int) -> tuple[int, int]:
        offset = self.table.Offset(4 + 2 * number)
        return (self.table.Vector(offset), self.table.VectorLen(offset)) if offset else (0, 0)


def built(tiny, settings, frames, nms: str, kind: str) -> bytes:
    options = package.Options("ptq" if kind == "int8" else "none", nms=nms)
    return package.build(tiny.model, settings, options, frames).content


@pytest.fixture(scope="module")
def with_ends(tiny, settings, frames):
    """{nms, kind: file} of two forms that have detections."""
    kinds = [("tflite_op", "float32"), ("in_graph", "int8")]
    return {form: built(tiny, settings, frames, *form) for form in kinds}


def metadata_of(content: bytes) -> Reader:
    entry = flatbuffer.metadata(flatbuffer.read(content))["TFLITE_METADATA"]
    assert entry[4:8] == b"M001"
    return Reader(entry)


def test_the_image_is_rgb_without_normalisation(with_ends):
    for content in with_ends.values():
        root = metadata_of(content)
        (graph,) = root.children(3)
        (image,) = graph.children(2)
        assert (root.text(0), root.text(7), image.text(0)) == ("ObjectDetector", "1.0.0", "image")
        content_of = image.child(3)
        assert content_of.number(0, number_types.Uint8Flags) == 2  # ImageProperties
        properties = content_of.child(1)
        assert properties.number(0) == 1  # RGB
        size = properties.child(1)
        assert [size.number(i, number_types.Uint32Flags) for i in (0, 1)] == [48, 32]  # width, height
        (unit,) = image.children(4)
        assert unit.number(0, number_types.Uint8Flags) == 1  # NormalizationOptions
        assert (unit.child(1).numbers(0, "<f4"), unit.child(1).numbers(1, "<f4")) == ([0.0], [1.0])


def test_the_outputs_are_those_of_a_detector(with_ends):
    for content in with_ends.values():
        (graph,) = metadata_of(content).children(3)
        ends = graph.children(3)
        assert [end.text(0) for end in ends] == ["location", "category", "score", "number of detections"]
        model = flatbuffer.read(content)
        names = {int(index): name for name, index in flatbuffer.ends(model)[1].items()}
        assert [names[int(i)] for i in model.subgraphs[0].outputs] == list(detection_output.OUTPUTS)
        box = ends[0].child(3)
        assert box.number(0, number_types.Uint8Flags) == 3  # BoundingBoxProperties
        assert box.child(1).numbers(0, "<u4") == [1, 0, 3, 2]  # xmin is number 1 of ymin, xmin, ymax, xmax
        assert (box.child(1).number(1), box.child(1).number(2)) == (1, 0)  # BOUNDARIES, RATIO
        (labels,) = ends[1].children(6)
        assert (labels.text(0), labels.number(2)) == ("labels.txt", 3)  # TENSOR_VALUE_LABELS


def test_the_labels_are_an_archive_behind_the_file(with_ends, settings):
    with zipfile.ZipFile(io.BytesIO(with_ends["in_graph", "int8"])) as archive:
        assert (archive.namelist(), archive.read("labels.txt")) == (["labels.txt"], b"cat\ndog")
    named = replace(settings, classes=("Käse", "two\nlines"))
    with zipfile.ZipFile(io.BytesIO(task_metadata.with_labels(b"x" * 100, named))) as archive:
        assert archive.read("labels.txt").decode().splitlines() == ["Käse", r"two\nlines"]
    assert task_metadata.with_labels(b"x", settings) == task_metadata.with_labels(b"x", settings)


def test_raw_heads_name_their_outputs(files):
    (graph,) = metadata_of(files["int8"].content).children(3)
    assert [end.text(0) for end in graph.children(3)] == ["codes", "logits"]
    (labels,) = graph.children(4)
    assert (labels.text(0), labels.number(2)) == ("labels.txt", 1)


def test_objections(settings):
    assert task_metadata.objections(settings.with_nms("in_graph"), "uint8") == []
    assert task_metadata.objections(settings.with_nms("tflite_op"), "float32") == []
    found = task_metadata.objections(replace(settings, resize="keep_aspect"), "int8")
    assert [line.split(":")[0] for line in found] == ["nms=none", "input=int8", "detector.resize=keep_aspect"]


def test_every_kind_of_field():
    content = tables.write(
        {
            0: "name",
            1: np.bool_(True),
            3: {2: np.uint32(7)},
            4: np.array([1, 2], np.uint8),
            5: [{0: "a"}, {}],
            6: np.float32(0.5),
        },
        b"TEST",
    )
    root = Reader(content)
    assert (content[4:8], root.text(0), root.number(1, number_types.BoolFlags)) == (b"TEST", "name", True)
    assert (root.child(3).number(2, number_types.Uint32Flags), root.numbers(4, "u1")) == (7, [1, 2])
    assert (root.children(5)[0].text(0), len(root.children(5))) == ("a", 2)
    assert root.number(6, number_types.Float32Flags) == 0.5
    assert root.number(2) == 0


@pytest.fixture(scope="module")
def mediapipe():
    return pytest.importorskip("mediapipe", reason="MediaPipe is not installed: pip install mediapipe")


def found_by_mediapipe(mediapipe, content: bytes, image: np.ndarray):
    vision, base = mediapipe.tasks.vision, mediapipe.tasks.BaseOptions
    options = vision.ObjectDetectorOptions(base_options=base(model_asset_buffer=content))
    with vision.ObjectDetector.create_from_options(options) as detector:
        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
        return detector.detect(picture).detections


@pytest.mark.parametrize("nms", ["tflite_op", "in_graph"])
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_mediapipe_finds_the_same(mediapipe, with_ends, tiny, settings, frames, nms, kind):
    """Frames have the size of the network, because MediaPipe resizes in another way. It cuts the fractions of corners
    and sides off, and gives equal boxes of two classes as one detection of two categories. A corner outside the image,
    which `tflite_op` leaves, is moved to 0 without its opposite: such boxes are left out here.
    """
    content = with_ends[nms, kind] if (nms, kind) in with_ends else built(tiny, settings, frames, nms, kind)
    runner = Runner(content)
    for frame in frames:
        outputs = runner(frame)
        count = int(outputs["num_detections"][0])
        boxes = outputs["detection_boxes"][0, :count] * np.array([32, 48, 32, 48])
        kinds, scores = (outputs[f"detection_{name}"][0, :count] for name in ("classes", "scores"))
        theirs = [(c.score, c.category_name, d.bounding_box)
                  for d in found_by_mediapipe(mediapipe, content, frame) for c in d.categories]  # fmt: skip
        assert len(theirs) == count > 0
        partners = 0
        for box, kind_of, score in zip(boxes, kinds, scores, strict=True):
            same = [b for s, name, b in theirs if abs(s - score) < 2e-6 and name == settings.classes[int(kind_of)]]
            sides = [np.array([b.origin_y, b.origin_x, b.origin_y + b.height, b.origin_x + b.width]) for b in same]
            partners += bool(same) and (box.min() < 0 or min(np.abs(side - box).max() for side in sides) < 2)
        # It joins classes of an equal box in an order that is not fixed where int8 scores tie.
        assert partners == count if kind == "float32" else partners >= 0.9 * count


@pytest.mark.parametrize(
    "options, told",
    [
        (package.Options(), "BoundingBoxProperties"),
        (package.Options("ptq", nms="in_graph", takes="int8"), "got INT8"),
    ],
)
def test_what_mediapipe_refuses(mediapipe, tiny, settings, frames, options, told):
    """These are what `objections` tells before."""
    content = package.build(tiny.model, settings, options, frames).content
    assert task_metadata.objections(settings.with_nms(options.nms), options.takes)
    with pytest.raises(Exception, match=told):
        found_by_mediapipe(mediapipe, content, frames[0])
