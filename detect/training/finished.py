"""The networks of finished runs, with their best weights."""

from detect.errors import WeightsError
from detect.modeling.interface import Detector
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import RANGE_VARIABLES
from detect.runs.folder import QUANTIZED, RunFolder
from detect.training import budget, build
from detect.weights import checkpoint
from detect.weights.transfer import transfer


def load_architecture(run: RunFolder, stage: str) -> Detector:
    """The meta-architecture of a run with the best weights of a stage; `quantized` is the fake-quantised twin.

    Raises WeightsError for a stage that the run does not have or has not evaluated yet.
    """
    best = run.stage(stage).best
    if not checkpoint.exists(best):
        raise WeightsError(
            f"{run.path}: there is no {stage}/best: the run has no such stage, or has not reached its first evaluation"
        )
    architecture = _with_random_weights(run)
    if stage == QUANTIZED:
        architecture.adopt(fake_quant(architecture.model, build.quantization(budget.configuration(run))))
    checkpoint.load(architecture.model, best)
    return architecture


def float_twin(run: RunFolder) -> Detector:
    """The float meta-architecture with the weights of a run's fake-quantised stage; the int8 file approximates it."""
    best, architecture = run.stage(QUANTIZED).best, _with_random_weights(run)
    transfer(architecture.model, checkpoint.read(best), source=str(best), layers=None, skip=RANGE_VARIABLES)
    return architecture


def _with_random_weights(run: RunFolder) -> Detector:
    return build.detector(run.saved_config(), len(run.class_names()))
