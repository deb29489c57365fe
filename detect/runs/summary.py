"""The results that a stage writes when it ends: `summary.json`, and its row in TensorBoard's HParams."""

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from detect.config.fingerprint import fingerprint
from detect.data.statistics import outline
from detect.files import write_json
from detect.runs import forms
from detect.runs.folder import RunFolder
from detect.runs.stage_folder import StageFolder
from detect.runs.start import Run

OUTCOME = ("steps", "seconds", "images_per_second", "best", "best_step")
"""The keys of a summary with the cost of a stage and its best score."""


def write_summary(
    path: Path,
    run: Run,
    outcome: Mapping[str, object],
    scores: Mapping[str, object],
    schedule: Mapping[str, object],
    **more: object,
) -> None:
    """Writes `summary.json`: scores, cost, schedule, seed, place in a study, versions, commit, data set, host.

    Worker 0 writes it for all workers.
    schedule: the settings that the stage really used, by name. `budget` has the steps of stage 2, as configured
    or as `minutes` or `epochs` set them, without the extra steps of an arm.
    """
    if not run.worker.is_chief:
        return
    cfg = run.cfg
    content: dict[str, object] = {
        "name": str(cfg.name),
        "study": cfg.study,
        "arm": cfg.arm.name,
        "fraction": fraction(cfg),
        "budget": cfg.schedule.steps,
        "network": network(cfg),
        "seed": cfg.seed,
        "fingerprint": fingerprint(cfg),
        "scores": scores,
        **outcome,
        "schedule": schedule,
        **more,
        "dataset": {"name": str(run.dataset.name), "fingerprint": run.dataset.fingerprint(), **outline(run.dataset)},
        **run.provenance,
        **({"extended": changes} if (changes := run.folder.changes()) else {}),
    }
    write_json(path, content)


def tell(run: Run, place: StageFolder | RunFolder) -> None:
    """Tells the loggers the results of a finished stage; only worker 0 has loggers and results."""
    if run.worker.is_chief:
        run.loggers.results(*results(place))


def results(place: StageFolder | RunFolder) -> tuple[str, dict[str, float], list[Path]]:
    """What loggers are told of a finished stage, from its `summary.json`: its name, its figures and its files.

    The folder of a run stands for its last stage, whose name is "".
    Raises DataError for a damaged summary.
    """
    about = forms.read(place.summary, forms.ENDED)
    found = {f"{split}/{name}": value for split, of in about["scores"].items() for name, value in of.items()}
    found |= {key: about.get(key) for key in OUTCOME}
    figures = {key: float(value) for key, value in found.items() if isinstance(value, int | float)}
    stage, more = ("", [place.config]) if isinstance(place, RunFolder) else (place.name, [])
    return stage, figures, [*more, *sorted(place.path.glob("*.png")), place.summary]


def network(cfg: DictConfig) -> str:
    """`SSD MobileNetV1`: meta-architecture and backbone."""
    return " ".join(part._target_.rpartition(".")[2] for part in (cfg.detector, cfg.backbone))


def hyper_parameters(cfg: DictConfig, stage: str, schedule: Mapping[str, object]) -> dict[str, object]:
    """The settings for TensorBoard's HParams page: the main values of groups as flat scalars.

    stage: the name of the last stage. schedule: the settings that it really used, by name.
    """
    keys = ("rate", "steps", "warmup", "batch_size", "decay", "weight_decay", "batch_norm", "freeze_until")
    values: dict[str, object] = {"stage": stage, **{f"schedule.{key}": schedule[key] for key in keys}}
    values |= {"seed": cfg.seed, "classify": cfg.classify.enabled, "init": cfg.init._target_.rsplit(".", 1)[-1]}
    values |= {"arm": cfg.arm.name or cfg.name, "fraction": fraction(cfg)}
    values |= {f"backbone.{key}": value for key, value in cfg.backbone.items() if key != "_target_"}
    return {key: str(value) if value is None else value for key, value in values.items()}


def fraction(cfg: DictConfig) -> float:
    """The share of the training images that a run uses."""
    return 1.0 if cfg.limit.fraction is None else float(cfg.limit.fraction)
