"""`detect predict` on a video, a camera or a stream, and on images that appear in a folder."""

import itertools
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import cv2
import numpy as np

from detect.data.image_file import IMAGE_SUFFIXES, UNREAD_SUFFIXES, read_image
from detect.errors import ConfigError, DataError, Unfinished, first_few, printable
from detect.evaluation.coco_json import categories_of, rows_of
from detect.files import expanded, json_list, strict_json, write_text
from detect.reporting.progress import ProgressLine

if TYPE_CHECKING:
    from detect.detector import Detections, Detector

log = logging.getLogger("detect")
SUFFIXES = (
    *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"),
    *(".mts", ".m2ts", ".ts", ".3gp", ".flv", ".ogv"),
)
STREAMS = ("rtsp://", "rtmp://", "http://", "https://", "udp://")
WHOLE = 0.95  # the share of the time that a container promises, which a whole file has: some only estimate it
RATE, FASTEST = 25.0, 240.0  # frames a second: of a source that does not tell it, and the most that one can have
LOOK = 0.5  # seconds between two looks into a watched folder
REST = 20  # the results of a watched folder are written for at most one part in REST of the time


@dataclass(frozen=True)
class Shown:
    """How images are predicted. score: of the least box that is drawn, `auto` or `per_class`.

    tile: see `detect.geometry.tiles`.
    """

    score: float | str
    tile: int | str | None


def source_of(images: str) -> str:
    """What `images=` names, with the user's own folder in place of `~`. The address of a stream stays as it is: a path
    has no `//`."""
    return images if images.startswith(STREAMS) else str(expanded(images))


def is_video(what: str) -> bool:
    """Whether `images=` names a video file, a camera by its number, or a stream. A folder may have such a name."""
    if what.startswith(STREAMS):
        return True
    return not Path(what).is_dir() and (is_camera(what) or Path(what).suffix.lower() in SUFFIXES)


def is_camera(what: str) -> bool:
    """Whether the text is the number of a camera, such as 0."""
    return what.isascii() and what.isdigit()


def open_video(what: str) -> cv2.VideoCapture:
    """The opened video, camera or stream. Raises DataError if OpenCV can't open it."""
    if not is_camera(what) and not what.startswith(STREAMS) and not Path(what).is_file():
        raise DataError(f"images={what}: there is no such file")
    place = what if what.startswith(STREAMS) else os.path.abspath(what)  # FFmpeg takes `10:30.mp4` as a protocol
    capture = cv2.VideoCapture(int(what) if is_camera(what) else place)
    if not capture.isOpened():
        kind = "camera" if is_camera(what) else "stream" if what.startswith(STREAMS) else "video"
        raise DataError(f"images={what}: OpenCV can't open this {kind}")
    return capture


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Frames a second. A source may tell the ticks of its clock in place of it, such as 1000 or 90000: then `RATE`."""
    told = capture.get(cv2.CAP_PROP_FPS)
    return told if 0 < told <= FASTEST else RATE


def frames(capture: cv2.VideoCapture, every: int, live: bool) -> Iterator[tuple[int, float, np.ndarray]]:
    """(number from 0, seconds since the first, RGB uint8 [H, W, 3]) of each n-th frame, to the end or to Ctrl-C.

    live: the times are those of the clock, as a camera drops frames. Else they are those of the file, whose frames need
    not follow each other evenly; without times in it, the rate gives them.
    """
    rate, begun, last = frame_rate(capture), 0.0, 0.0
    for number in itertools.count():
        if not capture.grab():
            return
        now = time.monotonic() if live else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        begun = begun if number else now
        last = now - begun if now - begun > last else number / rate
        if number % every == 0:
            ok, frame = capture.retrieve()
            if not ok:
                return
            yield number, last, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def results(what: str, folder: Path) -> list[Path]:
    """The files that `predict_video` writes: the video with boxes, and COCO's results."""
    if what.startswith(STREAMS):
        address = urlsplit(what)
        name = Path(address.path).stem or address.hostname or "stream"  # without the user and the password
    else:
        name = f"camera{what}" if is_camera(what) else Path(what).stem
    return [folder / f"{name}{suffix}" for suffix in (".mp4", ".json")]


def predict_video(detector: "Detector", what: str, folder: Path, every: int, shown: Shown) -> None:
    """Writes a video with boxes, and `NAME.json`: COCO's results of each predicted frame, with its number and time.

    Ctrl-C ends a camera or a stream; what was predicted is written. Raises DataError if no frame can be read, and
    Unfinished after the work if the file ends early, or if OpenCV could not write all frames.
    """
    capture = open_video(what)
    rate = frame_rate(capture)
    promised = max(0.0, capture.get(cv2.CAP_PROP_FRAME_COUNT))
    length = promised / (capture.get(cv2.CAP_PROP_FPS) or RATE)  # seconds; 0 of a camera
    target, listed = results(what, folder)
    categories = categories_of(detector.classes, detector.category_ids)
    live = not promised and not Path(what).is_file()
    taken = frames(capture, every, live)
    writer, count, seconds, early, started = None, 0, 0.0, "", time.perf_counter()
    progress = ProgressLine("predict", math.ceil(length * rate / every), 30.0)
    try:
        if (first := next(taken, None)) is None:
            raise DataError(f"images={what}: no frame can be read")
        with json_list(listed) as append:
            height, width = first[2].shape[:2]
            writer = _writer(target, rate / every, (width, height))
            for number, seconds, image in itertools.chain([first], taken):
                (found,) = detector(image, tile=shown.tile)
                drawn = _drawn(detector, image, found, shown.score)
                if drawn.shape[:2] != (height, width):  # OpenCV leaves out frames of another size
                    drawn = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
                writer.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
                rows = rows_of(number, target.stem, (found.boxes, found.scores, found.classes), categories)
                append({**row, "seconds": round(seconds, 3)} for row in rows)
                count += 1
                progress.update(count, {"images/s": count / (time.perf_counter() - started)})
        if seconds + max(every / rate, seconds / max(1, count - 1)) < WHOLE * length:  # the last frame is shown, too
            early = f"images={what}: it ends early, after {seconds:.1f} of {length:.1f} seconds; it may be damaged"
    except KeyboardInterrupt:
        log.info("ended by Ctrl-C: %d frames are done; %s has these", count, listed.name)
        if not live:
            raise
    finally:
        progress.close()
        capture.release()
        if writer is not None:
            writer.release()
    if (written := _frames_in(target)) < count:  # OpenCV raises nothing if the disk is full
        lost = f"{target}: it has {written} of {count} frames; the disk may be full"
        raise Unfinished(f"{lost}. {listed.name} has the detections of all frames")
    speed = count / (time.perf_counter() - started)
    log.info("%d frames, %.1f images/s; %s and %s are in %s", count, speed, target.name, listed.name, folder)
    if early:
        raise Unfinished(early)


def _writer(target: Path, rate: float, size: Sequence[int]) -> cv2.VideoWriter:
    writer = cv2.VideoWriter(os.path.abspath(target), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    if not writer.isOpened():
        raise ConfigError(f"output={target.parent}: OpenCV can't write {target.name} here")
    return writer


def _frames_in(video: Path) -> int:
    """The number of frames that a video file has; 0 if it can't be opened."""
    capture = cv2.VideoCapture(os.path.abspath(video))
    frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    capture.release()
    return frames


def _drawn(detector: "Detector", image: np.ndarray, found: "Detections", score: float | str) -> np.ndarray:
    from detect.reporting import pictures

    kept = detector.shown(found, score)
    return pictures.draw_boxes(image, found.boxes[kept], found.classes[kept], found.scores[kept], detector.classes)


Stamp = tuple[int, int]
"""The bytes of a file, and the time of its last change in nanoseconds."""


def settled(folder: Path, seen: dict[Path, Stamp], done: dict[Path, Stamp]) -> list[Path]:
    """The images in a folder that are new or written again, and that did not change since the look before.

    Those of a format that is not read, such as HEIC, are among them: they are named when reading fails.

    seen: what the look before saw, and is changed; a file that is still written changes between two looks. done: the
    images that were read, as they were then. Raises DataError if the folder can't be read any more.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"watch={folder}: can't read the folder any more ({error.strerror})") from error
    ready = []
    for path in paths:
        if path.name.startswith(".") or path.suffix.lower() not in (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES):
            continue  # hidden: a phone writes a picture under such a name, and macOS something beside each
        try:
            about = path.stat()
        except OSError:  # it was moved away
            continue
        now = (about.st_size, about.st_mtime_ns)
        if seen.get(path) == now != done.get(path) and about.st_size:
            ready.append(path)
        seen[path] = now
    return ready


def watch(detector: "Detector", source: Path, folder: Path, shown: Shown, looks: int | None = None) -> None:
    """Predicts on the images of a folder as they appear, until Ctrl-C. Writes a picture of each, and detections.json.

    An image is read when it did not change between two looks. One that can't be read is named and passed over. One
    whose picture can't be written is named. The results of one that is written again replace the earlier ones.
    looks: the number of looks, for tests; None is without end.
    """
    from detect.reporting import pictures

    categories = categories_of(detector.classes, detector.category_ids)
    rows: dict[Path, str] = {}  # as JSON: a tenth of the memory
    numbers: dict[Path, int] = {}
    unwritten, due = False, 0.0
    seen: dict[Path, Stamp] = {}
    done: dict[Path, Stamp] = {}
    log.info("watching %s; Ctrl-C ends", printable(source))
    try:
        while looks is None or looks > 0:
            ready = settled(source, seen, done)
            for path in ready:
                done[path] = seen[path]
                number = numbers.setdefault(path, len(numbers) + 1)
                try:
                    image = read_image(path)
                    (found,) = detector(image, tile=shown.tile)
                except DataError as error:
                    log.warning("%s: %s", printable(path.name), printable(error))
                    unwritten |= rows.pop(path, None) is not None
                    continue
                own = rows_of(number, path.name, (found.boxes, found.scores, found.classes), categories)
                rows[path], unwritten = strict_json(own)[1:-1], True
                try:
                    pictures.save(folder / f"{path.name}.png", _drawn(detector, image, found, shown.score))
                except OSError as error:
                    log.warning("%s: its picture can't be written: %s", printable(path.name), printable(error))
                rest = zip(found.names, found.scores, detector.shown(found, shown.score), strict=True)
                named = [f"{name} {score:.2f}" for name, score, kept in rest if kept]
                log.info("%s: %s", printable(path.name), printable(first_few(named, 4) or "nothing"))
                if time.monotonic() >= due:
                    unwritten, due = False, _write_results(folder, rows)
            if unwritten and not ready:
                unwritten, due = False, _write_results(folder, rows)
            time.sleep(LOOK)
            looks = None if looks is None else looks - 1
    except KeyboardInterrupt:
        log.info("ended by Ctrl-C: %d images, results are in %s", len(done), printable(folder))
    finally:
        if unwritten:
            _write_results(folder, rows)


def _write_results(folder: Path, rows: Mapping[Path, str]) -> float:
    """Writes the results of all images, and returns the time when they may be written again."""
    begun = time.monotonic()
    write_text(folder / "detections.json", f"[{', '.join(filter(None, rows.values()))}]\n")
    return time.monotonic() + REST * (time.monotonic() - begun)
