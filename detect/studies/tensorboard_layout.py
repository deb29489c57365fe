"""TensorBoard's custom-scalars page of a study: charts of all arms, as means with a band and as single runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detect.reporting.tensorboard import EVENTS, write_events
from detect.studies.curves import Band

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

LAYOUT_FILE, MEANS = f"{EVENTS}.layout", "mean_of_seeds"
CHARTS: dict[str, dict[str, str]] = {
    "scores": {name: f"^(val|test|train)/{name}$" for name in ("AP", "AP50", "AP75", "AR100")},
    "losses": {
        "total": "^loss/total$",
        "classification": "^loss/(box_)?classification$",
        "localization": "^loss/(box_)?localization$",
    },
    "region proposals": {"recall at IoU .5": "^rpn/recall_50$", "classification loss": "^loss/rpn_classification$"},
    "stage 1": {"top-1 accuracy": "^(val|test|train)/top1$"},
}
"""Category -> title -> regular expression of the tags in the chart. Categories in CLOSED are collapsed at first."""
CLOSED = ("region proposals", "stage 1")


def write_layout(folder: Path, groups: Sequence[str] = ()) -> Path:
    """Writes charts that show all runs below a log directory; returns the file in its root, which is replaced.

    groups: groups of `write_means`; each gets a chart with the means of its arms. The other charts are CHARTS.
    """
    from tensorboard.plugins.custom_scalar import layout_pb2 as pb

    categories = []
    if groups:
        margins = [pb.MarginChartContent(series=[pb.MarginChartContent.Series(**margin(name))]) for name in groups]
        means = [pb.Chart(title=f"AP, {name}", margin=one) for name, one in zip(groups, margins, strict=True)]
        categories.append(pb.Category(title="arms: mean of the seeds and its 95% interval", chart=means))
    for title, tags in CHARTS.items():
        lines = [pb.Chart(title=name, multiline=pb.MultilineChartContent(tag=[tag])) for name, tag in tags.items()]
        categories.append(pb.Category(title=title, chart=lines, closed=title in CLOSED))
    path = Path(folder) / LAYOUT_FILE
    write_events(path, [(0, _layout_summary(pb.Layout(category=categories)))])
    return path


def margin(group: str) -> dict[str, str]:
    """Tags for the mean AP of a group and for the two ends of its interval."""
    return {"value": f"AP/{group}", "lower": f"AP/{group}/low", "upper": f"AP/{group}/high"}


def write_means(folder: Path, bands: Mapping[str, Mapping[str, Band]]) -> None:
    """Writes the mean curves of a study, {group: {arm: band}}. Each arm becomes a run, `FOLDER/mean_of_seeds/ARM`."""
    arms = dict.fromkeys(arm for group in bands.values() for arm in group)
    for gone in (Path(folder) / MEANS).glob(f"*/{EVENTS}.mean"):  # of an earlier report
        if gone.parent.name not in arms:
            gone.unlink()
    for arm in arms:
        events = []
        for name, group in bands.items():
            if arm in group:
                band, tags = group[arm], margin(name).values()
                points = zip(band.steps.tolist(), band.mean, band.low, band.high, strict=True)
                events += [(step, _scalars(dict(zip(tags, figures, strict=True)))) for step, *figures in points]
        write_events(Path(folder) / MEANS / arm / f"{EVENTS}.mean", events)


def _scalars(values: Mapping[str, float]) -> "Summary":
    from tensorboard.compat.proto import summary_pb2

    summary = summary_pb2.Summary()
    for tag, value in values.items():
        summary.value.add(tag=tag, simple_value=float(value))
    return summary


def _layout_summary(layout: "Layout") -> "Summary":
    from tensorboard.compat.proto import summary_pb2
    from tensorboard.plugins.custom_scalar import metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    summary = summary_pb2.Summary()
    tensor = make_tensor_proto(layout.SerializeToString())
    summary.value.add(tag=metadata.CONFIG_SUMMARY_TAG, metadata=metadata.create_summary_metadata(), tensor=tensor)
    return summary
