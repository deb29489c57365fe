"""The text of `detect --help` and `detect VERB --help`, in 80 columns."""

import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detect.cli.overrides import Command

VERBS = {
    "train": "train a detector: classifier, then detector, then scores",
    "evaluate": "score a run or a file: COCO figures, suspected labels",
    "compare": "compare detectors on the same test images",
    "predict": "draw boxes on images and write COCO json",
    "export": "write a model that runs without this package",
    "benchmark": "compare all formats: AP, size, time, memory",
    "inspect": "show the data, the network, or the effect of int8 on a run",
    "convert": "write a data set, or boxes of a detector, in another format",
    "advise": "propose an experiment that fits a data set and this machine",
    "migrate": "translate a pipeline.config of the Object Detection API",
    "report": "write table, csv and curves of a study, or the page of a run",
    "fetch": "download published weights into the cache, or list them",
    "doctor": "show versions, devices and missing packages",
}

OTHER_WORDS = {"val": "evaluate", "test": "evaluate", "version": "--version"}
"""What users of other programs type in place of a verb."""

EXAMPLES = {
    "train": [
        "detect train experiment=demo",
        "detect train dataset=voc dataset.root=DIR",
        "detect train resume=RUN",
        "detect train -m dataset.root=DIR seed=0,1,2",
    ],
    "evaluate": ["detect evaluate run=RUN", "detect evaluate model=FILE.tflite dataset=voc dataset.root=DIR"],
    "compare": ["detect compare RUN RUN", "detect compare RUN RUN/tflite RUN/tflite_ptq split=test"],
    "predict": [
        "detect predict run=RUN images=FOLDER",
        "detect predict model=FILE.tflite images=FOLDER annotations=FILE.json",
    ],
    "export": ["detect export run=RUN", "detect export run=RUN format=tflite quantize=ptq nms=tflite_op"],
    "benchmark": ["detect benchmark run=RUN", "detect benchmark 'model=[FILE.tflite,FILE]' images=0"],
    "inspect": [
        "detect inspect dataset=voc dataset.root=DIR",
        "detect inspect network backbone=inception_v2",
        "detect inspect quantize run=RUN weights=per_tensor",
    ],
    "convert": [
        "detect convert dataset.root=DIR to=coco output=NEW",
        "detect convert run=RUN images=FOLDER to=voc output=NEW",
    ],
    "advise": [
        "detect advise dataset=voc dataset.root=DIR",
        "detect advise dataset.root=DIR init=FILE minutes=20 backbone=vgg16",
        "detect advise rate dataset.root=DIR",
    ],
    "migrate": ["detect migrate pipeline.config", "detect migrate pipeline.config output=DIR name=NAME"],
    "report": ["detect report runs=runs/sweep output=experiments/NAME", "detect report run=RUN"],
    "fetch": ["detect fetch", "detect fetch mobilenet_v1_1.0_224"],
    "doctor": ["detect doctor"],
}

FLAGS = """\
-m KEY=A,B,C       a sweep: one run for each value
--config-dir DIR   your own YAML files, beside the packaged ones
--cfg job          print the whole configuration, run nothing
--hydra-help       the flags of Hydra"""

MOST_USED = (
    *("dataset.root", "dataset.classes", "detector.size", "schedule.steps", "schedule.batch_size", "schedule.rate"),
    *("classify.enabled", "classify.schedule.steps", "distribute.kind", "distribute.devices"),
)
"""Keys that the help of a verb shows if its configuration has them, after those of the top level."""


COLUMN = 35
"""Where the comments of keys begin."""


def overview() -> str:
    """`detect --help`: a line for each verb, then all examples."""
    lines = ["Train object detectors in two stages, score, inspect and export them.", "", "Usage: detect VERB ..."]
    lines += [f"  {name:<10}{text}" for name, text in VERBS.items()]
    lines += ["", "Examples:", *(f"  {example}" for examples in EXAMPLES.values() for example in examples)]
    return "\n".join([*lines, "", "detect VERB --help lists the groups and the most used keys of a verb."])


def verb_help(command: "Command") -> str:
    """Help of one verb for these overrides: examples, groups with their options, most used keys, in 80 columns."""
    from detect.cli import overrides
    from detect.config.tree import container, leaves

    name = command.config_name
    cfg = overrides.first_job(command)
    composer = command.composer
    choices, own = cfg.hydra.runtime.choices.items(), composer.own_groups()
    chosen = dict.fromkeys(own & composer.optional())
    chosen |= {group: option for group, option in choices if group.partition("@")[0] in own}
    lines = [f"detect {name}: {VERBS.get(name, '')}", "", *(f"  {example}" for example in EXAMPLES.get(name, []))]
    options = {group: composer.groups.get(group.partition("@")[0], []) for group in sorted(chosen)}
    if any(options.values()):
        lines += ["", "Groups (GROUP=OPTION; * is chosen):"]
    for group, names in options.items():
        marked = " ".join(f"*{n}" if n == chosen[group] else n for n in names)
        if names:
            lines += textwrap.wrap(f"{group:<12} {marked}", 78, initial_indent="  ", subsequent_indent=" " * 15)
    values = dict(leaves(container(cfg)))
    keys = [key for key in values if "." not in key] + [key for key in MOST_USED if key in values]
    if keys:
        lines += ["", "Keys (KEY=VALUE; --cfg job prints all):"]
    for key in keys:
        value = {"None": "null", "True": "true", "False": "false"}.get(str(values[key]), str(values[key]))
        given, comment = f"  {key}={value}", textwrap.wrap(_comment(key, name, chosen), 79 - COLUMN)
        if len(given) >= COLUMN:  # the comment begins below
            lines += textwrap.wrap(given, 79, initial_indent="", subsequent_indent="    ", break_on_hyphens=False)
            given = ""
        lines += [
            f"{left:<{COLUMN}}{text}".rstrip()
            for left, text in zip_longest([given], comment, fillvalue="")
            if left or text
        ]
    return "\n".join([*lines, "", *FLAGS.splitlines()])


def _comment(key: str, config_name: str, chosen: dict[str, Any]) -> str:
    """The comment after a key in the YAML file that it comes from, or in one that this file is built on."""
    from detect.config.check import CONFIG_DIR
    from detect.config.tree import container, read_yaml

    group, _, last = key.rpartition(".")
    places = {name.rpartition("@")[2]: f"{name.partition('@')[0]}/{option}" for name, option in chosen.items()}
    own = group not in places  # of the verb's own file, where it may be in a node
    begin = f"{'  ' * bool(group and own)}{last}:"
    file = CONFIG_DIR / f"{config_name if own else places[group]}.yaml"
    while file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        if found := next((line.partition("#")[2].strip() for line in lines if line.startswith(begin)), ""):
            return found
        given = container(read_yaml(file)).get("defaults", [])
        file = file.with_name(f"{next((name for name in given if isinstance(name, str)), '')}.yaml")
    return ""
