"""Trains one run on the workers of a Ray cluster, or of this machine. Ray Train sets TF_CONFIG for each worker.

    python scripts/cluster/ray_train.py RUN WORKERS [OVERRIDE ...]       # pip install 'ray[train]'

RUN is a folder that all workers share. The same command goes on after an interruption.
"""

import sys
from pathlib import Path

from ray.train import RunConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer


def work(config: dict) -> None:
    """Trains on one worker."""
    from detect import environment

    environment.for_program()
    from detect import train
    from detect.config.compose import compose

    train.main(compose(["distribute.kind=multi_worker", *config["overrides"]]), config["run"])


def main() -> None:
    run, workers, *overrides = sys.argv[1:]
    settings = {"run": str(Path(run).absolute()), "overrides": overrides}
    scaling = ScalingConfig(num_workers=int(workers), resources_per_worker={"CPU": 1})
    TensorflowTrainer(work, train_loop_config=settings, scaling_config=scaling, run_config=RunConfig()).fit()


if __name__ == "__main__":
    main()
