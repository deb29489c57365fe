"""The evaluations of a stage during training, and the pictures that it shows."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from detect.data.dataset import ClassificationDataset, DetectionDataset
from detect.data.interface import Stream
from detect.evaluation.classification import ClassificationScores
from detect.evaluation.coco import CocoEvaluator, Scores
from detect.evaluation.interface import Detect, Evaluator
from detect.reporting import pictures, scores
from detect.training.hooks import Evaluation
from detect.training.loop import Fit, Hook


class FirstBatch(Hook):
    """Shows the first augmented batch as the network sees it, in `first_batch.png` and in TensorBoard.

    names: the class names of boxes. caption: what stands under the picture of an example, by its place in the stream.
    """

    def __init__(self, caption: Callable[[int], str], names: Sequence[str] = ()):
        self.caption, self.names = caption, names

    def begin(self, fit: Fit) -> None:
        batch = fit.trainer.stream.batch(0)
        captions = [self.caption(index) if index >= 0 else "" for index in batch["index"].tolist()]
        scores.show_batch(fit.logger, fit.folder.first_batch, batch, captions, self.names)


class ShowConfig(Hook):
    """Shows the configuration in TensorBoard."""

    def __init__(self, config: Mapping[str, object]):
        self.config = config

    def begin(self, fit: Fit) -> None:
        fit.logger.text("config", f"```\n{json.dumps(self.config, indent=2)}\n```")


class HeldOutLoss:
    """The training loss on a fixed few images of the split that is scored.

    stream: these images without augmentation. batches: how many of its batches are used, always the same ones.
    """

    def __init__(self, stream: Stream, batches: int):
        self.stream, self.batches = stream, batches

    def __call__(self, fit: Fit) -> dict[str, float]:
        """The loss and its parts, with the names of the training figures, so that TensorBoard has both in a chart."""
        return fit.trainer.held_out_losses(self.stream.batch(k) for k in range(self.batches))


class TopOne(Evaluation):
    """The mean class accuracy of a classifier on a split.

    losses: the loss beside that of training; None leaves it out.
    """

    def __init__(
        self,
        every: int,
        evaluator: Evaluator[ClassificationScores],
        dataset: ClassificationDataset,
        split: str,
        losses: HeldOutLoss | None = None,
    ):
        super().__init__(every)
        self.evaluator, self.dataset, self.split, self.losses = evaluator, dataset, split, losses

    def score(self, fit: Fit) -> float:
        found, split = self.evaluator(), self.split
        figures = {f"{split}/top1": found.top1, f"{split}/mean": found.mean}
        losses = self.losses(fit) if self.losses else {}
        score = found.mean or 0.0
        fit.logger.evaluation(fit.step, figures | losses, found.table())
        if self.draws(fit, score):
            fit.logger.images("confusion", fit.step, pictures.confusion_figure(found.confusion, self.dataset.classes))
        return score


@dataclass(frozen=True)
class Watched:
    """The split of a data set that is scored while a detector trains.

    detect: the graph function of the detector; the scores at the end share its graphs.
    """

    dataset: DetectionDataset
    split: str
    detect: Detect


class AveragePrecision(Evaluation):
    """COCO's AP of a detector on a split, with its figures, tables and pictures.

    delay: the first step at which a fake-quantised model rounds; earlier scores do not count for the best weights.
    histograms: also show the distributions of the weights. losses: as for `TopOne`.
    """

    def __init__(
        self,
        every: int,
        evaluator: Evaluator[tuple[Scores, CocoEvaluator]],
        watched: Watched,
        delay: float = 0,
        histograms: bool = False,
        losses: HeldOutLoss | None = None,
    ):
        super().__init__(every)
        self.evaluator, self.watched, self.delay, self.histograms = evaluator, watched, delay, histograms
        self.losses = losses

    def score(self, fit: Fit) -> float | None:
        step, logger = fit.step, fit.logger
        dataset, split = self.watched.dataset, self.watched.split
        found, evaluator = self.evaluator()
        figures = {f"{split}/{name}": value for name, value in found.summary.items() if value is not None}
        per_class = {f"{split}_AP/{name}": row["AP"] for name, row in found.per_class.items() if row["AP"] is not None}
        losses = self.losses(fit) if self.losses else {}
        score = found.summary["AP"] if step >= self.delay else None
        logger.evaluation(step, figures | per_class | losses, found.table())
        if self.draws(fit, score):
            logger.images("predictions", step, scores.truth_beside_predictions(dataset, split, evaluator.detections))
            logger.images("confusion", step, scores.confusion_picture(dataset, split, evaluator.detections))
            logger.pr_curves(step, found)
            if self.histograms:
                logger.histograms(step, fit.trainer.architecture.model)
        return score
