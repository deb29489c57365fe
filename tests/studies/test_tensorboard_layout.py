"""TensorBoard's layout, read back as TensorBoard reads it."""

import numpy as np
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.plugins.custom_scalar import layout_pb2, metadata

from detect.studies.curves import Band
from detect.studies.tensorboard_layout import write_layout, write_means


def values(path):
    """(step, value) of every summary in an event file; the reader checks its sums."""
    reader, events = PyRecordReader_New(str(path)), []
    try:
        while True:
            reader.GetNext()
            events.append(event_pb2.Event.FromString(reader.record()))
    except errors.OutOfRangeError:
        assert events[0].file_version == "brain.Event:2"
    return [(event.step, value) for event in events for value in event.summary.value]


def layout_of(path):
    ((_, value),) = values(path)
    assert value.tag == metadata.CONFIG_SUMMARY_TAG
    assert value.metadata.plugin_data.plugin_name == metadata.PLUGIN_NAME
    return layout_pb2.Layout.FromString(value.tensor.string_val[0])


def test_layout_lays_runs_over_each_other(tmp_path):
    layout = layout_of(write_layout(tmp_path))
    titles = {category.title: [chart.title for chart in category.chart] for category in layout.category}
    assert titles["scores"] == ["AP", "AP50", "AP75", "AR100"] and titles["losses"][0] == "total"
    assert layout.category[0].chart[0].multiline.tag == ["^(val|test|train)/AP$"]


def test_layout_is_one_file_written_anew(tmp_path):
    write_layout(tmp_path)
    path = write_layout(tmp_path, ["cats, 20%"])
    assert [file.name for file in tmp_path.iterdir()] == [path.name] and "tfevents" in path.name
    series = layout_of(path).category[0].chart[0].margin.series[0]
    assert (series.value, series.lower, series.upper) == ("AP/cats, 20%", "AP/cats, 20%/low", "AP/cats, 20%/high")


def test_means_of_the_arms_are_runs(tmp_path):
    points = [np.array(part, float) for part in ([50, 100], [1, 2], [0.25, 0.5], [0.125, 0.375], [0.375, 0.625])]
    write_means(tmp_path, {"all": {"C": Band(points[0].astype(int), *points[1:], count=2)}})
    (path,) = (tmp_path / "mean_of_seeds" / "C").iterdir()
    found = [(step, value.tag, value.simple_value) for step, value in values(path)]
    assert found == [
        (50, "AP/all", 0.25), (50, "AP/all/low", 0.125), (50, "AP/all/high", 0.375),
        (100, "AP/all", 0.5), (100, "AP/all/low", 0.375), (100, "AP/all/high", 0.625),
    ]  # fmt: skip


def test_an_arm_that_is_gone_has_no_mean(tmp_path):
    points = [np.array([50]), *(np.array([0.5]) for _ in range(4))]
    for arm in ("old", "new"):
        write_means(tmp_path, {"all": {arm: Band(*points, count=2)}})
    assert [path.parent.name for path in (tmp_path / "mean_of_seeds").glob("*/*")] == ["new"]
