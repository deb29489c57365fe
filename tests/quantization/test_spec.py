"""The specification of fake-quantisation."""

import json
import re
from dataclasses import replace

import pytest

from detect.errors import ConfigError
from detect.quantization.spec import INT8, Spec


def test_int8():
    assert Spec(8, 8, True, "moving_average", 0.999, False, 0, 0.67, 0.9) == INT8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_bits": 3}, r"weight_bits=3 is not legal: expected a whole number from 4 to 8"),
        ({"activation_bits": 9}, r"activation_bits=9 is not legal: expected a whole number from 4 to 8"),
        ({"weight_bits": 8.0}, r"weight_bits=8.0 is not legal: expected a whole number from 4 to 8"),
        ({"weight_bits": True}, r"weight_bits=True is not legal: expected a whole number from 4 to 8"),
        ({"ranges": "ema"}, "ranges=ema is not legal: expected one of moving_average, calibrated, learned"),
        ({"decay": 1.0}, "decay=1.0: legal are numbers from 0 to below 1"),
        ({"decay": float("nan")}, "decay=nan"),
        ({"delay": -1}, "delay=-1: must be a step, 0 or more"),
        ({"delay": None}, "delay=None: must be a step"),
        ({"freeze_bn": 1.0}, "freeze_bn=1.0: must be a step, 0 or more, a share of the steps below 1, or null"),
        ({"freeze_ranges": 0.0}, "freeze_ranges=0.0: must be a step"),
        ({"keep_float": "BoxPredictor_*"}, r"must be a list: \[BoxPredictor_\*\]"),
    ],
)
def test_values_that_are_not_legal(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(INT8, **change)


def test_shares_become_steps():
    spec = Spec(delay=0, freeze_bn=2 / 3, freeze_ranges=0.9)
    assert spec.shares == ("freeze_bn", "freeze_ranges")
    assert spec.over(300) == Spec(delay=0, freeze_bn=200, freeze_ranges=270)
    assert Spec(delay=0.7).over(1).delay == 0  # the last step rounds at least
    assert Spec(delay=0.99, freeze_ranges=0.9).over(4) == Spec(delay=3, freeze_ranges=4)
    assert spec.over(300).over(7) == spec.over(300) and not spec.over(300).shares


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"freeze_bn": 300}, ["freeze_bn=300 has no effect: quantize.schedule.steps is 300"]),
        ({"freeze_bn": 299, "freeze_ranges": 0.999}, []),
        ({"ranges": "learned"}, []),  # what the option of `quantize` has is not the user's
        ({"ranges": "learned", "decay": 0.9}, ["decay=0.9 has no effect with .*ranges=learned"]),
        ({"ranges": "calibrated", "freeze_ranges": 0.5}, ["freeze_ranges=0.5 has no effect .*=calibrated"]),
    ],
)
def test_what_has_no_effect_is_told(change, told):
    found = replace(INT8, **change).warnings(300)
    assert len(found) == len(told) and all(map(re.search, told, found))


def test_a_configuration_of_json_comes_back():
    spec = Spec(keep_float=["a*"], freeze_bn=7)
    assert Spec(**json.loads(json.dumps(spec.to_config()))) == spec
