"""Augmentation: boxes stay on their objects, never outnumber what came in, and only the seed decides."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from detect.data.augment import Augment, RandomIoUCrop
from detect.data.scale_jitter import ScaleJitter
from detect.errors import ConfigError, DataError
from detect.geometry.frame import Frame, resize

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "augment").glob("*.yaml"))
SIZE = (60, 80)
FRAME = Frame(SIZE)


def configured(path: Path) -> Augment:
    return instantiate(OmegaConf.load(path))


def noise(height=90, width=120, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def one(box, label=1):
    return np.array([box], np.float32), np.array([label], np.int32)


def test_without_transforms_it_is_a_resize():
    image, boxes, classes = Augment().apply(noise(), *one([9, 12, 45, 60], 3), FRAME, seed=1)
    np.testing.assert_array_equal(image, resize(noise(), SIZE))
    np.testing.assert_allclose(boxes, [[6, 8, 30, 40]])
    assert classes.tolist() == [3] and boxes.dtype == np.float32 and classes.dtype == np.int32


def test_flip_moves_image_and_box():
    image, boxes, _ = Augment({"flip": A.HorizontalFlip(p=1)}).apply(
        noise(60, 80), *one([5, 10, 20, 30]), FRAME, seed=0
    )
    np.testing.assert_array_equal(image, noise(60, 80)[:, ::-1])
    np.testing.assert_allclose(boxes, [[5, 50, 20, 70]])


@pytest.mark.parametrize("name", ["default", "ssd"])
def test_box_stays_on_its_object(name):
    """A white rectangle on black: after geometry and resize, the box is where the white is."""
    config = next(c for c in CONFIGS if c.stem == name)
    geometry = {k: t for k, t in configured(config).transforms.items() if isinstance(t, A.DualTransform)}
    geometry["zoom_out"].fill = 0  # grey would hide the edge
    augment = Augment(geometry, min_visibility=0.6)
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[60:180, 240:300] = 255
    moved = 0
    for seed in range(60):
        image, boxes, _ = augment.apply(picture, *one([60, 240, 180, 300]), Frame((150, 200)), seed)
        if len(boxes):
            rows, columns = np.nonzero(image[..., 0] > 127)
            seen = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
            np.testing.assert_allclose(boxes[0], seen, atol=1.1)
            moved += bool(np.abs(boxes[0] - [30, 120, 90, 150]).max() > 2)
    assert moved > 30


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.stem)
def test_same_seed_same_pixels_in_any_thread(config):
    augment = configured(config)
    boxes, classes = np.array([[10, 10, 40, 50], [60, 70, 80, 110]], np.float32), np.array([1, 2])

    def draw(seed):
        return augment.apply(noise(), boxes, classes, FRAME, seed)

    alone = [draw(seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, list(range(12)) * 3))
    for i, results in enumerate(together):
        for got, expected in zip(results, alone[i % 12], strict=True):
            np.testing.assert_array_equal(got, expected)
    if augment.transforms:
        assert len({a[0].tobytes() for a in alone}) > 8


def test_draws_of_different_transforms_are_independent():
    """albumentations' own set_random_seed would give 00 and 11 only."""
    augment = Augment({"flip": A.HorizontalFlip(p=0.5), "invert": A.InvertImg(p=0.5)})
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4] = 100
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    seen = [tuple(augment.apply(picture, *nothing, Frame((8, 8)), seed)[0][0, [0, 7], 0]) for seed in range(80)]
    counts = [seen.count(v) for v in [(100, 0), (0, 100), (155, 255), (255, 155)]]
    assert sum(counts) == 80 and min(counts) > 5


def test_colour_comes_after_the_resize():
    augment = Augment({"invert": A.InvertImg(p=1), "crop": A.CenterCrop(30, 40, p=1)})
    image, _, _ = augment.apply(noise(60, 80), *one([0, 0, 60, 80]), Frame((15, 20)), seed=0)
    np.testing.assert_array_equal(image, 255 - resize(noise(60, 80)[15:45, 20:60], (15, 20)))


def test_padding_comes_after_colour_and_holds_no_box():
    """A 60x80 image fills 15x20 of a 40x20 frame; the inverted picture has black below it, not white."""
    augment = Augment({"invert": A.InvertImg(p=1)})
    frame = Frame((40, 20), "keep_aspect")
    image, boxes, _ = augment.apply(noise(60, 80), *one([12, 20, 60, 80]), frame, seed=0)
    np.testing.assert_array_equal(image[:15], 255 - resize(noise(60, 80), (15, 20)))
    assert image.shape == (40, 20, 3) and not image[15:].any()
    np.testing.assert_allclose(boxes, [[3, 5, 15, 20]])


def test_a_crop_is_fitted_by_its_own_shape():
    """The right 60x30 of 60x80 keeps its aspect: 40x20 of the 40x40 frame; the box moves along."""
    augment = Augment({"crop": A.Crop(50, 0, 80, 60, p=1)}, min_visibility=0)
    image, boxes, _ = augment.apply(noise(60, 80), *one([30, 65, 60, 80]), Frame((40, 40), "keep_aspect"), seed=0)
    np.testing.assert_array_equal(image[:, :20], resize(noise(60, 80)[:, 50:], (40, 20)))
    assert not image[:, 20:].any()
    np.testing.assert_allclose(boxes, [[20, 10, 40, 20]])


def test_cut_and_small_boxes_are_dropped_with_their_labels_and_counted():
    """A centre crop to [20:40, 20:60] of 60x80 keeps .5 of the first box, .25 of the second, 1 px of the third."""
    boxes = np.array([[20, 10, 30, 30], [30, 50, 46, 80 - 5], [30, 30, 31, 40], [0, 0, 10, 10]], np.float32)
    augment = Augment({"crop": A.CenterCrop(20, 40, p=1)}, min_visibility=0.3, min_size=2)
    _, kept, classes = augment.apply(noise(60, 80), boxes, np.array([1, 2, 3, 4]), Frame((20, 40)), seed=0)
    np.testing.assert_allclose(kept, [[0, 0, 10, 10]], atol=1e-5)
    assert classes.tolist() == [1]
    assert augment.counts == {"boxes": 4, "cut": 2, "small": 1}


def test_box_safe_crop_keeps_all_boxes_whole():
    augment = Augment({"crop": A.BBoxSafeRandomCrop(p=1)}, min_visibility=0.95)
    boxes = np.array([[20, 20, 40, 50], [50, 60, 70, 90]], np.float32)
    for seed in range(40):
        assert augment.apply(noise(), boxes, np.array([1, 2]), FRAME, seed)[2].tolist() == [1, 2]
    assert augment.counts["cut"] == 0


def test_iou_crop_crops_and_keeps_an_object():
    augment = Augment({"crop": RandomIoUCrop(overlaps=(0.3,))}, min_visibility=0.3)
    results = [augment.apply(noise(), *one([20, 20, 70, 90]), FRAME, seed) for seed in range(40)]
    assert all(len(boxes) == 1 for _, boxes, _ in results)
    assert len({boxes.tobytes() for _, boxes, _ in results}) > 20


coordinates = st.lists(st.floats(-20, 140, width=32), min_size=2, max_size=2).map(sorted)
boxes_in_90x120 = st.lists(st.tuples(coordinates, coordinates).map(lambda s: [*zip(*s, strict=True)]), max_size=6)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.stem)
@given(boxes=boxes_in_90x120, seed=st.integers(0, 2**63))
@settings(max_examples=40)
def test_never_more_labels_than_boxes_and_boxes_inside(config, boxes, seed):
    augment = configured(config)
    classes = np.arange(1, len(boxes) + 1, dtype=np.int32)
    image, kept, labels = augment.apply(noise(), np.array(boxes, np.float32).reshape(-1, 4), classes, FRAME, seed)
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    assert kept.shape == (len(labels), 4) and len(labels) <= len(boxes)
    assert len(set(labels)) == len(labels) and set(labels) <= set(classes)
    assert np.all(kept >= 0) and np.all(kept <= (*SIZE, *SIZE))
    assert np.all(kept[:, 2:] - kept[:, :2] >= augment.min_size - 1e-3)
    assert augment.counts["boxes"] == len(boxes) == len(kept) + augment.counts["cut"] + augment.counts["small"]


def test_transform_that_drops_boxes_itself():
    holes = {"num_holes_range": (8, 8), "hole_height_range": (30, 30), "hole_width_range": (30, 30)}
    augment = Augment([A.CoarseDropout(**holes, p=1)])
    boxes = np.array([[5 * i, 5 * i, 5 * i + 9, 5 * i + 9] for i in range(12)], np.float32)
    _, kept, classes = augment.apply(noise(), boxes, np.arange(1, 13), FRAME, seed=2)
    assert 0 < len(kept) == len(classes) < 12
    for box, label in zip(kept, classes, strict=True):  # what is left of a box lies in the box
        whole = boxes[label - 1] * np.array([60 / 90, 80 / 120] * 2)
        assert np.all(box[:2] >= whole[:2] - 1e-3) and np.all(box[2:] <= whole[2:] + 1e-3)


def test_pickled_copy_draws_the_same():
    augment = configured(CONFIGS[1])
    first = augment.apply(noise(), *one([9, 12, 45, 60]), FRAME, seed=5)
    again = pickle.loads(pickle.dumps(augment)).apply(noise(), *one([9, 12, 45, 60]), FRAME, seed=5)
    np.testing.assert_array_equal(first[0], again[0])


def test_messages():
    with pytest.raises(ConfigError, match=r"augment\.transforms\.flip is 3: .*albumentations transform"):
        Augment({"flip": 3})
    with pytest.raises(ConfigError, match=r"augment\.min_visibility=2: .*0\.\.1"):
        Augment(min_visibility=2)
    with pytest.raises(ConfigError, match=r"scale turn a uint8|\(scale\) turn a uint8 RGB image into float32"):
        Augment({"scale": A.Normalize()}).apply(noise(), *one([0, 0, 9, 9]), FRAME, seed=0)
    with pytest.raises(DataError, match=r"\(big\) fail on an image of 120x90 px with 1 boxes: CropSizeError"):
        Augment({"big": A.RandomCrop(500, 500)}).apply(noise(), *one([0, 0, 9, 9]), FRAME, seed=0)
    assert Augment({"off": None}).transforms == {}


def test_scale_jitter_by_hand():
    """A factor of 2 shows a part of half the sides; a factor of 1/2 puts the image on a canvas of its old size."""
    picture = noise(60, 80)
    for seed in range(20):
        larger = Augment({"jitter": ScaleJitter(scale=(2, 2))}, min_visibility=0)
        image, boxes, _ = larger.apply(picture, *one([0, 0, 60, 80]), Frame((30, 40)), seed)
        np.testing.assert_array_equal(boxes, [[0, 0, 30, 40]])
        places = [(y, x) for y in range(31) for x in range(41) if np.array_equal(picture[y, x], image[0, 0])]
        assert any(np.array_equal(picture[y : y + 30, x : x + 40], image) for y, x in places)
        smaller = Augment({"jitter": ScaleJitter(scale=(0.5, 0.5), fill=(1, 2, 3))})
        image, boxes, _ = smaller.apply(picture, *one([0, 0, 60, 80]), Frame((60, 80)), seed)
        ymin, xmin, ymax, xmax = boxes[0].round().astype(int).tolist()
        assert (ymax - ymin, xmax - xmin) == (30, 40)
        np.testing.assert_array_equal(image[ymin:ymax, xmin:xmax], resize(picture, (30, 40)))
        image[ymin:ymax, xmin:xmax] = (1, 2, 3)
        assert np.all(image == (1, 2, 3))


@pytest.mark.parametrize("mode", ["stretch", "keep_aspect", "zoo"])
def test_scale_jitter_moves_the_box_with_its_object(mode):
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[60:180, 240:300] = 255
    augment = Augment({"jitter": ScaleJitter(scale=(0.3, 2.5), fill=(0, 0, 0))}, min_visibility=0.2)
    areas = []
    for seed in range(60):
        image, boxes, _ = augment.apply(picture, *one([60, 240, 180, 300]), Frame((160, 200), mode), seed)
        for box in boxes:
            rows, columns = np.nonzero(image[..., 0] > 127)
            np.testing.assert_allclose(
                box, [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1], atol=1.6 if mode == "zoo" else 1.1
            )
            areas.append(np.prod(box[2:] - box[:2]))
    assert len(areas) > 40 and max(areas) > 6 * min(areas)


def test_scale_jitter_refuses_a_range_that_falls():
    with pytest.raises(ConfigError, match=r"scale=\[2.0, 1.0\] of ScaleJitter.*low <= high"):
        ScaleJitter(scale=(2, 1))


LATER = {
    "jitter": lambda: ScaleJitter(scale=(0.5, 0.5), fill=(0, 0, 0), p=1),
    "pad": lambda: A.Pad(padding=(20, 10, 30, 40), p=1),
    "affine": lambda: A.Affine(scale=(0.6, 0.6), rotate=(0, 0), p=1),
    "nested": lambda: A.OneOf([A.Sequential([A.Crop(0, 0, 50, 100, p=1), A.Pad(padding=25, p=1)])], p=1),
}


@pytest.mark.parametrize("later", LATER)
def test_what_a_crop_has_cut_away_does_not_come_back(later):
    """The crop keeps x 0..50 of 100: three quarters of the first box, nothing of the second, a tenth of the third."""
    boxes = np.array([[20, 20, 60, 60], [40, 60, 70, 90], [65, 45, 95, 95]], np.float32)
    shares = {"first": 0.75, "third": 0.1}
    frame = Frame((100, 100))
    crop = {} if later == "nested" else {"crop": A.Crop(0, 0, 50, 100, p=1)}
    for visible, left in ((0.3, 1), (0.05, 2), (0.8, 0)):
        augment = Augment(crop | {later: LATER[later]()}, min_visibility=visible, min_size=0)
        found = []
        for place in (0, 2):  # each alone in the picture, so that its pixels are known
            picture = np.zeros((100, 100, 3), np.uint8)
            ymin, xmin, ymax, xmax = boxes[place].astype(int)
            picture[ymin:ymax, xmin:xmax] = 255
            image, kept, classes = augment.apply(picture, boxes, np.array([1, 2, 3]), frame, seed=3)
            assert 2 not in classes and len(kept) == left == sum(share >= visible for share in shares.values())
            rows, columns = np.nonzero(image[..., 0] > 127)
            for box in kept[classes == place + 1]:
                np.testing.assert_allclose(
                    box, [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1], atol=1.6
                )
                found.append(place)
        assert len(found) == left


@pytest.mark.parametrize("error", [MemoryError("no"), cv2.error("Insufficient memory")])
def test_an_error_of_memory_does_not_make_another_draw(error):
    """Else a batch is no longer that of its seed and its step."""
    if isinstance(error, cv2.error):
        error.code = cv2.Error.StsNoMem

    class Once(A.HorizontalFlip):
        fail = True

        def apply(self, img, **params):
            if Once.fail:
                Once.fail = False
                raise error
            return img

    with pytest.raises(type(error)):
        Augment({"flip": Once(p=1)}).apply(noise(60, 80), *one([5, 10, 20, 30]), FRAME, seed=0)
