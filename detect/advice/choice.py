"""Chooses a network, fits its anchors and times its steps: the experiment that `detect advise` proposes."""

import logging
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from detect.advice import rules
from detect.config import trust
from detect.config.compose import compose
from detect.config.tree import container, listed
from detect.data.dataset import DetectionDataset
from detect.data.statistics import Coverage
from detect.errors import WeightsError, printable
from detect.files import expanded
from detect.modeling.interface import Detector
from detect.runs import provenance
from detect.runs.folder import RunFolder
from detect.runs.start import Run
from detect.runs.summary import network
from detect.studies.nearest import Neighbour, best_rate

log = logging.getLogger("detect")
NETWORKS = {"inception_v2": 24, "mobilenet_v2": 22, "mobilenet_v1": 21}
"""Backbones of SSD to try if none is named, the best first, with their published AP on COCO."""
BATCH_SIZE, STAGE_1_STEPS, EVALUATIONS, LEAST_STEPS = 8, 200, 5, 50


@dataclass
class Proposal:
    """An experiment: the options of groups that it chooses, the values that it sets, and its measurements."""

    choices: dict[str, str]
    values: dict[str, Any]
    unmatched: tuple[Coverage, Coverage] | None = None  # coverage of the stock anchors, and of the proposed ones
    seconds: dict[str, float] | None = None  # seconds of a step of each stage
    own: Path | None = None  # the user's own folder of configurations

    @property
    def minutes(self) -> float:
        """The minutes of training in all stages."""
        return sum(self.minutes_of(stage) for stage in self.seconds or {})

    def minutes_of(self, stage: str) -> float:
        """The minutes of training in one stage; 0 if it is left out."""
        steps = STAGE_1_STEPS if stage == "classify" else self.values["schedule"]["steps"]
        return steps * (self.seconds or {}).get(stage, 0.0) / 60

    def shorten(self, minutes: float) -> None:
        """Gives the detector the steps that fit `minutes` after stage 1, at least LEAST_STEPS. Without time for these,
        stage 1 is left out."""
        least, steps = LEAST_STEPS, self.values["schedule"]["steps"]
        if minutes - self.minutes_of("classify") < self.minutes_of("detector") * least / steps:
            (self.seconds or {}).pop("classify", None)
            self.values["classify"]["enabled"] = False
        share = (minutes - self.minutes_of("classify")) / self.minutes_of("detector")
        self.values["schedule"] |= intervals(max(int(steps * share) // least * least, least))


def choose(
    cfg: DictConfig,
    dataset: DetectionDataset,
    like: Neighbour | None,
    candidates: list[dict[str, str]],
    fixed: dict[str, Any],
    own: Path | None = None,
) -> Proposal:
    """The first network that fits `init` and trains within `minutes`; if none does, the last one with fewer steps.

    Raises WeightsError if `init` fits none.
    """
    found: list[Proposal] = []
    refusals: list[WeightsError] = []
    for choices in candidates:
        proposed = replace(propose(cfg, dataset, like, choices, fixed), own=own)
        try:
            measure(cfg, dataset, proposed)
        except WeightsError as error:
            log.info("%s: these weights are of another network", choices["backbone"])
            refusals.append(error)
            continue
        log.info("%s: %.0f minutes of training", choices["backbone"], proposed.minutes)
        found.append(proposed)
        if proposed.minutes <= cfg.minutes:
            return proposed
    if not found:
        raise refusals[-1]
    found[-1].shorten(cfg.minutes)
    return found[-1]


def propose(
    cfg: DictConfig,
    dataset: DetectionDataset,
    like: Neighbour | None,
    choices: dict[str, str],
    fixed: dict[str, Any],
) -> Proposal:
    """The proposal of the rules for a network, before measurements: stock anchors, and all steps.

    fixed: values of the network that the rules must not change.
    """
    values: dict[str, Any] = {"name": cfg.name}
    for group in ("dataset", "init"):
        node = container(cfg[group])
        values[group] = {k: v for k, v in node.items() if not k.startswith("_") and k != "archives"}
    for group, key in (("dataset", "root"), ("dataset", "roots"), ("init", "path")):
        if key in values[group] and (given := cfg[group][key]) is not None:
            places = [str(expanded(str(place)).resolve()) for place in listed(given)]
            values[group][key] = places if isinstance(given, ListConfig) else places[0]
    steps = rules.steps(len(dataset.splits["train"]), BATCH_SIZE)
    values |= {
        "detector": {"size": list(rules.frame_size(dataset))},
        "classify": {  # it would change the backbone of heads that come with the weights
            "enabled": not brings_heads(cfg) and (like is None or like.best_arm == "crops"),
            "schedule": {"steps": STAGE_1_STEPS, "evaluate_every": STAGE_1_STEPS, "checkpoint_every": STAGE_1_STEPS},
        },
        "schedule": {"batch_size": BATCH_SIZE, **intervals(steps)},
    }
    values = {key: value for key, value in values.items() if value}
    return Proposal(choices, {**values, **_merged(values, fixed)})


def brings_heads(cfg: DictConfig) -> bool:
    """Whether the heads come with the weights of `init`. Other anchors would need heads of other shapes."""
    return bool(cfg.init.get("scope") == "detector")


def _merged(values: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
    """The nodes of `fixed`, merged into those of `values`."""
    return {key: values.get(key, {}) | node for key, node in fixed.items()}


def intervals(steps: int) -> dict[str, int]:
    """The steps of the detector, and the intervals of evaluations and checkpoints."""
    return {"steps": steps, "evaluate_every": steps // EVALUATIONS, "checkpoint_every": steps // EVALUATIONS}


def measure(cfg: DictConfig, dataset: DetectionDataset, proposed: Proposal) -> None:
    """Builds the network as `detect train` does, takes the rate that was best in the studies, fits its anchors if the
    stock ones miss boxes, and times steps.

    Raises WeightsError if `init` is a file of another network.
    """
    from detect.training import budget, build  # imports TensorFlow

    train = composed(cfg, proposed)
    build.set_up(train)
    # No study trains heads that come with the weights.
    if not brings_heads(cfg) and (rate := best_rate(network(train))) is not None:
        proposed.values["schedule"]["rate"] = rate
    fit_anchors(cfg, dataset, proposed, started(train, dataset))
    run = Run(RunFolder(Path(tempfile.gettempdir())), composed(cfg, proposed), dataset, {})
    timed = ["classify", "detector"] if proposed.values["classify"]["enabled"] else ["detector"]
    proposed.seconds = {stage: budget.seconds_a_step(run, stage, cfg.timed_steps) for stage in timed}


def started(train: DictConfig, dataset: DetectionDataset, published: bool = False) -> Detector:
    """The detector of a training configuration, with the weights of `init` if that names a file.

    published: also those of the catalogue, which may be fetched. Raises WeightsError if they are of another network.
    """
    from detect.training import build
    from detect.weights.sources import FromFile
    from detect.weights.transfer import transfer

    detector, weights = build.detector(train, dataset.num_classes), build.instantiate(train.init)
    fits = published or isinstance(weights, FromFile)
    arrays = weights.read(build.instantiate(train.backbone)) if fits else None
    if arrays is not None:
        layers, skip = detector.backbone_layers, weights.skip
        transfer(detector.model, arrays, source=weights.describe(), layers=layers, scope=weights.scope, skip=skip)
    return detector


def fit_anchors(cfg: DictConfig, dataset: DetectionDataset, proposed: Proposal, detector: Detector) -> None:
    """If the stock anchors leave too many boxes of a class unmatched, replaces them by ones that fit the boxes, where
    their generator can be fitted and they cover more. If too many boxes are still unmatched, adds a finer map.

    Anchors and necks that the user has chosen stay, and those of heads that come with the weights.
    """
    from detect.training import build

    train = composed(cfg, proposed)
    stock = rules.covered(dataset, detector)
    proposed.unmatched = stock, stock
    node = proposed.values["detector"]
    chosen = {"anchors", "neck"} & node.keys() or {"detector/anchors", "detector/neck"} & proposed.choices.keys()
    if rules.worst_class(stock) is None or chosen or brings_heads(cfg):
        return
    suited = rules.fitted_anchors(dataset, detector)
    if suited is None:
        return
    fitted = stock
    if rules.covers_more(suited[1], stock):
        node["anchors"], fitted = suited
    proposed.unmatched = stock, fitted
    backbone, neck = build.instantiate(train.backbone), train.detector.get("neck", {})
    stock_neck = neck.get("channels", 0) is None and neck.get("maps", 0) is None
    finer_maps, extras = (list(getattr(backbone, name, ())) for name in ("fpn_maps", "ssd_extras"))  # one may lack them
    if rules.worst_class(fitted) is None or not stock_neck or not finer_maps or finer_maps[0] in detector.maps:
        return
    neck = {"maps": finer_maps, "channels": extras[:-1]}
    others = {key: value for key, value in node.items() if key != "anchors"}
    finer = replace(proposed, values=proposed.values | {"detector": others | {"neck": neck}})
    suited = rules.fitted_anchors(dataset, build.detector(composed(cfg, finer), dataset.num_classes))
    if suited is not None and rules.covers_more(suited[1], fitted):
        node |= {"neck": neck, "anchors": suited[0]}
        proposed.unmatched = stock, suited[1]


def composed(cfg: DictConfig, proposed: Proposal) -> DictConfig:
    """The training configuration of a proposal, checked as `detect train` checks it."""
    with tempfile.TemporaryDirectory() as folder:
        if proposed.own:
            _copy_configurations(proposed.own, Path(folder))
        rules.write_experiment(Path(folder), cfg.name, rules.experiment_text([], proposed.choices, proposed.values))
        words = [
            f"experiment={cfg.name}",
            f"seed={cfg.seed}",
            f"threads={'null' if cfg.threads is None else cfg.threads}",
            *trust.line(cfg.trust),
        ]
        return compose(words, config_dir=folder)


def _copy_configurations(source: Path, target: Path) -> None:
    """Copies the YAML files of a folder, which may hold much else."""
    for file in (file for file in source.rglob("*.yaml") if file.is_file()):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def reasons(chosen: Proposal, dataset: DetectionDataset, like: Neighbour | None) -> list[str]:
    """The reasons for the proposal, as lines of at most 78 columns."""
    height, width = chosen.values["detector"]["size"]
    enabled = chosen.values["classify"]["enabled"]
    stage_1 = "with stage 1" if enabled else "without stage 1"
    if not enabled and chosen.values.get("init", {}).get("scope") == "detector":
        why = ": the heads come with the weights"
    elif not enabled and (like is None or like.best_arm == "crops"):
        why = ": there is no time for it"
    elif like is None:
        why = ": there is no study to go by"
    elif like.best_arm == "crops":
        why = ": it was worth more than further steps there"
    else:
        why = ": not shown to beat further steps there"
    stock, fitted = chosen.unmatched or (None, None)
    lines = [
        f"network   {chosen.choices['detector']} on {chosen.choices['backbone']}, frame {height}x{width}",
        f"start     init={chosen.choices['init']}, {stage_1}{why}",
    ]
    if stock is not None and fitted is not None:
        moved = "" if fitted is stock else f", after fitting {fitted.unmatched}"
        lines.append(f"anchors   stock ones miss {stock.unmatched} of {stock.boxes} boxes{moved}")
        if (worst := rules.worst_class(fitted)) is not None:
            missed, boxes = fitted.by_class[worst]
            lines.append(f"          {missed} of {boxes} boxes of {printable(worst)} still have none")
    steps, images = chosen.values["schedule"]["steps"], len(dataset.splits["train"])
    rate = chosen.values["schedule"].get("rate")
    peak = "" if rate is None else f", rate {rate:g}"
    times = steps * BATCH_SIZE / images
    return [*lines, f"schedule  {steps} steps of {BATCH_SIZE}: {times:.0f} times each image{peak}"]


def expected(chosen: Proposal) -> list[str]:
    """The text under `Expected` in the file."""
    host = provenance.host()
    return [f"Expected: {chosen.minutes:.0f} minutes of training on {host['cpu']}, {host['cores']} cores (timed)"]
