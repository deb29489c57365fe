"""The manifest for Kubernetes: what each pod would run."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from detect.config.compose import compose

ROOT = Path(__file__).resolve().parents[1]
SERVICE, JOB = yaml.safe_load_all((ROOT / "scripts/cluster/kubernetes.yaml").read_text(encoding="utf-8"))
PODS = JOB["spec"]["completions"]


@pytest.mark.parametrize("index", range(PODS))
def test_a_pod_is_a_worker_of_the_cluster_that_the_service_names(index, tmp_path):
    program = tmp_path / "detect"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$TF_CONFIG" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    pod = JOB["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    words = [word.replace("$(JOB_COMPLETION_INDEX)", str(index)) for word in container["args"]]
    shown = subprocess.run(
        [*container["command"], *words],
        env=os.environ | {"DETECT": str(program)},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    ).stdout.splitlines()
    config, verb, overrides = json.loads(shown[0]), shown[1], shown[2:]
    port = container["ports"][0]["containerPort"]
    names = [f"{JOB['metadata']['name']}-{k}.{SERVICE['metadata']['name']}:{port}" for k in range(PODS)]
    assert config == {"cluster": {"worker": names}, "task": {"type": "worker", "index": index}}
    assert pod["subdomain"] == SERVICE["metadata"]["name"] and JOB["spec"]["parallelism"] == PODS
    cfg = compose([word for word in overrides if not word.startswith("hydra.")])
    assert verb == "train" and cfg.distribute.kind == "multi_worker" and cfg.schedule.batch_size % PODS == 0
    assert any(word.startswith("hydra.run.dir=/data/") for word in overrides) and cfg.dataset.root.startswith("/data/")
