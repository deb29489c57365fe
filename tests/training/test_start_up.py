"""What is imported until the first training step, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOOK = """
import sys
from detect.training.loop import Hook

class Loaded(Hook):
    def before_step(self, fit, step):
        print("first step:", *sys.modules, flush=True)
        raise KeyboardInterrupt
"""
NEEDLESS = [
    *("keras", "matplotlib.pyplot", "scipy.linalg", "scipy.sparse", "pandas", "pyarrow", "official.vision"),
    *("tensorflow_datasets", "tensorflow_text", "tensorflow_hub", "sklearn", "IPython", "torch", "optuna"),
]
RUN = [
    *("train", "dataset=digits", "dataset.images={train: 4, val: 2, test: 2}", "classify.enabled=false", "init=none"),
    *("detector.size=[96,96]", "backbone.depth_multiplier=0.25", "debug=step", "schedule.batch_size=2"),
    *("trust=[started]", "hooks=[{_target_: started.Loaded}]", "hydra.run.dir=here", "threads=1"),
]


@pytest.mark.slow
def test_no_library_is_imported_that_the_first_step_does_not_need(tmp_path):
    (tmp_path / "started.py").write_text(HOOK)
    places = os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])
    command = [sys.executable, "-m", "detect.cli", *RUN]
    environment = os.environ | {"PYTHONPATH": places}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("first step:"))
    loaded = set(line.split())
    assert {"tf_keras", "detect.training.loop", "orbit"} <= loaded
    assert loaded & set(NEEDLESS) == set()


def test_what_tensorflow_goes_without_can_be_imported_afterwards():
    program = (
        "import sys; from detect import environment; environment.for_program(); environment.for_program()\n"
        "import tensorflow; print([name for name in environment.UNUSED_BY_TENSORFLOW if name in sys.modules])\n"
        "import pandas, scipy.special; print(pandas.DataFrame({'a': [1, 2]})['a'].sum(), scipy.special.expit(0.0))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "3 0.5"]
