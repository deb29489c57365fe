"""Pictures by name: a folder that is asked for many names is listed, and the answers stay the same."""

import random
from pathlib import Path

import pytest

from detect.data import pictures
from detect.data.notes import Notes
from detect.errors import DataError


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Names of pictures, some of which exist in one or two of three folders, and some in none."""
    monkeypatch.chdir(tmp_path)
    random_names = random.Random(0)
    for k in range(60):
        for place in random_names.sample(("a", "a/deep", "b", ".hidden"), random_names.choice((1, 1, 2))):
            file = Path(place, f"{random_names.choice(('p', 'P', 'ä'))}{k}.jpg")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    Path("b/p200.jpg").mkdir()  # a folder with the name of a picture
    Path("b/p201.jpg").symlink_to(tmp_path / "a")
    Path("b/p202.jpg").symlink_to(tmp_path / "gone.jpg")
    beside = [f"{first}{k}.jpg" for k in (*range(70), 200, 201, 202) for first in ("p", "P", "ä")]
    return [*beside, *(f"deep/{name}" for name in beside), *(f"../a/{name}" for name in beside), "p\0.jpg", "x" * 300]


def found(names, folders):
    """Where each name is, or the error, in the order of the names."""
    found, places = pictures.Pictures(folders, Notes()), []
    for name in names:
        try:
            places.append(found.locate(name, "a test"))
        except DataError as error:
            places.append(str(error))
    return places


@pytest.mark.parametrize("folders", [("b", "a"), (".hidden", "a", "none"), (".", "a", "b", "a/deep")])
def test_a_folder_that_is_listed_answers_as_one_that_is_asked(names, folders, monkeypatch):
    folders = list(map(Path, folders))
    monkeypatch.setattr(pictures, "MISSES", len(names) + 1)
    asked = found(names, folders)
    assert {*asked} > {None} and len({*asked}) > 30
    for misses in (0, 3, 64):
        monkeypatch.setattr(pictures, "MISSES", misses)
        assert found(names, folders) == asked


def test_a_folder_is_asked_for_few_names_that_it_does_not_have(tmp_path, monkeypatch):
    asked = []
    real = pictures._is_file
    monkeypatch.setattr(pictures, "_is_file", lambda path: asked.append(path) or real(path))
    for k in range(500):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{k}.jpg").touch()
    found = pictures.Pictures([tmp_path, tmp_path / "images"], Notes())
    for k in range(500):
        assert found.locate(f"{k}.jpg", "a test") == str(tmp_path / "images" / f"{k}.jpg")
    assert len(asked) == 500 + pictures.MISSES


def test_names_of_another_machine_are_not_compared_with_the_frames_of_all_cameras(tmp_path, monkeypatch):
    compared, real = [], pictures.loose
    cameras, frames = 20, 5
    for k in range(cameras):
        (tmp_path / f"cam_{k}" / "images").mkdir(parents=True)
        for frame in range(frames):
            (tmp_path / f"cam_{k}" / "images" / f"{frame}.jpg").touch()
    places = pictures.Pictures([tmp_path], Notes())
    monkeypatch.setattr(pictures, "loose", lambda text: compared.append(text) or real(text))
    for k in range(cameras):
        for frame in range(frames):
            name = f"cam_{k}/images/{frame}.jpg"
            assert places.locate(f"/content/proj/{name}", "a test") == str(tmp_path / name)
            assert places.locate(f"/content/proj/{name[:-4]}", "a test", stems=True) == str(tmp_path / name)
    assert len(compared) < 20 * cameras * frames


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("/x/A/one/p.jpg", "a/one/p.jpg"),
        ("/x/one/p.jpg", "a/one/p.jpg or b/one/p.jpg"),
        ("/x/b/one/p.jpg", "b/one/p.jpg"),
        ("/x/two/P.JPG", "b/two/P.JPG"),
        ("/x/two/p.jpg", "b/two/p.jpg"),
        ("/x/b/two/P.jpg", "b/two/P.JPG or b/two/p.jpg"),
        ("https://x/b/one/p.jpg?sig=/a/one/p.jpg", "b/one/p.jpg"),
        ("/x/three/p.jpg", "a/one/p.jpg or b/one/p.jpg or b/two/p.jpg"),
    ],
)
def test_the_picture_that_shares_most_folders_is_taken(tmp_path, name, wanted):
    for picture in ("a/one/p.jpg", "b/one/p.jpg", "b/two/p.jpg", "b/two/P.JPG"):
        (tmp_path / picture).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / picture).touch()
    (place,) = found([name], [tmp_path])
    if " or " in wanted:
        assert all(str(tmp_path / one) in place for one in wanted.split(" or "))
    else:
        assert place == str(tmp_path / wanted)


def test_a_picture_outside_of_the_folders_is_noted(tmp_path):
    for name in ("set/a.jpg", "set/b c.jpg", "other/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    notes = Notes()
    places = pictures.Pictures([tmp_path / "set"], notes)
    for name in (f"{tmp_path}/set/a.jpg", "../set/a.jpg", "b c.jpg"):
        assert places.locate(name, "a test")
    assert notes.lines() == ()
    for name in (f"{tmp_path}/other/a.jpg", "../other/a.jpg"):
        assert places.locate(name, "a test").endswith("other/a.jpg")
    kind = "read, although they are outside of the folder of the data set, pictures"
    assert notes.lines() == (f"{kind}: 2 ({tmp_path}/other/a.jpg, ../other/a.jpg)",)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.avif", "a.avif has a format that is not read; save it as PNG or JPEG"),
        ("A.avif", "a.avif has a format that is not read"),
        ("b.jpg", "sub/b.HEIC has a format that is not read; save it as PNG or JPEG"),
        ("/x/b", "sub/b.HEIC has a format that is not read"),
        ("labels/a.txt", "labels/a.txt is no picture"),
        ("c.jpg", None),
        ("d.jpg", None),
    ],
)
def test_a_file_that_is_no_picture_that_is_read_is_told(tmp_path, name, told):
    for file in ("a.avif", "sub/b.HEIC", "labels/a.txt", "c.png", "c.heic"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (place,) = found([name], [tmp_path])
    assert place == (told and place) and (told or "") in (place or "")


def test_one_name_with_two_endings_asks_for_the_ending(tmp_path):
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"a test: the picture 'a' could be .*; give its ending in the annotation, or"):
        pictures.Pictures([tmp_path], Notes()).locate("a", "a test", stems=True)
