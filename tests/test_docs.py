"""The documentation says what is so: its commands are legal, its links lead somewhere, generated pages lack nothing.

The commands of all blocks are checked as the command line checks them, in a folder where DIR, RUN, FILE and the other
placeholders are real, but small.
"""

import ast
import copy
import functools
import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from omegaconf import OmegaConf

from detect.config.composer import Composer
from detect.config.grammar import parse
from detect.errors import ConfigError
from tests.outside import FENCE, module

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
OTHERS = [ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")]
REPORTS = sorted((ROOT / "experiments").glob("*/README.md"))
DATA = ("bccd", "BCCD", "drawings", "microcontrollers", "MICROCONTROLLERS")
WEIGHTS = ("CHECKPOINT", "inception_v3_notop.h5")
RUNS = ("runs/q/float", "runs/quantisation_seeds/small_s0")
"""What the commands of the studies name."""

generate = module("docs/generate.py")
overrides, usage = (importlib.import_module(name) for name in (generate.OVERRIDES, generate.USAGE))


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> list[tuple[str, str, bool]]:
    """(language, text, marked to be run) of every fenced block; of indented ones without language and mark."""
    fenced = [(m["language"], m["text"], bool(m["mark"])) for m in FENCE.finditer(text)]
    indented = re.findall(r"(?:^    .*\n)+", FENCE.sub("", text), re.M)
    return fenced + [("", re.sub(r"^    ", "", block, flags=re.M), False) for block in indented]


def commands(text: str) -> list[str]:
    """The lines of all blocks that begin with `detect` or `make`, joined where they go on, without comments."""
    lines = "\n".join(body for _, body, _ in blocks(text)).replace("\\\n", " ").splitlines()
    return [" ".join(line.split("  #")[0].split()) for line in lines if re.match(r"(detect|make) ", line)]


ALL = sorted(
    {command for page in PAGES for command in commands(page.read_text(encoding="utf-8"))}
    | {example for examples in usage.EXAMPLES.values() for example in examples}
)
DETECT = [command for command in ALL if command.startswith("detect ")]


def test_commands_are_found_in_both_kinds_of_block():
    text = "see:\n\n    make demo   # minutes\n\n```bash\ndetect train a=1 \\\n  b=2  # both\n```\n`detect train c=3`\n"
    assert commands(text) == ["detect train a=1 b=2", "make demo"]
    assert len(DETECT) > 60


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder in which the placeholders of the pages are there."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("PHOTOS", "runs/STUDY", "advice/experiment", "DIR/experiment", "DIR/dataset", "mypackage", *DATA):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("FILE", "FILE.tflite", "FILE.mp4", "frozen_inference_graph.pb", "PHOTOS/a.jpg", *WEIGHTS):
        (folder / name).write_bytes(b"")
    (folder / "experiments").symlink_to(ROOT / "experiments")
    for name in ("advice/experiment/advised.yaml", "DIR/experiment/NAME.yaml"):
        data = "defaults:\n  - override /dataset: tfrecord\ndataset: {root: DIR}\n"
        (folder / name).write_text(f"# @package _global_\n{data}schedule: {{steps: 7}}\n")
    own = {language: body for language, body, _ in blocks((DOCS / "extend/dataset.md").read_text(encoding="utf-8"))}
    (folder / "DIR/dataset/mine.yaml").write_text(own["yaml"])
    (folder / "mypackage/mine.py").write_text(own["python"])
    own = {language: body for language, body, _ in blocks((DOCS / "extend/hook.md").read_text(encoding="utf-8"))}
    (folder / "mypackage/hook.py").write_text(own["python"])
    saved = overrides.first_job(overrides.read(["dataset=voc", "dataset.root=DIR"], "train"))
    tree = OmegaConf.to_container(saved, resolve=False)
    assert isinstance(tree, dict)
    for run in ("RUN", "runs/train/RUN", *RUNS):
        hydra = folder / run / ".hydra"
        hydra.mkdir(parents=True)
        OmegaConf.save({"hydra": tree["hydra"]}, hydra / "hydra.yaml")
        OmegaConf.save({key: value for key, value in tree.items() if key != "hydra"}, hydra / "config.yaml")
        OmegaConf.save(tree["hydra"]["overrides"]["task"], hydra / "overrides.yaml")
    return folder


@pytest.fixture
def composing(place, monkeypatch):
    """In that folder, and quick: a YAML file is parsed once, and what two commands have in common is composed once."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr(yaml, "load", parsed_once)
    monkeypatch.setattr(overrides, "Composer", composer)


plain_load, parsed = yaml.load, {}


def parsed_once(stream, Loader):
    """As yaml.load. OmegaConf makes its loader's class anew for every file: the name stands for it."""
    key = stream if isinstance(stream, str | bytes) else stream.read(), Loader.__name__
    if key not in parsed:
        parsed[key] = plain_load(key[0], Loader)
    return copy.deepcopy(parsed[key])


composer = functools.cache(overrides.Composer)


def first_cell(words: list[str]) -> list[str]:
    """The words of a sweep's first run: without -m, and with the first of several values."""
    if "-m" not in words:
        return words
    pairs = [word.partition("=") for word in words if word != "-m"]
    known = [
        (key, equals, re.sub(r"^range\(.+\)$", "0", value)) for key, equals, value in pairs if "interval" not in value
    ]
    return [
        key + equals + (value if value[:1] in ("[", "{") else value.partition(",")[0]) for key, equals, value in known
    ]


def test_the_first_cell_of_a_sweep():
    words = shlex.split("-m arm=a,b 'seed=range(8)' size=[1,2] --flag 'rate=tag(log, interval(.1, 1))'")
    assert first_cell(words) == ["arm=a", "seed=0", "size=[1,2]", "--flag"]
    assert first_cell(["a=1"]) == ["a=1"]


def together(commands: list[str]) -> list[list[str]]:
    """Commands of which the first runs can be one: with verb, flags and groups in common, and no key that differs.

    One composition for all of them finds what is wrong with any of them.
    """
    found: dict[tuple[str, ...], list[tuple[dict[str, str], list[str]]]] = {}
    for command in commands:
        _, verb, *words = shlex.split(command)
        cell = first_cell(words)
        values = {word.partition("=")[0]: word for word in cell if re.match(r"[\w.]+\.\w+=", word)}
        common = (verb, *sorted(word for word in cell if word not in values.values()))
        if "--help" in cell or verb != "train":
            common = (*common, command)
        for taken, names in found.setdefault(common, []):
            if all(taken.get(key, word) == word for key, word in values.items()):
                taken.update(values)
                names.append(command)
                break
        else:
            found[common].append((values, [command]))
    return [names for groups in found.values() for _, names in groups]


def test_what_is_checked_together():
    a, b, c, d = "detect train x=1 a.b=1", "detect train a.c=2 x=1", "detect train a.b=2 x=1", "detect fetch a.b=1"
    assert together([a, b, c, d]) == [[a, b], [c], [d]]


@pytest.mark.parametrize("alike", together(DETECT), ids=lambda alike: alike[0].replace(" ", "_"))
def test_commands_are_legal(alike, composing):
    """Verb, flags, groups, options, keys and values are, of a sweep those of its first run; nothing is run."""
    _, verb, *_ = shlex.split(alike[0])
    assert verb in usage.VERBS
    words = dict.fromkeys(word for command in alike for word in first_cell(shlex.split(command)[2:]))
    read = overrides.read(list(words), verb)
    if read.options.help:
        assert usage.verb_help(read)
    else:
        overrides.prepare(read)


def trainings(page: Path) -> list[str]:
    """The commands of a study that train, without those that its table took from the runs."""
    protocol = page.read_text(encoding="utf-8").partition("\n## Results")[0]
    return [command for command in commands(protocol) if command.startswith("detect train ")]


@pytest.mark.parametrize("page", [page for page in REPORTS if trainings(page)], ids=lambda page: page.parent.name)
def test_commands_of_a_study_are_legal_and_its_sweeps_have_different_folders(page, composing):
    """Of a sweep, its first run."""
    folders = []
    for command in trainings(page):
        words = shlex.split(command)[2:]
        first = overrides.first_job(overrides.prepare(overrides.read(first_cell(words), "train")))
        folders += [f"{first.hydra.sweep.dir}/{first.hydra.sweep.subdir}"] if "-m" in words else []
    assert len(set(folders)) == len(folders), folders


def sentences(page: Path) -> list[str]:
    """The commands `detect VERB ...` within the sentences of a page."""
    found = re.findall(r"`(detect [^`]+)`", FENCE.sub("", page.read_text(encoding="utf-8")))
    return [" ".join(command.split()) for command in found]


def test_commands_within_sentences_are_understood(composing):
    """Their verb and short forms are; keys are those of the blocks, mostly."""
    found = {command for page in (*PAGES, *OTHERS, *REPORTS) for command in sentences(page)}
    known = {"detect VERB", "detect VERB --help", "detect VERB --version", "detect -sc install=bash"}
    assert len(found) > 40 and known < found
    for command in sorted(found - known):
        _, verb, *words = shlex.split(command)
        assert verb in usage.VERBS, command
        parse(overrides.understood(overrides.read(words, verb).request).lines)
    with pytest.raises(ConfigError, match="model"):
        parse(overrides.understood(overrides.read(["model"], "inspect").request).lines)


def test_nobody_is_sent_to_the_other_package_of_this_name():
    """`detect` on PyPI is another program."""
    texts = [*PAGES, *OTHERS, *REPORTS, *generate.CONFIGS.rglob("*.yaml"), *(ROOT / "detect").rglob("*.py")]
    sent = [
        file.name for file in texts if re.search(r"pip install (-U )?['\"]?detect\[", file.read_text(encoding="utf-8"))
    ]
    assert len(texts) > 200 and sent == []


def test_a_wrong_command_is_refused(composing):
    with pytest.raises(Exception, match=r"schedule\.stepz; did you mean schedule\.steps"):
        overrides.prepare(overrides.read(["dataset=voc", "dataset.root=DIR", "schedule.stepz=3"], "train"))


@pytest.mark.parametrize("command", [command for command in ALL if command.startswith("make ")])
def test_a_make_target_exists(command):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert command.split()[1] in targets


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_python_blocks_compile_and_marked_ones_run(page):
    for language, body, marked in blocks(page.read_text(encoding="utf-8")):
        if language == "python":
            ast.parse(body)
        if marked:
            assert language == "python"
            exec(compile(body, page_name(page), "exec"), {"__name__": "page"})


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_to_files(page):
    """Pages that are made at build time count as there; MkDocs itself checks the anchors."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith("http"):
            file = (page.parent / target).resolve()
            made = file.parent == DOCS / "configuration" and file.stem in generate.groups()
            assert made or file.is_file(), target


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_scripts_that_pages_name_exist(page):
    for script in re.findall(r"(?:scripts|tests)/[\w/]+\.py", page.read_text(encoding="utf-8")):
        assert (ROOT / script).is_file(), script


def test_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert lines.index("<!-- detectors -->") < lines.index("<!-- end of detectors -->")


def test_every_verb_has_a_page_with_its_help_and_keys():
    for verb in generate.verbs():
        text = (DOCS / "verbs" / f"{verb}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# detect {verb}\n") and "<!-- help -->" in text and "<!-- keys -->" in text
        for key in yaml.safe_load((generate.CONFIGS / f"{verb}.yaml").read_text()):
            assert key == "defaults" or f"| `{key}" in generate.verb_keys(verb), key
    assert "schedule.steps=1000 " in generate.help_text("train")


def test_every_group_has_a_page_with_every_option_and_key():
    known = Composer("train").groups
    assert set(generate.ABSTRACTS) == set(generate.groups())
    for group, subgroups in generate.groups().items():
        page = generate.group_page(group, subgroups, "")
        for name in ([] if group == "hydra" else [group]) + subgroups:
            for option in generate.options(name):
                (chosen,) = parse([generate.override(option)])
                assert group == "hydra" or chosen.value() in known[chosen.key_or_group]
                assert f"\n{chosen.input_line}\n" in page
                for key in option.keys:
                    assert f"| `{option.prefix}{key.name}` |" in page


def test_a_file_is_read_with_its_comments(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "CONFIGS", tmp_path)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "one.yaml").write_text(
        "# A part, for\n# a test.\n# Command:  detect train part=one\ndefaults:\n  - inner: a\n  - override /other: b\n"
        "_target_: x.Part\nsize: [3, 4]   # height, width\ncolour: '#fff' # of it, with a #\n"
        "node:           # a node\n  rate: 1.0e-3\n  _target_: x.Node\nrows:\n  - [1, 2]\n  - [3]\nempty: {}\n"
    )
    option = generate.read(tmp_path / "part" / "one.yaml")
    assert (option.group, option.name, option.target) == ("part", "one", "x.Part")
    assert option.defaults == ["inner=a", "other=b"]
    assert [(key.name, key.value, key.comment) for key in option.keys] == [
        ("size", "[3, 4]", "height, width"),
        ("colour", "#fff", "of it, with a #"),
        ("node", None, "a node"),
        ("node.rate", "1.0e-3", ""),
        ("node._target_", "x.Node", ""),
        ("rows", "[[1, 2], [3]]", ""),
        ("empty", "{}", ""),
    ]
    assert generate.described(option) == [
        "",
        "A part, for a test.",
        "",
        "```text",
        "Command:  detect train part=one",
        "```",
    ]
    assert "| `part.size` | `[3, 4]` | height, width |" in generate.table(option)


def test_a_list_after_a_paragraph_gets_an_empty_line():
    text = "One:\n- a\n  b\n- c\n\n1. d\n```\nx\n- y\n```\n"
    assert generate.spaced_lists(text) == text.replace("One:\n", "One:\n\n")


def test_docstrings_become_lists():
    pytest.importorskip("griffe", reason="griffe, which reads the docstrings, is not installed")
    text = "Adds.\n\na, b: numbers, which\n    are added.\nc: more.\nRaises ValueError."
    assert module("docs/docstrings.py").as_list(text) == (
        "Adds.\n\n\n- **a, b**: numbers, which\n    are added.\n- **c**: more.\n\nRaises ValueError."
    )


@pytest.mark.slow
def test_site_builds_and_asks_for_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="MkDocs is not installed: make install")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        fetched = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(https?://[^\s\">]+)", page.read_text()
        )
        assert fetched == [], page
    assert (tmp_path / "site" / "experiments" / "digits_demo" / "predictions.png").is_file()
    shutil.rmtree(tmp_path / "site")


@pytest.mark.parametrize(
    ("page", "link", "on_site"),
    [
        ("experiments/crop_size/README.md", "](../../docs/measured.md#speed)", "](../../measured.md#speed)"),
        ("experiments/crop_size/README.md", "](../fixed_backbone/README.md)", "](../fixed_backbone/README.md)"),
        ("questions/stage_1.md", "](../../experiments/extras/README.md)", "](../experiments/extras/README.md)"),
        ("CONTRIBUTING.md", "](docs/measured.md)", "](measured.md)"),
    ],
)  # fmt: skip
def test_links_between_docs_and_the_pages_outside_of_it_lead_somewhere_on_the_site(page, link, on_site):
    at = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert generate.on_page_markdown(f"A [page{link}.\n", at, None, None) == f"A [page{on_site}.\n"
