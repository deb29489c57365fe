"""Names of variables: translates those of TF-slim and the TF 1 Object Detection API, and recognises networks."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from detect.errors import WeightsError, printable

LONGEST = 500  # characters of a name
SLIM_NAMES = {
    "weights": "kernel",
    "depthwise_weights": "depthwise_kernel",
    "pointwise_weights": "pointwise_kernel",
    "biases": "bias",
}
NORM_NAMES = ("gamma", "beta", "moving_mean", "moving_variance")
API_SCOPES = ("FeatureExtractor/", "FirstStageFeatureExtractor/", "SecondStageFeatureExtractor/")
RPN = "FirstStageBoxPredictor/"

NETWORKS = (
    # First TF-slim's scopes, then layers that only one network has, with our names, then with the names of Keras.
    *((scope, rf"(^|/){scope}/") for scope in ("MobilenetV[1-3]", "Inception(V[1-4]|ResnetV2)", "vgg_1[169]")),
    *((scope, rf"(^|/){scope}/") for scope in (r"resnet_v[12]_\d+", "pnasnet|cell_stem_0", "MobilenetEdgeTPU")),
    ("MobilenetV1", r"^Conv2d_1_depthwise/"),
    ("MobilenetV3", r"^expanded_conv(_\d+)?/squeeze_excite/"),
    ("MobilenetV2", r"^expanded_conv_\d+/expand/"),
    ("InceptionV3", r"^(Conv2d_4a_3x3|Mixed_[67]a)/"),
    ("InceptionV2", r"^Mixed_5c/"),
    ("vgg_16", r"^conv5/conv5_3/"),
    ("MobilenetV1", r"^conv_dw_1/"),
    ("MobilenetV2", r"^block_1_expand/"),
    ("VGG19", r"^block5_conv4/"),
    ("vgg_16", r"^block5_conv3/"),
    ("EfficientNet", r"^block1a_(dw|project_)conv"),
    ("Xception", r"^block14_sepconv2/"),
    ("DenseNet", r"^conv5_block16_1_conv/"),
    ("ResNet", r"^(res5c_branch2c|conv5_block3_\d_conv)/"),
    ("InceptionResnetV2", r"^conv_7b/"),
    ("InceptionV3", r"^conv2d_94/"),
)


class Arrays(dict[str, np.ndarray]):
    """Arrays by our names, the result of a reader.

    ours: this program wrote the file; then every array that is not in a layer of the backbone belongs to a head.
    classes: the class names of the run that the file belongs to; None if they are not known.
    settings: the configuration of that run by dotted key; of other files, the keys that the format or the catalogue
        tells. None if nothing is known.
    anchors: those of the detector in the file, if the file tells them (`detect.weights.anchor_order`).
    notes: lines for the log about what the file holds beside them.
    use: the overrides of `detect train` that build the network of the file; empty if they are not known.
    Raises WeightsError for a name that is no name of a variable: with control characters, or very long.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], ours: bool = False):
        for name in arrays:
            if len(name) > LONGEST or printable(name) != name:
                raise WeightsError(
                    f"the file has an array of the name {printable(name[:LONGEST])}: legal are names of variables, of "
                    f"at most {LONGEST} characters without control characters"
                )
        super().__init__(arrays)
        self.ours = ours
        self.classes: tuple[str, ...] | None = None
        self.settings: dict[str, object] | None = None
        self.notes: list[str] = []
        self.use = ""
        self.anchors: list[list[tuple[float, float]]] | np.ndarray | None = None


def our_name(name: str, slim_scope: str) -> str:
    """`MobilenetV1/Conv2d_0/weights` -> `Conv2d_0/kernel`. Our own names do not change.

    Feature extractors of the Object Detection API contain the network's scope: `FeatureExtractor/MobilenetV1/...`.
    """
    for scope in API_SCOPES:
        name = name.removeprefix(scope)
    while name.startswith(f"{slim_scope}/"):  # older ones of the API contain it twice
        name = name.removeprefix(f"{slim_scope}/")
    *layer, last = name.split("/")
    return "/".join([*layer, SLIM_NAMES.get(last, last)])


def our_arrays(arrays: Mapping[str, np.ndarray], slim_scope: str) -> Arrays:
    """All arrays of a TensorFlow file by our names. Raises WeightsError if two of them get the same name."""
    two_stages = any(name.startswith("FirstStage") for name in arrays)
    result: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        # In the API's Faster R-CNN, the convolution of the region proposal network is in no scope.
        ours = our_name(RPN + name if two_stages and name.startswith("Conv/") else name, slim_scope)
        if ours in result:
            both = printable(f"{ours}, one of them {name}")
            raise WeightsError(f"the file has two arrays for the variable {both}")
        result[ours] = array
    return Arrays(result, ours=any(name.endswith("/kernel") for name in arrays))


def looks_like(names: Iterable[str]) -> str | None:
    """The network that variables with these names belong to (`MobilenetV2`); None if it is unknown."""
    names = list(names)
    for network, pattern in NETWORKS:
        for name in names:
            if found := re.search(pattern, name):
                scope = found.group().strip("/")
                return scope if re.fullmatch(network, scope) else network
    return None


def is_variable(name: str) -> bool:
    """Whether TF-slim and the API give a weight such a name."""
    return name.rpartition("/")[2] in (*SLIM_NAMES, *NORM_NAMES)
