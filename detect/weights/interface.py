"""What training asks of a source of weights."""

from collections.abc import Sequence
from typing import Literal, Protocol

from detect.weights.names import Arrays

Scope = Literal["backbone", "detector"]


class Network(Protocol):
    """What a source asks of the backbone that its weights are for: the names of the network's layers elsewhere.

    slim_scope: the name of the network in TF-slim's checkpoints. A network whose file of tf_keras.applications is made
    for images in B, G, R also has `keras_bgr = True`.
    """

    @property
    def slim_scope(self) -> str: ...

    def keras_layers(self) -> dict[str, str]:
        """{name of a layer in tf_keras.applications: our name}."""


class WeightSource(Protocol):
    """Where a model's first weights come from; `init` in a configuration."""

    @property
    def scope(self) -> Scope:
        """What is filled: the layers of the backbone, or the whole detector."""

    @property
    def skip(self) -> Sequence[str]:
        """Globs of variable names that are left as they are in the model."""

    def read(self, backbone: Network) -> Arrays | None:
        """float32 arrays by the names and in the shapes of this project's variables; None starts from random values.

        backbone: what the weights are for.
        Raises WeightsError where the weights can't be had or are of another network.
        """

    def describe(self) -> str:
        """One line for logs and ledger."""
