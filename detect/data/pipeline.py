"""Batches for training and evaluation: files -> threads -> numpy batches -> (on request) tf.data.

Batch `step` is a pure function of (seed, step). The order of the examples in an epoch is a permutation drawn from
(seed, epoch). Every random choice for an example depends on (seed, epoch, its place in the data set) alone.
So neither the number of threads nor a restart at any step changes a pixel. OpenCV releases the interpreter lock while
it works, so threads share the load, not processes. Each thread builds whole batches, and they are returned in order.
"""

import logging
import struct
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from detect.data.augment import Augment
from detect.data.examples import Crops, Example, Examples
from detect.data.image_file import read_image
from detect.data.interface import Batch, Stream
from detect.data.mixing import Mixing, Scene
from detect.data.repeats import draws, repeat_factors, repeated
from detect.errors import DataError, UserError
from detect.geometry.frame import Frame

if TYPE_CHECKING:
    import tensorflow as tf
    from numpy.typing import DTypeLike

Draw = tuple[int, int] | None  # (epoch, place drawn in it); None is a row of padding
MIXED = 77  # beside an image's seed: the generator of `mixing` is not one of `Augment`

log = logging.getLogger("detect")


class ImageStream(ABC):
    """The order, seeds and threads of both streams. Subclasses define `spec` and `_fill`."""

    spec: "dict[str, tuple[tuple[int, ...], DTypeLike, int]]"  # name -> (shape of one row, dtype, value that pads)

    def __init__(
        self,
        examples: Examples | Crops,
        size: tuple[int, int],
        batch_size: int,
        augment: Augment,
        seed: int,
        threads: int,
        shuffle: bool,
        shard: tuple[int, int],
        reduced_decode: bool,
        frame: Frame | None = None,
    ):
        if not len(examples):
            raise DataError("no images to draw batches from: the split is empty")
        if not (batch_size >= 1 and threads >= 1 and 0 <= shard[0] < shard[1]):
            raise ValueError(f"batch_size={batch_size}, threads={threads}, shard={shard}")
        self.examples = examples
        self.epoch_draws = len(examples)
        self.frame = frame or Frame(size)
        self.size = self.frame.size
        self.batch_size = int(batch_size)
        self.augment = augment
        self.seed, self.threads, self.shuffle, self.shard = int(seed), int(threads), shuffle, shard
        self.reduced_decode = reduced_decode
        self.failure: UserError | None = None  # the error that stopped an iteration (tf.data loses its type)
        self._orders: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        cv2.setNumThreads(1)  # the stream's threads use all cores; those of OpenCV would slow them down

    def batch(self, step: int) -> Batch:
        """The batch of a training step (from 0). Shard i of n is the i-th part of a batch that is n times as large."""
        first = (step * self.shard[1] + self.shard[0]) * self.batch_size
        places = (divmod(first + row, self.epoch_draws) for row in range(self.batch_size))
        return self._build([(epoch, int(self._order(epoch)[place])) for epoch, place in places], step)

    def iterate(self, start_step: int = 0, steps: int | None = None) -> Iterator[Batch]:
        """Batches `start_step`, `start_step + 1`, ... (`steps` of them, or endless). The threads build them ahead.

        Closing the iterator stops the threads. Raises DataError naming the file that can't be used.
        """
        return self._ahead(self.batch, islice(count(start_step), steps))

    def evaluate_batches(self) -> Iterator[Batch]:
        """This shard's examples once, in the data set's order; rows past the end have index -1."""
        places = np.array_split(np.arange(len(self.examples)), self.shard[1])[self.shard[0]]
        starts = range(0, len(places), self.batch_size)
        draws = ([(0, int(p)) for p in places[s : s + self.batch_size]] for s in starts)
        return self._ahead(self._build, (d + [None] * (self.batch_size - len(d)) for d in draws))

    def _ahead(self, build: Callable[[Any], Batch], arguments: Iterator[Any]) -> Iterator[Batch]:
        """`map(build, arguments)` in threads, in order, at most two batches per thread ahead."""
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="detect-input")
        try:
            waiting = deque(pool.submit(build, a) for a in islice(arguments, 2 * self.threads))
            while waiting:
                ready = waiting.popleft().result()
                waiting.extend(pool.submit(build, a) for a in islice(arguments, 1))
                yield ready
        except UserError as error:
            self.failure = error
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _build(self, draws: Sequence[Draw], step: int | None = None) -> Batch:
        """The batch of some draws. step: the training step, None in evaluation."""
        batch = {name: np.full((self.batch_size, *s), pad, dtype) for name, (s, dtype, pad) in self.spec.items()}
        for row, draw in enumerate(draws):
            if draw is not None:
                index = draw[1] % len(self.examples)
                seed = _mix(self.seed, *draw)
                batch["index"][row] = index
                if "seed" in batch:
                    batch["seed"][row] = seed % 2**31
                self._fill(batch, row, self.examples[index], seed, step)
        return batch

    @abstractmethod
    def _fill(self, batch: Batch, row: int, example: Any, seed: int, step: int | None) -> None:
        """Writes an example, augmented with this seed, into a row of the batch of a training step."""

    def _order(self, epoch: int) -> np.ndarray:
        """The order of an epoch, int [epoch_draws]. The last four are kept, because a batch may contain two epochs."""
        with self._lock:
            if epoch not in self._orders:
                while len(self._orders) >= 4:
                    del self._orders[min(self._orders)]
                self._orders[epoch] = self._draw_order(np.random.default_rng((self.seed, epoch)))
            return self._orders[epoch]

    def _draw_order(self, generator: np.random.Generator) -> np.ndarray:
        n = len(self.examples)
        return generator.permutation(n) if self.shuffle else np.arange(n)

    def _apply(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        classes: np.ndarray,
        seed: int,
        path: Path,
        visible: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        try:
            return self.augment.apply(image, boxes, classes, self.frame, seed, visible)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def _decoded(self, path: Path, reduction: int) -> np.ndarray:
        """An image of the data set. Raises DataError."""
        try:
            return read_image(path, reduction)
        except DataError as error:
            raise DataError(f"{error}; `detect inspect` lists all such files; replace or remove them") from None

    def _reduction(self, height: float, width: float) -> int:
        """The largest reduction after which a region of this size is still twice as high and wide as the frame."""
        fits = min(height / self.size[0], width / self.size[1]) / 2
        return max((r for r in (1, 2, 4, 8) if r <= fits), default=1) if self.reduced_decode else 1


class DetectionStream(ImageStream):
    """Images with boxes. A batch is a dict of
    image uint8 [B, h, w, 3] RGB; boxes float32 [B, max_boxes, 4] yxyx px of the frame, padded with -1; classes int32
    [B, max_boxes] in 1..C, padded with -1; index int32 [B], the place in `examples`, -1 in rows of padding; seed int32
    [B], for random draws of the model, different for each image and epoch, 0 in rows of padding.

    Crowd boxes are not training targets and are left out. Images without boxes are kept.
    size: (height, width) of the network's frame. max_boxes: boxes kept per image, the first ones; None keeps all. A
        warning in the log counts the images that lose boxes.
    shard: (i, n), this worker of n. threads: worker threads of an iteration; they do not change the result.
    reduced_decode: decode large JPEGs at 1/2, 1/4 or 1/8 if the result is still twice as high and wide as the frame.
    resize, exact: mode and levels of the frame (`geometry.frame.Frame`); exact images of `zoo` are float32
        and are for evaluation only.
    mixing: makes training images of several; `index` is then the place of the first. Without a limit, `max_boxes` is as
        large as the most boxes of an image, times the images that one is made of. steps: the number of training
        batches, which decides when `mixing` ends; None never ends it.
    repeat_threshold: a class that a smaller share of the images shows is rare, and an epoch repeats its images
        (`data.repeats`), each time with other augmentation. None: an epoch has every image once.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        size: tuple[int, int],
        batch_size: int,
        augment: Augment,
        seed: int = 0,
        max_boxes: int | None = None,
        threads: int = 2,
        shuffle: bool = True,
        shard: tuple[int, int] = (0, 1),
        reduced_decode: bool = False,
        resize: str = "stretch",
        exact: bool = False,
        mixing: Mixing | None = None,
        steps: int | None = None,
        repeat_threshold: float | None = None,
    ):
        frame = Frame(size, resize, exact)
        self._split = split = Examples.of(examples)
        super().__init__(split, size, batch_size, augment, seed, threads, shuffle, shard, reduced_decode, frame)
        mixes = mixing is not None and mixing.images > 1
        if exact and (augment.transforms or mixes):
            names = ", ".join(augment.transforms) or "none"
            raise ValueError(f"exact=True is for evaluation, without mixing and transforms; augment has {names}")
        self.mixing, self.steps = mixing if mixes else None, steps
        self._factors = repeat_factors(split, repeat_threshold) if repeat_threshold and shuffle else None
        if self._factors is not None:
            self.epoch_draws = draws(self._factors)
            self._chances = np.cumsum(self._factors)
            told = "repeat_threshold=%s: an epoch draws its %d images %d times, some up to %d times"
            log.info(told, repeat_threshold, len(split), self.epoch_draws, int(np.ceil(self._factors.max())))
        counts = np.bincount(split.owners[~split.crowd], minlength=len(split))
        most = int(counts.max())
        images = 1 if self.mixing is None else self.mixing.images
        self.max_boxes = max(1, most * images if max_boxes is None else int(max_boxes))
        if most > self.max_boxes:
            over = int((counts > self.max_boxes).sum())
            message = "%d images have more than max_boxes=%d boxes (up to %d); the further boxes are left out"
            log.warning(message, over, self.max_boxes, most)
        self.spec = {
            "image": ((*self.size, 3), self.frame.dtype, 0),
            "boxes": ((self.max_boxes, 4), np.float32, -1),
            "classes": ((self.max_boxes,), np.int32, -1),
            "index": ((), np.int32, -1),
            "seed": ((), np.int32, 0),
        }

    def _draw_order(self, generator: np.random.Generator) -> np.ndarray:
        return super()._draw_order(generator) if self._factors is None else repeated(self._factors, generator)

    def _fill(self, batch: Batch, row: int, example: Example, seed: int, step: int | None) -> None:
        image, boxes, classes = self._read(example)
        visible = None
        if self.mixing is not None and step is not None:
            image, boxes, classes, visible = self._mixed(Scene.of(image, boxes, classes), seed, step)
        image, boxes, classes = self._apply(image, boxes, classes, seed, example.path, visible)
        batch["image"][row] = image
        batch["boxes"][row, : len(boxes)] = boxes[: self.max_boxes]
        batch["classes"][row, : len(classes)] = classes[: self.max_boxes]

    def _mixed(self, scene: Scene, seed: int, step: int) -> Scene:
        """What `mixing` makes of an image in a training step."""
        assert self.mixing is not None
        generator = np.random.default_rng((seed, MIXED))

        def draw() -> Scene:
            return Scene.of(*self._read(self._split[self._any(generator)]))

        progress = step / self.steps if self.steps else 0.0
        return self.mixing.mix(
            scene, draw, self.frame, generator, progress, self.augment.min_visibility, self.max_boxes
        )

    def _any(self, generator: np.random.Generator) -> int:
        """The place of any example, with the chances that an epoch gives it."""
        if self._factors is None:
            return int(generator.integers(len(self.examples)))
        return int(np.searchsorted(self._chances, generator.random() * self._chances[-1], "right"))

    def _read(self, example: Example) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The image of a file, the boxes in its pixels and their classes, without crowds."""
        reduction = self._reduction(example.height, example.width)
        image = self._decoded(example.path, reduction)
        excess = np.subtract(image.shape[:2], (example.height / reduction, example.width / reduction))
        if np.abs(excess).max() >= 1:  # a reduced side is rounded
            raise DataError(
                f"{example.path}: decodes to {image.shape[1]}x{image.shape[0]} px, but its boxes belong to an image of "
                f"{example.width}x{example.height} px; `detect inspect` lists all such files"
            )
        scale = np.array(image.shape[:2] * 2) / (example.height, example.width, example.height, example.width)
        return image, example.boxes[~example.crowd] * scale, example.classes[~example.crowd]


def to_tf(stream: Stream, start_step: int = 0) -> "tf.data.Dataset":
    """The endless training batches of a stream as a tf.data.Dataset of dicts with static shapes.

    Deleting its iterator stops the stream's threads. An error in a thread becomes a tf.errors.OpError that has only a
    text; the DataError itself is in `stream.failure`.
    """
    import tensorflow as tf

    signature = {
        name: tf.TensorSpec((stream.batch_size, *shape), dtype) for name, (shape, dtype, _) in stream.spec.items()
    }
    dataset = tf.data.Dataset.from_generator(lambda: stream.iterate(start_step), output_signature=signature)
    options = tf.data.Options()
    options.autotune.enabled = False  # an iterator waits at its end for the thread that tunes: up to a minute
    options.threading.private_threadpool_size = 1  # it only passes on the batches of the stream's threads
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(1).with_options(options)


def _mix(*numbers: int) -> int:
    """One 64-bit seed from several integers; similar integers give unrelated seeds. It takes a microsecond."""
    return int.from_bytes(blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest(), "little")
