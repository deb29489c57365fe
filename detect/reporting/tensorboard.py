"""TensorBoard event files, written without operations in a TensorFlow graph."""

import os
import socket
import struct
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import cv2
import google_crc32c
import numpy as np

from detect.errors import printable, printable_lines
from detect.files import replacing
from detect.reporting.meanings import meaning

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
LONGEST = 65_500  # pixels of a side of a JPEG
FLUSH_SECONDS = 10
BUCKETS = 50  # of a histogram
EVENTS = "events.out.tfevents"
"""Prefix of the name of every event file."""
HPARAMS = f"{EVENTS}.0.hparams"
"""The file of a session of the HParams plugin. It is read first: others are named after the time of their start."""


class EventWriter:
    """Writes one TensorBoard run folder; the first write creates the file, so no empty run is shown."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._file: IO[bytes] | None = None
        self._flushed = 0.0
        self._explained = set[str]()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one point for each tag. The first point has the meaning of the figure, which TensorBoard shows."""
        self._add(step, _points(values, self._explained))
        self._explained.update(values)

    def image(self, tag: str, step: int, image: np.ndarray) -> None:
        """Write an RGB uint8 picture [h, w, 3] as a JPEG, because a run writes the same few images many times.

        A picture that is longer than a JPEG can be is made smaller.
        """
        if (side := max(np.shape(image)[:2])) > LONGEST:
            image = cv2.resize(image, None, fx=LONGEST / side, fy=LONGEST / side, interpolation=cv2.INTER_AREA)
        ok, encoded = cv2.imencode(".jpg", cv2.cvtColor(np.asarray(image, np.uint8), cv2.COLOR_RGB2BGR), JPEG)
        if not ok:
            raise ValueError(f"{tag}: can't encode an image of shape {np.shape(image)}; it must be [h, w, 3]")
        summary = _summary()
        value = summary.value.add(tag=printable(tag))
        value.image.height, value.image.width, value.image.colorspace = image.shape[0], image.shape[1], 3
        value.image.encoded_image_string = encoded.tobytes()
        self._add(step, summary)

    def text(self, tag: str, markdown: str) -> None:
        """Write text, shown as Markdown."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(0, text_pb(printable(tag), printable_lines(markdown)))

    def graph(self, serialized: bytes) -> None:
        """Write a graph, a serialised GraphDef."""
        from tensorboard.compat.proto import event_pb2

        self._write(event_pb2.Event(wall_time=time.time(), graph_def=serialized))
        self.flush()

    def histogram(self, tag: str, step: int, values: np.ndarray) -> None:
        """Write the distribution of an array; numbers that are not finite are left out."""
        flat = np.asarray(values, np.float64).ravel()
        flat = flat[np.isfinite(flat)]
        if not flat.size:
            return
        counts, edges = np.histogram(flat, BUCKETS)
        summary = _summary()
        histogram = summary.value.add(tag=printable(tag)).histo
        histogram.min, histogram.max, histogram.num = flat.min(), flat.max(), flat.size
        histogram.sum, histogram.sum_squares = flat.sum(), np.square(flat).sum()
        histogram.bucket_limit.extend(edges[1:].tolist())
        histogram.bucket.extend(counts.tolist())
        self._add(step, summary)

    def hparams(self, values: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]) -> None:
        """Replace the session of the HParams plugin; with metrics its status is success.

        It has a file of its own: TensorBoard keeps the first session of a folder, and a run may be extended.
        """
        from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
        from tensorboard.plugins.hparams.summary import session_end_pb
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        # The trial is STUDY/DATA/RUN/STAGE: it is readable, and two runs with equal settings have two rows.
        shown = {key: printable(value) if isinstance(value, str) else value for key, value in values.items()}
        trial = "/".join(self.folder.resolve().parts[-5:-1])
        summaries = [hparams_pb(shown, trial_id=printable(trial))]
        if metrics:
            summaries.append(_points({f"final/{key}": value for key, value in metrics.items()}))
            # session_end_pb returns TensorFlow's own Summary class.
            summaries.append(type(_summary()).FromString(session_end_pb(STATUS_SUCCESS).SerializeToString()))
        write_events(self.folder / HPARAMS, ((0, summary) for summary in summaries))

    def pr_curve(self, tag: str, step: int, true: np.ndarray, false: np.ndarray, missed: np.ndarray) -> None:
        """Write a precision-recall curve from counts at evenly spaced score thresholds 0..1.

        true, false, missed: true positives, false positives, false negatives, each [thresholds]. Without
        detections precision is 1 by convention. Detection has no true negatives, so they are written as 0.
        """
        from tensorboard.plugins.pr_curve.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        tag = printable(tag)
        true, false, missed = (np.asarray(part, np.float64) for part in (true, false, missed))
        found, there = true + false, true + missed
        precision = np.divide(true, found, out=np.ones_like(true), where=found > 0)
        recall = np.divide(true, there, out=np.zeros_like(true), where=there > 0)
        data = np.stack([true, false, np.zeros_like(true), missed, precision, recall]).astype(np.float32)
        summary = _summary()
        metadata = create_summary_metadata(display_name=tag, description="", num_thresholds=len(true))
        summary.value.add(tag=f"{tag}/pr_curves", metadata=metadata, tensor=make_tensor_proto(data))
        self._add(step, summary)

    def restart(self, step: int) -> None:
        """Tell TensorBoard to remove the points from `step` on, because they are written again."""
        from tensorboard.compat.proto import event_pb2

        if not any(self.folder.glob("events.out.tfevents.*")):
            return
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(event_pb2.Event(wall_time=time.time(), step=step, session_log=start))
        self.flush()

    def flush(self) -> None:
        """Pass all data to the operating system."""
        if self._file is not None:
            self._file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and close; a later write opens a new file."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def _add(self, step: int, summary: "Summary") -> None:
        from tensorboard.compat.proto import event_pb2

        self._write(event_pb2.Event(wall_time=time.time(), step=int(step), summary=summary))

    def _write(self, event: "Event") -> None:
        """In this thread, so that an error of the disk reaches the caller; TensorBoard's own writer has a thread."""
        from tensorboard.compat.proto import event_pb2

        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = f"{EVENTS}.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
            self._file = (self.folder / name).open("ab")
            self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._file.write(record(event.SerializeToString()))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()


def record(content: bytes) -> bytes:
    """A record of TensorFlow's format: length, content, and the masked CRC-32C of both.

    TensorBoard's own writer computes it in Python, which takes seconds for the pictures of an evaluation.
    """
    length = struct.pack("<Q", len(content))
    return length + masked_crc(length) + content + masked_crc(content)


def masked_crc(content: bytes) -> bytes:
    """CRC-32C, rotated and moved as in LevelDB's log_format.md, in four bytes."""
    crc = google_crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _points(values: Mapping[str, float], explained: Collection[str] = ()) -> "Summary":
    """A point of each tag, with the meaning of the figure unless it is explained."""
    from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_SCALAR
    from tensorboard.plugins.scalar.metadata import create_summary_metadata

    summary = _summary()
    for tag, value in values.items():
        point = summary.value.add(tag=printable(tag), simple_value=float(value))
        if tag not in explained:
            point.metadata.CopyFrom(create_summary_metadata(display_name="", description=meaning(tag)))
            point.metadata.data_class = DATA_CLASS_SCALAR  # without it, the fast data server drops the text
    return summary


def _summary() -> "Summary":
    from tensorboard.compat.proto import summary_pb2

    return summary_pb2.Summary()


def write_events(path: Path, summaries: Iterable[tuple[int, "Summary"]]) -> None:
    """Replace an event file with one of (step, Summary) pairs, without an import of TensorFlow.

    The name must contain `tfevents`. It is fixed, so a second report replaces the file of the first one.
    """
    from tensorboard.compat.proto import event_pb2

    now = time.time()
    events = [event_pb2.Event(wall_time=now, file_version="brain.Event:2")]
    events += [event_pb2.Event(wall_time=now, step=step, summary=summary) for step, summary in summaries]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, ".new") as temporary, temporary.open("wb") as file:  # `.new` is not an event file
        file.writelines(record(event.SerializeToString()) for event in events)
