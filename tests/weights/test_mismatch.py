"""What is advised for weights that do not fit the model."""

import pytest

from detect.weights.ledger import Ledger
from detect.weights.mismatch import complaint

BOXES = {f"BoxPredictor_{i}/BoxEncodingPredictor/kernel": ((3, 3, 8, 12), (1, 1, 8, 12)) for i in range(2)}
BACKBONE = {"Conv/kernel": ((3, 3, 3, 8), (3, 3, 3, 4))}


@pytest.mark.parametrize(
    ("mismatched", "keys", "skip"),
    [
        (BOXES, ["detector.head.kernel", "detector.anchors"], "*Predictor*"),
        (BACKBONE | BOXES, ["depth_multiplier"], "Conv/kernel"),
    ],
)
def test_shapes_of_heads_alone_have_another_cause(mismatched, keys, skip):
    ledger = Ledger("x.ckpt", loaded={"Conv_1/kernel": (1,)}, mismatched=mismatched)
    message = complaint(ledger, {}, {})
    legal = ["detector.head.kernel", "detector.anchors", "depth_multiplier"]
    assert [key for key in legal if key in message] == keys and message.endswith(f"'init.skip=[{skip}]'")


def test_the_network_of_an_archive_is_named():
    ledger = Ledger("published weights x", loaded={"Conv_1/kernel": (1,)}, mismatched=BOXES)
    use = "detector=ssd backbone=mobilenet_v1"
    assert f"The file is of the network of {use}\n" in complaint(ledger, {}, {}, use)
