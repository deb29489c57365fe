"""Atomic files: of two writers of one file, each writes it whole."""

import threading
import time

import pytest

from detect import files
from detect.errors import ConfigError
from tests.full_disk import largest_file


def test_of_two_writers_one_waits_for_the_other(tmp_path):
    path, seen, inside = tmp_path / "one.json", [], threading.Event()

    def slow():
        with files.replacing(path) as temporary:
            inside.set()
            temporary.write_text("A" * 5)
            time.sleep(0.3)
            with temporary.open("a") as file:
                file.write("A" * 5)
        seen.append(path.read_text())

    def quick():
        inside.wait()
        files.write_text(path, "B" * 5)
        seen.append(path.read_text())

    threads = [threading.Thread(target=target) for target in (slow, quick)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) <= {"A" * 10, "B" * 5} and len(seen) == 2
    assert path.read_text() == "B" * 5 and list(tmp_path.iterdir()) == [path]


def test_many_writers(tmp_path):
    path, errors = tmp_path / "one.txt", []

    def write(number):
        try:
            for _ in range(50):
                files.write_text(path, f"{number}" * 1000)
                assert len(set(path.read_text())) == 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and list(tmp_path.iterdir()) == [path]


def test_after_an_error_nothing_is_left(tmp_path):
    with pytest.raises(ValueError, match="bug"), files.replacing(tmp_path / "a") as temporary:
        temporary.write_text("part")
        raise ValueError("bug")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.new").write_text("of a process that was killed")
    files.write_text(tmp_path / "a", "whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "whole")]


@pytest.mark.parametrize("letters", [251, 255])
def test_a_file_of_the_longest_name(tmp_path, letters):
    path = tmp_path / ("n" * letters)
    files.write_text(path, "text")
    assert path.read_text() == "text" and list(tmp_path.iterdir()) == [path]


def test_a_name_that_no_file_can_have():
    with pytest.raises(ConfigError, match="no file or folder can have this name: embedded null"):
        files.expanded("a\0b")


def test_a_file_system_without_locks_is_told_and_written(tmp_path, monkeypatch, caplog):
    def flock(file, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    for text in ("first", "second"):
        files.write_text(tmp_path / "a", text)
    assert (tmp_path / "a").read_text() == "second" and list(tmp_path.iterdir()) == [tmp_path / "a"]
    (told,) = caplog.messages
    assert told.startswith(f"{tmp_path}: its file system has no locks (")


def test_a_list_that_another_program_writes_is_refused_and_stays_whole(tmp_path):
    """Two predictions with one output: the second one would wait without end, or replace the results of the first."""
    path = tmp_path / "detections.json"
    with files.json_list(path) as first:
        first([1])
        with pytest.raises(ConfigError, match=r"detections\.json: another program writes it"), files.json_list(path):
            pass
        first([2])
    assert files.read_json(path) == [1, 2] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("items", "kept"), [([], "earlier"), ([[]], []), ([[1], [2]], [1, 2])])
def test_an_error_before_the_first_items_leaves_an_earlier_list(tmp_path, items, kept):
    """A video that can't be written here must not replace the results of another one."""
    path = tmp_path / "list.json"
    files.write_json(path, "earlier")
    with pytest.raises(ValueError, match="bug"), files.json_list(path) as append:
        for some in items:
            append(some)
        raise ValueError("bug")
    assert files.read_json(path) == kept and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [4096, 5000])  # the first one is the end of a block
def test_a_full_disk_leaves_the_whole_items(tmp_path, size):
    path, appended = tmp_path / "list.json", []
    with pytest.raises(OSError, match="File too large"), largest_file(size), files.json_list(path) as append:
        for number in range(size):
            append([number, "x" * 90])
            appended += [number, "x" * 90]
    assert appended and files.read_json(path) == appended and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_before_the_first_items_leaves_an_earlier_list(tmp_path):
    path = tmp_path / "list.json"
    files.write_json(path, "earlier")
    with pytest.raises(OSError, match="File too large"), largest_file(50), files.json_list(path) as append:
        append(["x" * 90])
    assert files.read_json(path) == "earlier" and list(tmp_path.iterdir()) == [path]


def test_names_that_are_numbers_are_names(tmp_path, monkeypatch):
    """`dataset.roots=[2023,2024]`: YAML reads them as numbers."""
    monkeypatch.chdir(tmp_path)
    assert files.absolute(2023, "dataset.roots") == tmp_path / "2023"
    assert str(files.expanded(2023)) == "2023"
    with pytest.raises(ConfigError, match="expected one path"):
        files.expanded(["2023"])


@pytest.mark.parametrize("path", ["x" * 300, "x/" * 3000])
def test_a_name_that_is_too_long_is_one_message(path):
    with pytest.raises(ConfigError, match=r"^x.{79}\.\.\.: this name is too long for a file or folder$"):
        files.expanded(path)
