"""The part of the site that is made from the code: a hook of MkDocs, and plain functions that the tests call.

The pages of the verbs (docs/verbs/*.md) hold two marks. `<!-- help -->` becomes what `detect VERB --help` prints, and
`<!-- keys -->` becomes a table of the keys in configs/VERB.yaml. `<!-- detectors -->` becomes the table of README.md,
`<!-- groups -->` the list of the groups, and `<!-- figures -->` what each figure of a run means. A page for each
configuration group is made from the YAML files of the group: every option, key, default and comment. A text in
docs/configuration/GROUP.md would come first. Reports and pictures of `experiments/`, CHANGELOG.md, CONTRIBUTING.md and
SECURITY.md become pages of the site.
"""

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from detect.config.composer import FOLLOWING

ROOT = Path(__file__).resolve().parent.parent
TOP = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
CONFIGS = ROOT / "configs"
USAGE, OVERRIDES, FIGURES = "detect.cli.help", "detect.cli.overrides", "detect.reporting.meanings"
"""Modules of the package that this file calls."""
HIDDEN = ("_convert_", "_partial_", "_target_")
ABSTRACTS = {  # sentences for the list of the groups
    "arm": "what an ablation varies: the first weights, and whether stage 1 comes first",
    "augment": "how training images are changed at random",
    "backbone": "the network that turns an image into feature maps",
    "classify": "stage 1: the classifier of the crops",
    "dataset": "where images, boxes and class names come from",
    "debug": "short runs that look for a fault",
    "detector": "the detector around the backbone, with its parts",
    "experiment": "complete, named settings",
    "hydra": "launchers and sweepers for `-m`",
    "init": "the weights that training starts from",
    "logger": "what gets the figures of a run, beside TensorBoard",
    "mixing": "training images that are made of several: mosaic, copy-paste, mixup",
    "quantize": "stage 3: training with fake quantisation",
    "schedule": "steps, batch size, learning rate and optimiser",
}


@dataclass(frozen=True)
class Key:
    """A key of a YAML file. name: dotted, below the file's own node. value: as YAML writes it, None of a mapping."""

    name: str
    value: str | None
    comment: str


@dataclass(frozen=True)
class Option:
    """A YAML file below configs/. head: its first comment, a line each. package: where its keys go; None: the group."""

    group: str
    name: str
    head: list[str]
    target: str | None
    defaults: list[str]
    keys: list[Key]
    package: str | None

    @property
    def prefix(self) -> str:
        """What stands before a key on the command line."""
        return f"{self.group.replace('/', '.')}." if self.group and self.package is None else ""


def read(file: Path) -> Option:
    """A configuration file with its comments."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    head = [line[1:].removeprefix(" ") for line in lines[: next((i for i, x in enumerate(lines) if x[:1] != "#"), 0)]]
    package = next((line.split()[1] for line in head if line.startswith("@package ")), None)
    head = [line for line in head if not line.startswith("@package ")]
    root = yaml.compose(text)
    data: dict[str, Any] = yaml.safe_load(text) or {}
    keys = _keys(root, lines, "") if isinstance(root, yaml.MappingNode) else []
    defaults = [d if isinstance(d, str) else _pair(d) for d in data.get("defaults", []) if d != "_self_"]
    place = file.relative_to(CONFIGS)
    group = "" if place.parent == Path() else place.parent.as_posix()
    return Option(group, place.stem, head, data.get("_target_"), defaults, keys, package)


def _pair(default: dict[str, Any]) -> str:
    ((group, option),) = default.items()
    return f"{group.removeprefix('override ').lstrip('/')}={'null' if option is None else option}"


def _keys(node: yaml.MappingNode, lines: list[str], prefix: str) -> list[Key]:
    found = []
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name == "defaults" or (key.value in HIDDEN and (key.value != "_target_" or not prefix)):
            continue
        nested = isinstance(value, yaml.MappingNode) and value.value and not value.flow_style
        rows = isinstance(value, yaml.SequenceNode) and not value.flow_style
        end = key.end_mark if nested or rows else value.end_mark
        comment = re.search(r"(?:^|\s)#\s*(.*)$", lines[end.line][end.column :]) if end.line < len(lines) else None
        said = comment.group(1).strip() if comment else ""
        if nested:
            found += [Key(name, None, said)] if said else []
            found += _keys(value, lines, f"{name}.")
        else:
            found.append(Key(name, _written(value), said))
    return found


def _written(node: yaml.Node) -> str:
    """A value on one line, as it may stand on a command line."""
    if isinstance(node, yaml.SequenceNode):
        return "[" + ", ".join(_written(item) for item in node.value) + "]"
    if isinstance(node, yaml.MappingNode):
        return "{" + ", ".join(f"{k.value}: {_written(v)}" for k, v in node.value) + "}"
    return str(node.value)


def options(group: str) -> list[Option]:
    """The options of a group, in the order of their names."""
    return [read(file) for file in sorted((CONFIGS / group).glob("*.yaml"))]


def groups() -> dict[str, list[str]]:
    """{top-level group: its subgroups}, in the order of their names. Hydra's own set-up of log files is no group."""
    tops = sorted(path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != FOLLOWING)
    below = {
        top: sorted({f.parent.relative_to(CONFIGS).as_posix() for f in CONFIGS.glob(f"{top}/*/*.yaml")}) for top in tops
    }
    return {top: [name for name in names if not name.endswith("_logging")] for top, names in below.items()}


def _cell(text: str) -> str:
    """Text inside a table of Markdown; what looks like HTML is shown as it is."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else "`''`"


def table(option: Option) -> list[str]:
    """The keys of a file with default and comment."""
    if not option.keys:
        return []
    lines = ["", '<div class="keys" markdown>', "", "| key | default | meaning |", "|---|---|---|"]
    for key in option.keys:
        default, meaning = "" if key.value is None else _code(key.value), _cell(key.comment)
        if key.name.endswith("._target_"):
            default, meaning = "", f"builds {_code(key.value or '')}"
        lines.append(f"| {_code(option.prefix + key.name)} | {default} | {meaning} |")
    return [*lines, "", "</div>", ""]


def described(option: Option) -> list[str]:
    """The first comment of a file: sentences as a paragraph; commands, and what is set out in columns, as it stands."""
    set_out = [bool(re.search(r"\S?  |^(Command|Data|Expected|Then): ", line)) for line in option.head]
    cut = next((i for i, columns in enumerate(set_out) if columns), len(option.head))
    prose, rest = " ".join(line.strip() for line in option.head[:cut]), option.head[cut:]
    lines = ["", _cell(prose)] if prose else []
    return [*lines, "", "```text", *rest, "```"] if rest else lines


def override(option: Option) -> str:
    """The words that choose an option. Folders of `experiment` are no groups of their own."""
    top, _, folder = option.group.partition("/")
    return f"{top}={folder}/{option.name}" if folder and top == "experiment" else f"{option.group}={option.name}"


def option_section(option: Option, level: int) -> list[str]:
    """The section of one option on the page of its group."""
    lines = ["", f"{'#' * level} {option.name} {{ #{option.group.replace('/', '-')}-{option.name} }}", "", "```text"]
    lines += [override(option), "```", *described(option)]
    facts = [f"It builds `{option.target}`."] if option.target else []
    if option.defaults:
        facts.append("It contains " + ", ".join(_code(d) for d in option.defaults) + ".")
    return [*lines, "", " ".join(facts), *table(option)]


def group_page(group: str, subgroups: list[str], intro: str) -> str:
    """The page of a top-level group as Markdown."""
    lines = [intro.rstrip()] if intro else [f"# {group}", "", f"The group `{group}` sets {ABSTRACTS.get(group, '')}."]
    own = [] if group == "hydra" else options(group)
    for name, found in [(group, own), *((name, options(name)) for name in subgroups)]:
        if not found:
            continue
        if name != group:
            lines += ["", f"## {name} {{ #{name.replace('/', '-')} }}"]
        level = 2 if name == group else 3
        lines += [
            "",
            "Options: " + ", ".join(f"[{o.name}](#{o.group.replace('/', '-')}-{o.name})" for o in found) + ".",
        ]
        for option in found:
            lines += option_section(option, level)
    return "\n".join(lines) + "\n"


def groups_table() -> str:
    """The groups with their options, for the page of the configuration."""
    lines = ["| group | options | sets |", "|---|---|---|"]
    for group, subgroups in groups().items():
        for name in ([] if group == "hydra" else [group]) + subgroups:
            sets = ABSTRACTS.get(name, "") if name == group else f"a part of `{group}`"
            names = ", ".join(_code(override(option).partition("=")[2]) for option in options(name))
            lines.append(f"| [`{name}`]({group}.md#{name.replace('/', '-')}) | {names} | {sets} |")
    return "\n".join(lines)


def detectors_table() -> str:
    """The table of the detectors, which README.md holds between two marks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition("<!-- detectors -->\n")[2].partition("<!-- end of detectors -->")[0]


def figures_table() -> str:
    """What each figure in TensorBoard means."""
    meanings = importlib.import_module(FIGURES).MEANINGS
    shown = {tag.replace("*", "SPLIT", 1).replace("*", "CLASS"): text for tag, text in meanings.items()}
    rows = [f"| {_code(tag)} | {text} |" for tag, text in shown.items()]
    return "\n".join(["| figure | meaning |", "|---|---|", *rows])


def help_text(verb: str) -> str:
    """What `detect VERB --help` prints."""
    usage, overrides = importlib.import_module(USAGE), importlib.import_module(OVERRIDES)
    return "\n".join(line.rstrip() for line in usage.verb_help(overrides.read([], verb)).splitlines())


def verb_keys(verb: str) -> str:
    """The keys of a verb's own file as a table, and the groups that it takes."""
    option = read(CONFIGS / f"{verb}.yaml")
    taken = [d.partition("=")[0] for d in option.defaults if not d.startswith(("hydra=", "optional "))]
    links = [f"[`{g}`](../configuration/{g.strip('/').split('/')[0].split('@')[0]}.md)" for g in taken]
    lines = table(option)
    return "\n".join([*lines, *(["It takes the groups " + ", ".join(links) + "."] if links else [])])


def spaced_lists(text: str) -> str:
    """An empty line before a list that follows a paragraph at once, as this Markdown wants it and GitHub's does not."""
    lines: list[str] = []
    fenced = listed = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        item = not fenced and bool(re.match(r"(-|\d+\.) ", line))
        if item and not listed and lines and lines[-1]:
            lines.append("")
        listed = item or (listed and line[:1] in ("", " "))
        lines.append(line)
    return "\n".join(lines) + "\n"


def verbs() -> list[str]:
    return list(importlib.import_module(USAGE).VERBS)


def experiments() -> list[str]:
    """The studies and runs that have a report."""
    return sorted(path.parent.name for path in (ROOT / "experiments").glob("*/README.md"))


# What MkDocs calls.


def on_config(config: Any) -> Any:
    """Adds the pages that are made here to the navigation."""
    for section in config.nav:
        ((title, entries),) = section.items()
        if title == "Commands":
            entries += [f"verbs/{verb}.md" for verb in verbs()]
        elif title == "Configuration":
            entries += [f"configuration/{group}.md" for group in groups()]
        elif title == "Studies":
            entries += [{name.replace("_", " "): f"experiments/{name}/README.md"} for name in experiments()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds generated pages, and the files of `experiments/` that pages show."""
    from mkdocs.structure.files import File

    def add(name: str, **source: Any) -> None:
        if (there := files.get_file_from_path(name)) is not None:
            files.remove(there)
        files.append(File.generated(config, name, **source))

    for group, subgroups in groups().items():
        intro = ROOT / "docs" / "configuration" / f"{group}.md"
        text = intro.read_text(encoding="utf-8") if intro.is_file() else ""
        add(f"configuration/{group}.md", content=group_page(group, subgroups, text))
    for name in experiments():
        folder = ROOT / "experiments" / name
        add(f"experiments/{name}/README.md", content=(folder / "README.md").read_text(encoding="utf-8"))
        for picture in folder.glob("*.png"):
            add(f"experiments/{name}/{picture.name}", abs_src_path=str(picture))
    for page in TOP:
        add(page, content=(ROOT / page).read_text(encoding="utf-8"))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fills the marks of a page, and sends links to files outside of docs/ to where they are on the site."""
    place = Path(page.file.src_uri)
    markdown = markdown.replace("<!-- groups -->", groups_table()).replace("<!-- detectors -->", detectors_table())
    markdown = markdown.replace("<!-- figures -->", figures_table())
    if place.parent == Path("verbs") and place.stem in verbs():
        markdown = markdown.replace("<!-- help -->", f"```text\n{help_text(place.stem)}\n```")
        markdown = markdown.replace("<!-- keys -->", verb_keys(place.stem))
    markdown = spaced_lists(markdown)
    # A page names another one as the repository has it, so that the link works there, too.
    if place.parts[0] in ("experiments", *TOP):
        return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
    # A link that leaves docs/ has one `../` more than the site needs.
    return re.sub(r"\]\(((?:\.\./)*)\.\./(experiments/|CHANGELOG|CONTRIBUTING|SECURITY)", r"](\1\2", markdown)
