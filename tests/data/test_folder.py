"""Which split a path speaks for."""

from pathlib import Path

import pytest

from detect.data.folder import splits_of


@pytest.mark.parametrize(
    ("paths", "splits"),
    [
        (["task 1, test project/a.json", "task 2/a.json"], [None, None]),
        (["my test of cats/a.csv"], ["test"]),
        (["cats_val/a.json", "cats_test/a.json"], ["val", "test"]),
        (["test/a.csv", "other/a.csv"], ["test", None]),
        (["test_images/a.csv"], ["test"]),
        (["cats_train/a.json", "cats_test/a.json"], ["train", "test"]),
        (["a/instances_val2017.json", "a/instances_train2017.json"], ["val", "train"]),
        (["my test of cats.csv"], ["test"]),
        (["eval_board/default.json", "train/default.json"], ["val", "train"]),
    ],
)
def test_words_of_folders_count_where_one_names_train(paths, splits):
    assert list(splits_of(map(Path, paths)).values()) == splits
