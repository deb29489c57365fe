"""The kinds of TFLite files. Nothing here imports TensorFlow."""

from dataclasses import dataclass

from detect.errors import ConfigError

INT8 = ("ptq", "qat")
"""The kinds that compute in int8."""
OUTPUTS = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
"""The outputs after suppression, of files of every format."""


@dataclass(frozen=True)
class Options:
    """The kind of a file: the arguments of `convert`, and `nms`, the operations after the heads.

    takes, gives: None is uint8 for the image, and float32 for the heads, or int8 if an int8 file ends with its heads.
    Raises ConfigError for options that contradict each other.
    """

    quantize: str = "none"
    weights: str = "per_channel"
    nms: str = "none"
    takes: str | None = None
    gives: str | None = None
    batch: int | None = 1

    def __post_init__(self):
        ends_int8 = self.quantize in INT8 and self.nms == "none"
        object.__setattr__(self, "takes", self.takes or "uint8")
        object.__setattr__(self, "gives", self.gives or ("int8" if ends_int8 else "float32"))
        if self.takes == "int8" and self.quantize not in INT8:
            raise ConfigError(
                f"input=int8 quantize={self.quantize}: it takes uint8 or float32; int8 needs quantize=ptq or qat"
            )
        if self.gives != "float32" and not ends_int8:
            raise ConfigError(f"heads={self.gives}: quantize={self.quantize} nms={self.nms} has float32 heads")
        if self.weights == "per_tensor" and self.quantize not in ("dynamic", "ptq"):
            trained = "; the kernels of a qat file have the scales that they were trained with"
            raise ConfigError(
                f"weights=per_tensor is for quantize=dynamic and ptq, this is quantize={self.quantize}"
                + trained * (self.quantize == "qat")
            )
        if self.batch not in (1, None) or (self.batch is None and self.nms != "none"):
            told = "null" if self.batch is None else self.batch
            raise ConfigError(
                f"batch={told} nms={self.nms}: legal are 1, and null (any number) with nms=none; "
                "a SavedModel takes any number"
            )
