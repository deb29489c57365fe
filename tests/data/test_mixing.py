"""Mixed images: every box has its own colour below it, what is mostly cut is dropped, and only seed and step decide."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from detect.data.augment import Augment
from detect.data.examples import Example
from detect.data.mixing import CopyPaste, Mixing, MixUp, Mosaic, Scene
from detect.data.pipeline import DetectionStream
from detect.errors import ConfigError
from detect.geometry.frame import MODES, Frame

CONFIGS = Path(__file__).parents[2] / "configs" / "mixing"
SIZE = (120, 160)
BACKGROUND = 10
AWAY = Mosaic(), CopyPaste(), MixUp()


def colour(label: int) -> np.ndarray:
    """The colour of a class, 0..26: in some channel, any two of them and the background differ by 60 or more."""
    return np.array([70 + 80 * (label // 3**k % 3) for k in range(3)], np.uint8)


def painted(height: int, width: int, boxes, labels) -> np.ndarray:
    """A dark image with a rectangle in the colour of its class for each box."""
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    for (ymin, xmin, ymax, xmax), label in zip(np.asarray(boxes, int).tolist(), labels, strict=True):
        image[ymin:ymax, xmin:xmax] = colour(label)
    return image


def scene(seed: int, number: int = 3) -> Scene:
    """An image with some rectangles that do not overlap, each in a row of its own; four in a row share no class."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(90, 200, 2).tolist()
    row = height // number
    tops = np.arange(number) * row + 2
    lefts = rng.integers(0, width - 40, number)
    sizes = np.stack([rng.integers(16, row - 3, number), rng.integers(20, 40, number)], axis=1)
    starts = np.stack([tops, lefts], axis=1)
    boxes, labels = np.concatenate([starts, starts + sizes], axis=1), rng.integers(1, 7, number) + seed % 4 * 6
    return Scene.of(painted(height, width, boxes, labels), boxes, labels)


def draws(seed: int):
    """A function that gives one scene after the other."""
    numbers = iter(range(seed + 1, seed + 1000))
    return lambda: scene(next(numbers))


def middle(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The pixels of a box without its edge, where it has blended with what is around it."""
    ymin, xmin, ymax, xmax = [*np.ceil(box[:2] + 2).astype(int), *np.floor(box[2:] - 2).astype(int)]
    return image[ymin:ymax, xmin:xmax].reshape(-1, 3).astype(int)


def edges_fit(image: np.ndarray, box: np.ndarray, label: int) -> bool:
    """Whether the colour of a class reaches from edge to edge along the middle row and column of a box, to 2 pixels."""
    alike = np.abs(image.astype(int) - colour(label)).max(axis=2) < 40
    y, x = np.floor((box[:2] + box[2:]) / 2).astype(int)
    (top, bottom), (left, right) = _run(alike[:, x], y), _run(alike[y], x)
    return bool(np.abs(box - (top, left, bottom, right)).max() <= 2)


def _run(line: np.ndarray, place: int) -> tuple[int, int]:
    """Start and end of the run of true values that a place of a line lies in."""
    before, after = np.flatnonzero(~line[:place]), np.flatnonzero(~line[place:])
    return int(before[-1]) + 1 if len(before) else 0, place + int(after[0]) if len(after) else len(line)


@pytest.mark.parametrize("mode", MODES)
def test_the_boxes_of_a_mosaic_have_their_colour(mode):
    frame, seen, quarters = Frame(SIZE, mode), 0, set()
    for seed in range(60):
        mosaic, rng = Mosaic(scale=(0.4, 1.4), fill=[BACKGROUND] * 3), np.random.default_rng(seed)
        made = mosaic.mix(scene(1000 * seed), draws(1000 * seed), frame, rng, 0.3)
        assert made.image.shape == (*SIZE, 3) and made.image.dtype == np.uint8
        assert np.all(made.boxes >= 0) and np.all(made.boxes <= (*SIZE, *SIZE)) and np.all(made.visible >= 0.3)
        for box, label in zip(made.boxes, made.classes.tolist(), strict=True):
            if np.min(box[2:] - box[:2]) >= 6:
                assert np.abs(middle(made.image, box) - colour(label)).max() < 40, (seed, box)
                assert edges_fit(made.image, box, label), (seed, box)
                seen += 1
                quarters.add(tuple(((box[:2] + box[2:]) / 2 > np.array(SIZE) / 2).tolist()))
    assert seen > 200 and len(quarters) == 4


def test_a_mosaic_that_one_can_check_by_eye():
    """The point is the middle of a 120x160 frame and all images have half of its sides: four whole images, at 1/2."""
    whole = [Scene.of(painted(120, 160, [[20, 40, 60, 80]], [k]), [[20, 40, 60, 80]], [k]) for k in (1, 2, 3, 4)]
    rest = iter(whole[1:])
    mosaic = Mosaic(scale=(0.5, 0.5), centre=(0.5, 0.5))
    made = mosaic.mix(whole[0], lambda: next(rest), Frame(SIZE), np.random.default_rng(0), 0.3)
    corners = {(10, 20), (10, 100), (70, 20), (70, 100)}
    assert {tuple(box[:2]) for box in made.boxes.tolist()} == corners and sorted(made.classes) == [1, 2, 3, 4]
    np.testing.assert_allclose(made.boxes[:, 2:] - made.boxes[:, :2], [[20, 20]] * 4)
    for box, label in zip(made.boxes.astype(int), made.classes, strict=True):
        assert np.all(made.image[box[0] : box[2], box[1] : box[3]] == colour(label))
    np.testing.assert_array_equal(made.visible, 1)


def test_small_images_touch_the_point_and_fill_is_around():
    whole = Scene.of(np.full((120, 160, 3), 200, np.uint8), np.zeros((0, 4)), [])
    mosaic = Mosaic(scale=(0.25, 0.25), centre=(0.5, 0.5), fill=(1, 2, 3))
    image = mosaic.mix(whole, lambda: whole, Frame(SIZE), np.random.default_rng(0), 0.3).image
    assert np.all(image[30:90, 40:120] == 200)
    image[30:90, 40:120] = (1, 2, 3)
    assert np.all(image == (1, 2, 3))


def test_boxes_that_are_mostly_cut_away_are_dropped():
    """Windows leave 1/2 and 1/4 of a box; a quarter of a box of which half was to be seen is an eighth."""
    given = Scene.of(np.zeros((100, 100, 3), np.uint8), [[10, 10, 30, 50], [10, 10, 30, 90], [0, 0, 5, 5]], [1, 2, 3])
    left = given.cut([0, 0, 100, 30], 0.3)
    assert left.classes.tolist() == [1, 3] and left.visible.tolist() == [0.5, 1]
    np.testing.assert_array_equal(left.boxes, [[10, 10, 30, 30], [0, 0, 5, 5]])
    assert left.cut([20, 0, 100, 30], 0.25).visible.tolist() == [0.25]
    assert len(left.cut([20, 0, 100, 30], 0.26).boxes) == 0
    assert len(given.cut([50, 0, 60, 100], 0).boxes) == 0  # nothing is left, whatever the limit


def test_the_share_that_is_seen_counts_through_augmentation():
    """A box of which 0.4 is to be seen and whose box is cut by half more: 0.2, less than the limit of 0.3."""
    import albumentations as A

    augment = Augment({"crop": A.Crop(0, 0, 20, 40, p=1)}, min_visibility=0.3)
    image, box = np.zeros((40, 40, 3), np.uint8), np.array([[0, 10, 20, 30]])
    for visible, kept in ((None, 1), (np.ones(1), 1), (np.array([0.7]), 1), (np.array([0.4]), 0)):
        assert len(augment.apply(image, box, np.array([1]), Frame((40, 40)), 0, visible)[1]) == kept, visible


@pytest.mark.parametrize("mode", MODES)
def test_pasted_objects_have_their_colour_and_hide_little(mode):
    frame, pasted = Frame(SIZE, mode), 0
    for seed in range(60):
        first = scene(1000 * seed, number=2)
        part = CopyPaste(objects=3, cover=0.2, margin=0.2, scale=(0.5, 1.5))
        made = part.mix(first, draws(1000 * seed), frame, np.random.default_rng(seed), 0.3)
        assert made.image.shape == first.image.shape
        np.testing.assert_array_equal(made.boxes[:2], first.boxes)  # at most two fifths are hidden
        assert np.all(made.visible[:2] >= 0.3)
        for k, (box, label) in enumerate(zip(made.boxes, made.classes.tolist(), strict=True)):
            assert np.all(box >= 0) and np.all(box[2:] <= made.image.shape[:2])
            share = np.mean(np.abs(middle(made.image, box) - colour(label)).max(axis=1) < 40)
            if made.visible[k] < 1 or k < 2:
                assert share > 0.25, (seed, k)  # a later object, or the margin of one, lies on it
            elif k == len(made.boxes) - 1:
                assert share == 1 and edges_fit(made.image, box, label), (seed, k)
                pasted += 1
    assert pasted > 40


def test_a_pasted_object_keeps_its_size_in_the_frame():
    """The donor is twice as large as the image: its object of 40x60 is pasted with 20x30 pixels."""
    first = Scene.of(np.zeros((60, 80, 3), np.uint8), np.zeros((0, 4)), [])
    box = [[20, 40, 60, 100]]
    donor = Scene.of(painted(120, 160, box, [5]), box, [5])
    made = CopyPaste(scale=(1, 1), margin=0).mix(first, lambda: donor, Frame(SIZE), np.random.default_rng(1), 0.3)
    ((ymin, xmin, ymax, xmax),) = made.boxes.astype(int).tolist()
    assert (ymax - ymin, xmax - xmin) == (20, 30) and made.classes.tolist() == [5]
    assert np.all(made.image[ymin:ymax, xmin:xmax] == colour(5)) and made.image.sum() == 600 * colour(5).sum()
    assert not first.image.any()


def test_no_object_is_pasted_where_it_would_hide_another():
    image = np.zeros((100, 100, 3), np.uint8)
    full = Scene.of(image, [[0, 0, 100, 100]], [1])
    donor = Scene.of(painted(100, 100, [[10, 10, 70, 70]], [5]), [[10, 10, 70, 70]], [5])
    made = CopyPaste(scale=(1, 1), margin=0, cover=0.3).mix(
        full, lambda: donor, Frame((100, 100)), np.random.default_rng(0), 0.3
    )
    assert made.classes.tolist() == [1] and not made.image.any()
    made = CopyPaste(scale=(1, 1), margin=0, cover=0.4).mix(
        full, lambda: donor, Frame((100, 100)), np.random.default_rng(0), 0.3
    )
    assert made.classes.tolist() == [1, 5] and made.visible.tolist() == [pytest.approx(0.64), 1]


def test_mixup_is_the_mean_with_the_boxes_of_both():
    """Weights .25 and .75; with keep_aspect, the smaller part of the frame is padded with black."""
    first = Scene.of(np.full((60, 80, 3), 200, np.uint8), [[0, 0, 30, 40]], [1])
    second = Scene.of(np.full((60, 30, 3), 40, np.uint8), [[0, 0, 60, 15]], [2])
    part, rng = MixUp(share=(0.25, 0.25)), np.random.default_rng(0)
    made = part.mix(first, lambda: second, Frame(SIZE, "keep_aspect"), rng, 0.3)
    assert made.image.shape == (120, 160, 3)
    assert np.all(made.image[:, :60] == 80) and np.all(made.image[:, 60:] == 50)
    np.testing.assert_allclose(made.boxes, [[0, 0, 60, 80], [0, 0, 120, 30]])
    assert made.classes.tolist() == [1, 2]


@given(until=st.floats(0, 1), fade=st.floats(0, 1), progress=st.floats(0, 1.5))
def test_probabilities_never_rise_and_end(until, fade, progress):
    fade = min(fade, until)
    mixing = Mixing(*AWAY, until=until, fade=fade)
    strength = mixing.strength(progress)
    assert 0 <= strength <= 1 and mixing.strength(progress + 0.1) <= strength
    if until < 1 and progress >= until:
        assert strength == 0
    if progress < until - fade:
        assert strength == 1


def test_strength_by_hand():
    mixing = Mixing(*AWAY, until=0.8, fade=0.4)
    assert [round(mixing.strength(p), 6) for p in (0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)] == [1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert Mixing(*AWAY, until=1.0).strength(1.2) == 1  # a run that goes on past its steps
    assert Mixing(*AWAY, until=0.0).strength(0) == 0
    assert Mixing(*AWAY, until=1.0, fade=0.5).strength(1.2) == 0


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> list[Example]:
    """Nine painted images of three classes; the last box of each is a crowd of class 25."""
    folder = tmp_path_factory.mktemp("painted")
    made = []
    for k in range(9):
        image, boxes, classes, _ = scene(k)
        path = folder / f"{k}.png"
        cv2.imwrite(str(path), image[..., ::-1])
        height, width = image.shape[:2]
        classes = np.array([*classes[:2], 25])
        made.append(Example(path, width, height, boxes, classes, np.array([False, False, True]), str(k)))
    return made


def always(**changes) -> Mixing:
    return Mixing(Mosaic(p=0.5), CopyPaste(p=0.5), MixUp(p=0.3), **changes)


def stream(examples, **changes) -> DetectionStream:
    augment = instantiate(OmegaConf.load(CONFIGS.parent / "augment" / "default.yaml"))
    given = {"size": SIZE, "batch_size": 4, "augment": augment, "seed": 3, "steps": 10, "mixing": always()} | changes
    return DetectionStream(examples, **given)


def assert_same(first, second):
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def test_a_batch_depends_on_seed_and_step_alone(examples):
    alone = [stream(examples, threads=1).batch(step) for step in range(6)]
    for a, b in zip(stream(examples, threads=3).iterate(0, 6), alone, strict=True):
        assert_same(a, b)
    assert_same(next(stream(examples).iterate(4)), alone[4])  # a restart
    other = stream(examples, seed=4).batch(0)
    assert not np.array_equal(other["image"], alone[0]["image"])


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_workers_make_up_the_whole_batch(examples, threshold):
    whole = stream(examples, batch_size=6, repeat_threshold=threshold)
    parts = [stream(examples, batch_size=2, shard=(i, 3), repeat_threshold=threshold) for i in range(3)]
    for step in (0, 1, 5):
        batches = [part.batch(step) for part in parts]
        assert_same(whole.batch(step), {k: np.concatenate([b[k] for b in batches]) for k in batches[0]})


def test_what_is_not_mixed_is_as_before(examples):
    plain = stream(examples, mixing=None)
    off = stream(examples, mixing=Mixing(*AWAY))
    ended = stream(examples, mixing=always(until=0.5))
    assert off.max_boxes == plain.max_boxes == 2
    for step in (0, 4, 5, 9):
        assert_same(off.batch(step), plain.batch(step))
        same = np.array_equal(ended.batch(step)["image"], plain.batch(step)["image"])
        assert same == (step >= 5), step
    np.testing.assert_array_equal(ended.batch(5)["boxes"][:, :2], plain.batch(5)["boxes"])
    assert np.all(ended.batch(5)["classes"][:, 2:] == -1)
    evaluated = stream(examples, augment=Augment()).evaluate_batches()
    for a, b in zip(evaluated, stream(examples, augment=Augment(), mixing=None).evaluate_batches(), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


@pytest.mark.parametrize("mode", MODES)
def test_batches_hold_the_right_boxes_and_no_crowds(examples, mode):
    """Flip, crop and zoom-out, but no change of colour: below each box is the colour of its class."""
    augment = instantiate(OmegaConf.load(CONFIGS.parent / "augment" / "default.yaml"))
    augment = Augment({name: augment.transforms[name] for name in ("flip", "zoom_out", "crop")}, min_size=8)
    mixing = Mixing(Mosaic(p=0.6), CopyPaste(p=0.6, cover=0, margin=0), MixUp())
    made = stream(examples, augment=augment, mixing=mixing, resize=mode)
    checked = more = 0
    for step in range(12):
        batch = made.batch(step)
        for image, boxes, classes in zip(batch["image"], batch["boxes"], batch["classes"], strict=True):
            real = classes > 0
            more += real.sum() > 2
            assert not np.any(classes == 25) and not np.any(real[1:] & ~real[:-1])
            for box, label in zip(boxes[real], classes[real].tolist(), strict=True):
                near = np.abs(middle(image, box) - colour(label)).max(axis=1) < 60
                checked += 1
                assert near.mean() > 0.9, (step, box, label)
    assert checked > 80 and more > 10


def test_a_mixture_of_too_many_boxes_is_not_used(examples):
    """Up to 2 boxes an image, 4 images a mosaic: without a limit 8 rows; with a limit of 2 no mixture has more."""
    mosaic = Mixing(Mosaic(p=1.0, scale=(0.5, 0.5), centre=(0.5, 0.5)), CopyPaste(), MixUp())
    free = stream(examples, augment=Augment(), mixing=mosaic)
    assert free.max_boxes == 8 and (free.batch(0)["classes"] > 0).sum(axis=1).tolist() == [8] * 4
    limited, plain = (stream(examples, augment=Augment(), mixing=m, max_boxes=2) for m in (mosaic, None))
    assert_same(limited.batch(0), plain.batch(0))
    assert Mixing(Mosaic(p=0.1), CopyPaste(p=0.1), MixUp(p=0.1)).images == 6


@given(seed=st.integers(0, 2**63), progress=st.floats(0, 1), number=st.integers(0, 40))
@settings(max_examples=60)
def test_any_mixture_is_sound(seed, progress, number):
    """Boxes of any place and size, none at all, and images of a pixel."""
    rng = np.random.default_rng(seed)

    def any_scene() -> Scene:
        height, width = rng.integers(1, 120, 2).tolist()
        corners = np.sort(rng.uniform(-20, 140, (int(rng.integers(0, 5)), 2, 2)), axis=1)
        return Scene.of(np.zeros((height, width, 3), np.uint8), corners.reshape(-1, 4), np.arange(len(corners)) + 1)

    mixing = Mixing(Mosaic(p=0.7, scale=(0.1, 3)), CopyPaste(p=0.7, margin=1), MixUp(p=0.7), fade=0.5)
    mode = MODES[seed % len(MODES)]
    made = mixing.mix(any_scene(), any_scene, Frame(SIZE, mode), rng, progress, 0.3, number)
    height, width = made.image.shape[:2]
    assert made.image.dtype == np.uint8 and len(made.boxes) == len(made.classes) == len(made.visible)
    assert np.all(made.boxes >= -1e-9) and np.all(made.boxes <= np.array([height, width] * 2) + 1e-9)
    assert np.all(made.boxes[:, 2:] >= made.boxes[:, :2]) and np.all(made.visible <= 1 + 1e-9)


def test_presets_build_and_mix(examples):
    for path in sorted(CONFIGS.glob("*.yaml")):
        tree = OmegaConf.merge(OmegaConf.load(CONFIGS / "none.yaml"), OmegaConf.load(path))
        tree.pop("defaults", None)
        mixing = instantiate(tree)
        assert (mixing.images > 1) == (path.stem != "none")
        assert stream(examples, mixing=mixing).batch(0)["image"].shape == (4, *SIZE, 3)


def test_messages():
    with pytest.raises(ConfigError, match=r"mixing\.mosaic\.scale=\[1, 0.5\].*low at most high"):
        Mosaic(scale=[1, 0.5])
    with pytest.raises(ConfigError, match=r"mixing\.fade=0.5.*at most mixing.until=0.2"):
        Mixing(*AWAY, until=0.2, fade=0.5)
