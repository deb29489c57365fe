"""`detect predict` on a video and on a watched folder, with a planted detector."""

import json
import os
import shutil
import signal
import threading
import time

import cv2
import numpy as np
import pytest

from detect.cli import video
from detect.detector import Detector
from detect.errors import ConfigError, DataError, Unfinished
from tests.cli.conftest import picture
from tests.full_disk import largest_file
from tests.verbs import call

FOUND = {1: [([4, 4, 20, 20], 0.9, 1)], 2: [([4, 4, 20, 20], 0.2, 2)]}


def film(path, numbers):
    """A video of 10 frames a second whose frames are images of these numbers."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    assert writer.isOpened()
    for number in numbers:
        writer.write(np.full((48, 64, 3), (90, 120, 10 * number), np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("every, numbers", [(1, [0, 1, 2, 3]), (2, [0, 2])])
def test_a_video(planted, tmp_path, every, numbers):
    run, source = planted(FOUND), film(tmp_path / "film.mp4", [1, 2, 1, 2])
    call("predict", f"run={run}", f"images={source}", f"every={every}", f"output={tmp_path}/out")
    rows = json.loads((tmp_path / "out/film.json").read_text())
    assert [row["image_id"] for row in rows] == numbers
    assert [row["seconds"] for row in rows] == [number / 10 for number in numbers]
    assert rows[0]["category"] == "cat" and rows[0]["bbox"] == [4, 4, 16, 16]
    capture = cv2.VideoCapture(str(tmp_path / "out/film.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (len(numbers), 10.0 / every)
    ok, frame = capture.read()
    plain = np.array([90, 120, 10])
    changed = np.abs(frame.astype(int) - plain).max(axis=2) > 60
    assert ok and changed[3:22, 3:22].any() and not changed[30:, 40:].any()  # the box is drawn


def test_a_colon_in_a_name_is_no_protocol(planted, tmp_path, monkeypatch):
    """Cameras write such names. FFmpeg takes what is before the first colon of a relative path as a protocol."""
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "plain.mp4", [1, 2]).rename("2026-01-01T10:00.mp4")
    call("predict", f"run={planted(FOUND)}", "images='2026-01-01T10:00.mp4'", "output='10:30'")
    assert len(json.loads((tmp_path / "10:30" / "2026-01-01T10:00.json").read_text())) == 2


def test_a_video_that_ends_early_is_named(planted, tmp_path):
    whole = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (160, 120))
    for _ in range(6):
        whole.write(np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8))
    whole.release()
    run, content = planted(FOUND), (tmp_path / "film.avi").read_bytes()
    call("predict", f"run={run}", f"images={tmp_path}/film.avi", f"output={tmp_path}/out")
    (tmp_path / "part.avi").write_bytes(content[: 3 * len(content) // 5])
    with pytest.raises(Unfinished, match=r"part\.avi: it ends early, after 0\.\d of 0\.6 seconds; it may be damaged"):
        call("predict", f"run={run}", f"images={tmp_path}/part.avi", f"output={tmp_path}/out")
    assert (tmp_path / "out/part.mp4").exists() and (tmp_path / "out/part.json").exists()


def test_a_disk_that_is_full_for_the_video_is_told(planted, tmp_path):
    """OpenCV writes nothing more, and raises nothing."""
    run, source = planted(FOUND), tmp_path / "film.avi"
    noise = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (160, 120))
    for _ in range(6):
        noise.write(np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8))
    noise.release()
    reason = r"film\.mp4: it has \d of 6 frames; the disk may be full\. film\.json has"
    with pytest.raises(Unfinished, match=reason), largest_file(20_000):
        call("predict", f"run={run}", f"images={source}", f"output={tmp_path}/out")
    assert (tmp_path / "out/film.json").exists()


def test_ctrl_c_in_a_video_file_is_no_success(planted, tmp_path, monkeypatch, caplog):
    run, source = planted(FOUND), film(tmp_path / "film.mp4", [1, 2, 1])
    drawn, seen = video._drawn, []

    def interrupted(*arguments):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return drawn(*arguments)

    monkeypatch.setattr(video, "_drawn", interrupted)
    with caplog.at_level("INFO", "detect"), pytest.raises(KeyboardInterrupt):
        call("predict", f"run={run}", f"images={source}", f"output={tmp_path}/out")
    assert [row["image_id"] for row in json.loads((tmp_path / "out/film.json").read_text())] == [0, 1]
    assert video._frames_in(tmp_path / "out/film.mp4") == 2 and "2 frames are done" in caplog.text


def test_ctrl_c_ends_a_camera(planted, tmp_path, monkeypatch):
    frames = [np.full((48, 64, 3), 10, np.uint8)] * 2

    def camera(*_):
        yield from ((number, 0.1 * number, frame) for number, frame in enumerate(frames))
        raise KeyboardInterrupt

    monkeypatch.setattr(video, "frames", camera)
    monkeypatch.setattr(video, "open_video", lambda _: Source([None]))
    (tmp_path / "out").mkdir()
    planted(FOUND)
    video.predict_video(Detector.load("run"), "0", tmp_path / "out", 1, video.Shown(0.0, None))
    assert len(json.loads((tmp_path / "out/camera0.json").read_text())) == 2


def test_what_is_a_video():
    named = {"b.MTS": True, "c.3gp": True}
    named |= {"0": True, "a.MP4": True, "rtsp://host/x": True, "photos": False, "a.jpg": False, "*.png": False}
    assert {name: video.is_video(name) for name in named} == named


def test_folders_with_such_names_are_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("2024", "clip.mp4"):
        (tmp_path / name).mkdir()
        assert not video.is_video(name)
    assert video.is_video("2025") and not video.is_video("\u00b2")


def test_bad_videos_are_refused_before_the_model(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"bad\.mp4: OpenCV can't open this video"):
        call("predict", "run=x", f"images={tmp_path}/bad.mp4")
    with pytest.raises(DataError, match=r"none\.mp4: there is no such file"):
        call("predict", "run=x", f"images={tmp_path}/none.mp4")
    with pytest.raises(ConfigError, match="name what to predict"):
        call("predict", "run=x")
    with pytest.raises(ConfigError, match="this is no folder"):
        call("predict", "run=x", f"watch={tmp_path}/none")


def test_a_video_is_not_overwritten(planted, tmp_path):
    run, source = planted(FOUND), film(tmp_path / "film.mp4", [1])
    before = source.read_bytes()
    with pytest.raises(ConfigError, match="it would overwrite the input"):
        call("predict", f"run={run}", f"images={source}", f"output={tmp_path}", "overwrite=true")
    assert source.read_bytes() == before


def test_results_of_another_video_of_this_name_are_replaced_on_demand_alone(planted, tmp_path):
    run, output = planted(FOUND), tmp_path / "out"
    for number, name in enumerate(("one", "two"), 1):
        (tmp_path / name).mkdir()
        film(tmp_path / name / "film.mp4", [number])
    call("predict", f"run={run}", f"images={tmp_path}/one/film.mp4", f"output={output}")
    before = (output / "film.json").read_bytes()
    with pytest.raises(ConfigError, match=r"output=.*: film\.mp4 exists; .*overwrite=true"):
        call("predict", f"run={run}", f"images={tmp_path}/two/film.mp4", f"output={output}")
    assert (output / "film.json").read_bytes() == before
    call("predict", f"run={run}", f"images={tmp_path}/two/film.mp4", f"output={output}", "overwrite=true")
    assert [row["category"] for row in json.loads((output / "film.json").read_text())] == ["dog"]


def test_a_watched_folder_does_not_replace_earlier_results(planted, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "watch", lambda *_: None)
    run, output = planted(FOUND), tmp_path / "out"
    call("predict", f"run={run}", f"images={picture(tmp_path / 'in/a.png', 1)}", f"output={output}")
    with pytest.raises(ConfigError, match=r"output=.*: detections\.json exists; .*overwrite=true"):
        call("predict", f"run={run}", f"watch={tmp_path}/in", f"output={output}")


def test_a_file_counts_when_it_no_longer_changes(tmp_path):
    seen, done = {}, {}
    picture(tmp_path / "a.png", 1)
    (tmp_path / "text.txt").write_text("x")
    assert video.settled(tmp_path, seen, done) == []
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[:50])
    assert video.settled(tmp_path, seen, done) == [tmp_path / "a.png"]
    done[tmp_path / "a.png"] = seen[tmp_path / "a.png"]
    (tmp_path / "b.png").write_bytes(content)
    assert video.settled(tmp_path, seen, done) == []
    assert video.settled(tmp_path, seen, done) == [tmp_path / "b.png"]


def test_a_file_that_is_written_again_is_read_again(planted, tmp_path, monkeypatch, caplog):
    """A camera that overwrites its picture, and a slow copy that lay still for a moment."""
    monkeypatch.setattr(video, "LOOK", 0.0)
    run, source, output = planted(FOUND), tmp_path / "in", tmp_path / "out"
    picture(source / "camera.png", 1)
    content = (source / "camera.png").read_bytes()
    (source / "slow.png").write_bytes(content[:50])
    later = {4: lambda: picture(source / "camera.png", 2), 5: lambda: (source / "slow.png").write_bytes(content)}
    looks, settled = [], video.settled

    def look(*arguments):
        looks.append(None)
        later.get(len(looks), lambda: None)()
        return settled(*arguments)

    monkeypatch.setattr(video, "settled", look)
    output.mkdir()
    video.watch(Detector.load(run), source, output, video.Shown(0.0, None), looks=9)
    assert caplog.text.count("truncated or damaged") == 1
    rows = json.loads((output / "detections.json").read_text())
    assert sorted((row["file_name"], row["category"], row["image_id"]) for row in rows) == [
        ("camera.png", "dog", 1),
        ("slow.png", "cat", 2),
    ]


def test_results_of_a_file_that_is_damaged_later_go_away(planted, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "LOOK", 0.0)
    run, source, looks, settled = planted(FOUND), tmp_path / "in", [], video.settled
    picture(source / "camera.png", 1)

    def look(*arguments):
        looks.append(None)
        if len(looks) == 4:
            (source / "camera.png").write_bytes(b"no picture")
        return settled(*arguments)

    monkeypatch.setattr(video, "settled", look)
    (tmp_path / "out").mkdir()
    video.watch(Detector.load(run), source, tmp_path / "out", video.Shown(0.0, None), looks=6)
    assert json.loads((tmp_path / "out/detections.json").read_text()) == []


def test_an_image_of_a_format_that_is_not_read_is_named(planted, tmp_path, caplog):
    run = planted(FOUND)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "IMG_1.HEIC").write_bytes(b"no picture that OpenCV reads")
    video.watch(Detector.load(run), tmp_path / "in", tmp_path, video.Shown(0.0, None), looks=2)
    assert "IMG_1.HEIC: " in caplog.text


def test_a_watched_folder_that_goes_away_is_one_message(tmp_path):
    with pytest.raises(DataError, match=r"watch=.*gone: "):
        video.settled(tmp_path / "gone", {}, {})


def test_watching_ends_with_ctrl_c(planted, tmp_path, caplog, monkeypatch, request):
    monkeypatch.setattr(video, "LOOK", 0.05)
    caplog.set_level("INFO")
    run, source, output = planted(FOUND), tmp_path / "in", tmp_path / "out"
    picture(source / "a.png", 1)

    def until(happened):
        deadline = time.time() + 120
        while not happened() and time.time() < deadline:
            time.sleep(0.05)

    def later():
        until((output / "a.png.png").exists)
        shutil.copy(source / "a.png", source / "b.png")
        (source / "bad.png").write_bytes(b"\x89PNG cut")
        until(lambda: (output / "b.png.png").exists() and "bad.png: " in caplog.text)
        time.sleep(0.2)  # the files of this look are written
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process of pytest-xdist ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    threading.Thread(target=later).start()
    call("predict", f"run={run}", f"watch={source}", f"output={output}")
    assert sorted(path.name for path in output.iterdir()) == ["a.png.png", "b.png.png", "detections.json"]
    assert {row["file_name"] for row in json.loads((output / "detections.json").read_text())} == {"a.png", "b.png"}
    assert "ended by Ctrl-C: 3 images" in caplog.text and "bad.png: " in caplog.text


def test_the_address_of_a_stream_stays_as_it_is(monkeypatch, tmp_path):
    opened = []

    def refuse(what):
        opened.append(what)
        raise DataError("no camera here")

    monkeypatch.setattr(video, "open_video", refuse)
    addresses = ["rtsp://me:secret@host:554/live?a=1", "http://host/film.mp4"]
    for address in addresses:
        with pytest.raises(DataError, match="no camera here"):
            call("predict", "run=x", f"images='{address}'", f"output={tmp_path}")
    assert opened == addresses
    written = [video.results(address, tmp_path)[1].name for address in (*addresses, "rtsp://me:secret@host")]
    assert written == ["live.json", "film.json", "host.json"]


def test_a_video_without_a_frame_leaves_earlier_results(planted, tmp_path, monkeypatch):
    run, source = planted(FOUND), film(tmp_path / "film.mp4", [1])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/film.json").write_text("earlier")
    monkeypatch.setattr(video, "frames", lambda *_, **__: iter(()))
    with pytest.raises(DataError, match="no frame can be read"):
        call("predict", f"run={run}", f"images={source}", f"output={tmp_path}/out", "overwrite=true")
    assert (tmp_path / "out/film.json").read_text() == "earlier"


def test_the_results_of_a_watched_folder_are_not_written_for_each_image(planted, tmp_path, monkeypatch):
    """With many images, that would take longer than all else."""
    monkeypatch.setattr(video, "LOOK", 0.0)
    monkeypatch.setattr(video, "REST", 1e6)
    run, written, write_text = planted(FOUND), [], video.write_text

    def counted(path, text):
        written.append(len(json.loads(text)))
        write_text(path, text)

    monkeypatch.setattr(video, "write_text", counted)
    for number in range(8):
        picture(tmp_path / "in" / f"{number}.png", 1)
    (tmp_path / "out").mkdir()
    video.watch(Detector.load(run), tmp_path / "in", tmp_path / "out", video.Shown(0.0, None), looks=3)
    assert written == [1, 8]


class Source:
    """Frames of a source by their times in milliseconds, which tells `fps` frames a second."""

    def __init__(self, times, fps=10.0, shapes=None):
        self.times, self.fps, self.shapes, self.place = times, fps, shapes or [(48, 64)] * len(times), -1

    def grab(self):
        self.place += 1
        return self.place < len(self.times)

    def retrieve(self):
        return True, np.full((*self.shapes[self.place], 3), 10, np.uint8)

    def get(self, what):
        return {
            cv2.CAP_PROP_FPS: self.fps,
            cv2.CAP_PROP_FRAME_COUNT: 0 if self.times[-1] is None else self.times[-1] * self.fps / 1000 + 1,
            cv2.CAP_PROP_POS_MSEC: self.times[min(self.place, len(self.times) - 1)] or 0.0,
        }[what]

    def release(self):
        pass


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ([0, 40, 200, 240], [0, 0.04, 0.2, 0.24]),  # a phone: frames do not follow each other evenly
        ([5000, 5040, 5200, 5240], [0, 0.04, 0.2, 0.24]),  # a part that was cut out
        ([None] * 4, [0, 0.1, 0.2, 0.3]),  # a container without times
    ],
)
def test_seconds_are_those_of_the_file(times, wanted):
    found = [seconds for _, seconds, _ in video.frames(Source(times), 1, live=False)]
    assert found == pytest.approx(wanted)
    every_second = [(number, seconds) for number, seconds, _ in video.frames(Source(times), 2, live=False)]
    assert every_second == [(0, pytest.approx(wanted[0])), (2, pytest.approx(wanted[2]))]


def test_seconds_of_a_camera_are_those_of_the_clock(monkeypatch):
    clock = iter([100.0, 101.5, 104.0])
    monkeypatch.setattr(video.time, "monotonic", lambda: next(clock))
    assert [seconds for _, seconds, _ in video.frames(Source([None] * 3), 1, live=True)] == [0, 1.5, 4]


@pytest.mark.parametrize(("told", "rate"), [(10.0, 10.0), (0.5, 0.5), (1000.0, 25.0), (90000.0, 25.0), (0.0, 25.0)])
def test_the_ticks_of_a_clock_are_no_rate(planted, tmp_path, monkeypatch, told, rate):
    """A browser's recording tells 1000 frames a second, and many network cameras 90000, which no mp4 can have."""
    (tmp_path / "film.mp4").write_bytes(b"")
    source = Source([0, 100, 200], told)
    source.get = lambda what, get=source.get: 0.3 * told if what == cv2.CAP_PROP_FRAME_COUNT else get(what)
    monkeypatch.setattr(video, "open_video", lambda _: source)
    run = planted(FOUND)
    (tmp_path / "out").mkdir()
    video.predict_video(Detector.load(run), str(tmp_path / "film.mp4"), tmp_path / "out", 1, video.Shown(0.0, None))
    capture = cv2.VideoCapture(str(tmp_path / "out/film.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (3, rate)


def test_a_frame_of_another_size_is_in_the_video(planted, tmp_path, monkeypatch):
    (tmp_path / "film.mp4").write_bytes(b"")
    monkeypatch.setattr(video, "open_video", lambda _: Source([0, 100, 200], shapes=[(48, 64), (96, 128), (48, 64)]))
    run = planted(FOUND)
    (tmp_path / "out").mkdir()
    video.predict_video(Detector.load(run), str(tmp_path / "film.mp4"), tmp_path / "out", 1, video.Shown(0.0, None))
    capture = cv2.VideoCapture(str(tmp_path / "out/film.mp4"))
    assert sum(capture.read()[0] for _ in range(5)) == 3


def test_hidden_files_of_a_watched_folder_are_not_read(tmp_path):
    """macOS writes `._a.jpg` beside a.jpg on a share, and Android `.pending-1-a.jpg` before it."""
    seen = {}
    for name in ("a.png", "._a.png", ".pending-17-a.png"):
        picture(tmp_path / name, 1)
    video.settled(tmp_path, seen, {})
    assert video.settled(tmp_path, seen, {}) == [tmp_path / "a.png"]


def test_a_picture_that_cannot_be_written_does_not_end_the_watch(planted, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(video, "LOOK", 0.0)
    run, long = planted(FOUND), f"{'a' * 250}.png"  # with another .png, the name is too long
    for name in (long, "b.png"):
        picture(tmp_path / "in" / name, 1)
    (tmp_path / "out").mkdir()
    video.watch(Detector.load(run), tmp_path / "in", tmp_path / "out", video.Shown(0.0, None), looks=3)
    assert (tmp_path / "out/b.png.png").exists() and f"{long}: " in caplog.text
    assert {row["file_name"] for row in json.loads((tmp_path / "out/detections.json").read_text())} == {long, "b.png"}
