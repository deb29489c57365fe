"""Trains small networks on the replicas that its arguments name, and prints losses and weights: a process of a test.

    python -m tests.training.distributed DATA KIND DEVICES PART,... [OVERRIDE ...]

A part is a network, with `+sync` for batch norm that is trained. The output is JSON: {part: {"losses": [...],
"weights": digest, "scores": AP or accuracy}}.
"""

import hashlib
import json
import sys
from pathlib import Path

NETWORKS = {
    "ssd": ("detector=ssd", "detector.neck.channels=[]"),
    "faster_rcnn": ("detector=faster_rcnn", "detector.proposals.count=20", "detector.box_sampler.size=8"),
    "fcos": ("detector=fcos", "backbone=mobilenet_v1", "backbone.depth_multiplier=0.25"),
    "classifier": ("detector=ssd", "detector.neck.channels=[]", "classify.classifier.dropout=0"),
    "fake_quant": (
        *("detector=ssd", "detector.neck.channels=[]", "quantize=int8", "quantize.schedule.batch_size=8"),
        *("quantize.schedule.warmup=2", "quantize.spec.freeze_bn=null"),
    ),
}
COMMON = (
    *("init=none", "backbone._target_=tests.tiny_backbone.Tiny", "trust=[tests]", "detector.size=[96,96]"),
    *("schedule.batch_size=8", "schedule.steps=40", "schedule.warmup=2", "augment=none", "threads=1"),
    *("classify.schedule.batch_size=8", "classify.classifier.size=[32,32]", "classify.schedule.warmup=2"),
    "dataset=yolo",
)


def main() -> None:
    data, kind, devices, parts, *more = sys.argv[1:]
    import tf_keras

    from detect.config.compose import compose
    from detect.evaluation.evaluators import ClassificationEvaluator, DetectionEvaluator
    from detect.geometry.frame import Frame
    from detect.quantization.rewrite import fake_quant
    from detect.runs.dataset import dataset_of
    from detect.runs.folder import RunFolder
    from detect.runs.start import Run
    from detect.runs.workers import worker
    from detect.training import build
    from detect.training.trainer import Trainer

    found = {}
    for part in parts.split(","):
        network, _, synchronised = part.partition("+")
        frozen = [] if synchronised else ["schedule.batch_norm=frozen", "classify.schedule.batch_norm=frozen"]
        given = [*COMMON, *frozen, f"dataset.root={data}", f"distribute.kind={kind}", f"distribute.devices={devices}"]
        own = [o for o in given if not (network == "fcos" and o.startswith("backbone._target_"))]
        cfg = compose([*own, *NETWORKS[network], *more])
        run = Run(RunFolder(Path(data)), cfg, dataset_of(cfg, False), {}, None, worker(cfg))
        build.set_up(cfg, run.worker)
        replicas = build.replicas(run)
        with replicas.strategy.scope():
            if network == "classifier":
                pictures, schedule = build.stage_1_dataset(run), build.instantiate(cfg.classify.schedule)
                architecture = build.classifier(cfg, pictures.num_classes)
            else:
                schedule = build.quantized_schedule(cfg) if network == "fake_quant" else build.instantiate(cfg.schedule)
                architecture = build.detector(cfg, run.dataset.num_classes)
            schedule.prepare(architecture)
            replicas.prepare(architecture)
            if network == "fake_quant":
                architecture.adopt(fake_quant(architecture.model, build.quantization(cfg)))
        if network == "classifier":
            stream = build.classification_stream(run, architecture, schedule, pictures)
            evaluator = ClassificationEvaluator(
                architecture.detect, architecture.size, pictures, "train", 8, 1, replicas
            )
        else:
            stream = build.training_stream(run, architecture, schedule)
            frame = Frame(architecture.size, architecture.resize)
            evaluator = DetectionEvaluator(architecture.detect, frame, run.dataset, "val", 2, 1, replicas)
        trainer, rows = Trainer(architecture, schedule, stream, replicas), []
        trainer.after_step = rows.append
        trainer.train(20)
        scores = evaluator()
        weights = hashlib.sha256(b"".join(v.numpy().tobytes() for v in architecture.model.variables)).hexdigest()
        found[part] = {
            "losses": [row["loss/total"] for row in rows],
            "norms": [row["gradient_norm"] for row in rows],
            "weights": weights,
            "scores": scores.to_dict() if network == "classifier" else scores[0].summary,
        }
        tf_keras.backend.clear_session()
    print(json.dumps(found))


if __name__ == "__main__":
    from detect.config import trust

    with trust.trusting(("tests",)):
        main()
