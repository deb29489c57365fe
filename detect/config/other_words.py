"""Words of other trainers for keys of this one: the answer to an unknown key."""

OTHER_WORDS = {
    "batch": "schedule.batch_size",
    "batch_size": "schedule.batch_size",
    "train_batch_size": "schedule.batch_size",
    "ims_per_batch": "schedule.batch_size",
    "samples_per_gpu": "schedule.batch_size",
    "lr": "schedule.rate",
    "lr0": "schedule.rate",
    "learning_rate": "schedule.rate",
    "base_lr": "schedule.rate",
    "warmup_steps": "schedule.warmup",
    "warmup_epochs": "schedule.warmup",
    "warmup_iters": "schedule.warmup",
    "lr_scheduler": "schedule.decay",
    "cos_lr": "schedule.decay",
    "momentum": "schedule.optimizer.momentum",
    "optimizer": "schedule/optimizer",
    "weight_decay": "schedule.weight_decay",
    "ema": "schedule.ema_decay",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "train_epochs": "epochs",
    "steps": "schedule.steps",
    "num_steps": "schedule.steps",
    "max_steps": "schedule.steps",
    "max_iter": "schedule.steps",
    "num_train_steps": "schedule.steps",
    "time": "minutes",
    "patience": "schedule.patience",
    "freeze": "schedule.freeze_until",
    "imgsz": "detector.size",
    "img_size": "detector.size",
    "image_size": "detector.size",
    "input_size": "detector.size",
    "input_shape": "detector.size",
    "img_scale": "detector.size",
    "data": "dataset.root",
    "data_dir": "dataset.root",
    "data_root": "dataset.root",
    "datasets.train": "dataset.root",
    "label_map_path": "dataset.root",
    "classes": "dataset.classes",
    "names": "dataset.classes",
    "model": "detector",
    "architecture": "detector",
    "arch": "detector",
    "weights": "init or model",
    "pretrained": "init",
    "checkpoint": "init or run",
    "fine_tune_checkpoint": "init",
    "load_from": "init",
    "checkpoint_dir": "run or hydra.run.dir",
    "workers": "threads",
    "num_workers": "threads",
    "workers_per_gpu": "threads",
    "amp": "precision",
    "mixed_precision": "precision",
    "fp16": "precision",
    "device": "distribute.devices",
    "devices": "distribute.devices",
    "gpus": "distribute.devices",
    "strategy": "distribute.kind",
    "project": "output or hydra.run.dir",
    "output_dir": "output or hydra.run.dir",
    "save_dir": "output or hydra.run.dir",
    "logdir": "output or hydra.run.dir",
    "model_dir": "output or hydra.run.dir",
    "work_dir": "output or hydra.run.dir",
    "accumulate_grad_batches": "schedule.accumulate",
    "grad_accum_steps": "schedule.accumulate",
    "augmentation": "augment",
    "close_mosaic": "mixing.until",
    "fraction": "limit.fraction",
    "deterministic_ops": "deterministic",
    "conf": "score",
    "conf_thres": "score",
    "iou_thres": "detector.postprocess.iou",
    "iou": "detector.postprocess.iou",
    "max_det": "detector.postprocess.total",
    "source": "images",
    "input": "images",
    "int8": "quantization or quantize",
    "half": "quantization or precision",
    "pipeline_config_path": "detect migrate FILE",
}
"""A key or group of `detect` for each word, where the configuration has it; of several, the first that it has."""

ANYWHERE = ("hydra.run.dir", "detect migrate FILE")
"""Answers that need no key of the configuration."""


def meant(word: str, legal: set[str]) -> str:
    """`; here it is KEY` for a word of another trainer, or "". legal: the keys and groups of the configuration.

    Of a word in another tree, such as SOLVER.BASE_LR, the last part counts, unless it is the name of a key here, too:
    then the tree may be a typing error.
    """
    tree, _, last = word.rpartition(".")
    foreign = tree.partition(".")[0] not in legal and not any(key.endswith(f".{last}") for key in legal)
    keys = OTHER_WORDS.get(word.lower()) or (OTHER_WORDS.get(last.lower(), "") if foreign else "")
    known = next((key for key in keys.split(" or ") if key in legal or key in ANYWHERE), None)
    return f"; here it is {known}" if known else ""
