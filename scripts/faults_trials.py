"""The faults of `scripts/faults.py`: what happens to a small training, and how its result is compared."""

import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import faults_program as program

TRACEBACK = re.compile(r"^Traceback|^\w*Error:|Fatal Python error|Segmentation", re.MULTILINE)

SIGNALS = 4, 10
"""The fewest and the most signals of a trial."""
START_UP = 0.3
"""The part of an undisturbed run that a run which goes on needs until its first step."""
OPERATIONS = 160
"""Operations on files of an undisturbed run, about."""


@dataclass
class Row:
    """A line of the table. times: how often it happened. bits: trials that ended with the bits of the undisturbed run.

    told: trials that ended with one message. lost: the steps that were trained again. seen: messages.
    """

    fault: str
    times: int = 0
    trials: int = 0
    bits: int = 0
    told: int = 0
    lost: list[int] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, other: dict) -> None:
        """Adds the counts of another row of the same fault."""
        for name, value in other.items():
            setattr(self, name, value if name == "fault" else getattr(self, name) + value)


class Failed(Exception):
    """A trial was not survived."""


@dataclass
class Trial:
    """A run, its folder, and what it must end as. data: the data set on disk, which the trial may change.

    ignored: parts of the result that were damaged and that nothing needs: they stay as they are.
    done: the last step of each stage before the latest start.
    """

    place: Path
    data: Path
    expected: dict[str, object]
    words: tuple[str, ...]
    row: Row
    source: random.Random
    seconds: float

    ignored: tuple[str, ...] = ()
    done: dict[str, int] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.place / "run"

    @property
    def log(self) -> Path:
        return self.place / "log"

    def start(self, fault: program.Fault = lambda: None) -> int:
        """Begins the run, or goes on with it."""
        self.done = program.steps_done(self.run)
        if (self.run / ".hydra" / "config.yaml").exists():  # the last file of the command
            return program.start(self.log, ["train", f"resume={self.run}", "trust=[tests]"], fault)
        words = ["train", *self.words, "dataset=yolo", f"dataset.root={self.data}", f"hydra.run.dir={self.run}"]
        return program.start(self.log, words, fault)

    def wait_for(self, name: str) -> None:
        """Waits until the run has written a file."""
        end = time.monotonic() + 120
        while not (self.run / name).exists() and time.monotonic() < end:
            time.sleep(0.01)

    def kill(self, number: int, after: float, kind: int, twice: bool = False) -> None:
        """Sends a signal after some seconds, if the program still runs, and counts it and the steps that it costs."""
        end = time.monotonic() + after
        while time.monotonic() < end:
            ended, status = os.waitpid(number, os.WNOHANG)
            if ended:
                return self.check_code(os.waitstatus_to_exitcode(status), (0,))
            time.sleep(0.005)
        os.kill(number, kind)
        if twice:
            time.sleep(self.source.uniform(0, 0.3))
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, kind)
        code = program.wait(number)
        begun = kind != signal.SIGKILL and not twice and self.log.exists() and self.log.stat().st_size > 0
        self.check_code(code, (0, 130) if begun else (0, 130, -kind))  # before its first line, nothing handles a signal
        self.row.times += 1

    def check_code(self, code: int | None, legal: tuple[int, ...]) -> None:
        """Checks how a program ended, and counts the steps that it trained again."""
        text = self.log.read_text(errors="replace")
        for stage, step in re.findall(r"^(\w+): resumed at step (\d+)$", text, re.M):
            self.row.lost.append(max(self.done.get(stage, 0) - int(step), 0))
        if code not in legal or (code != 0 and TRACEBACK.search(text)):
            raise Failed(f"exit code {code}:\n{text[-1500:]}")

    def refused(self, code: int | None, *names: str) -> None:
        """Checks that a program ended with one message, which contains one of these texts, and keeps it."""
        text = self.log.read_text(errors="replace")
        lines = [line for line in text.splitlines() if line.startswith("detect train: ")]
        if code != 2 or TRACEBACK.search(text) or len(lines) != 1 or not any(name in text for name in names):
            raise Failed(f"exit code {code}, and not one message with {' or '.join(names)}:\n{text[-1500:]}")
        self.row.told += 1
        self.row.seen.append(lines[0].removeprefix("detect train: ").replace(str(self.place), "").replace("|", "/"))

    def finish(self) -> None:
        """Goes on until the end, and compares the result."""
        self.check_code(program.wait(self.start()), (0,))
        self.compare()
        self.row.bits += 1

    def compare(self) -> None:
        found = program.result(self.run)
        for key in sorted(self.expected.keys() | found.keys()):
            if key not in self.ignored and found.get(key) != self.expected.get(key):
                raise Failed(f"{key} differs: {_difference(self.expected.get(key), found.get(key))}")


def _difference(expected: object, found: object) -> str:
    if isinstance(expected, list) and isinstance(found, list):
        for one, other in zip(expected, found, strict=False):
            if one != other:
                return f"{one} is {other}"
        odd = [entry for entry in [*expected, *found] if (entry in expected) != (entry in found)]
        return f"{len(expected)} entries are {len(found)}: {odd}"
    return f"{expected} is {found}"


def killed(kind: int, twice: bool = False) -> Callable[[Trial], None]:
    """Signals at random moments of the life of a run, each in what is left of it."""

    def trial(t: Trial) -> None:
        left = t.seconds * 1.05
        for _ in range(t.source.randint(*SIGNALS)):
            after = t.source.uniform(0.2, left)
            t.kill(t.start(), after, kind, twice)
            left = max(left - after, 0) + START_UP * t.seconds
        t.finish()

    return trial


def killed_in_a_file_operation(t: Trial) -> None:
    left = OPERATIONS
    for _ in range(t.source.randint(*SIGNALS)):
        count = t.source.randint(1, left)
        code = program.wait(t.start(program.at_file_operation(count)))
        t.check_code(code, (0, -signal.SIGKILL))
        t.row.times += code != 0
        left = max(left - count, 0) + round(START_UP * OPERATIONS)
    t.finish()


def full_disk(t: Trial) -> None:
    """The run folder is on a file system that is too small, at a random moment of the run; then there is room."""
    with program.limited_disk(t.run, 200) as remount:
        fill = t.run / "filler"
        free = int(t.source.uniform(5e3, 4e5))
        code = program.wait(t.start(lambda: _fill(fill, free)))
        if code != 0:
            t.refused(code, "no space", "of disk")
        t.row.times += 1
        fill.unlink()
        remount("size=200m")
        t.finish()


def _fill(path: Path, leave: int) -> None:
    """Writes a file that leaves so many bytes of its file system."""
    state = os.statvfs(path.parent)
    with path.open("wb") as file:
        file.truncate(0)
        os.posix_fallocate(file.fileno(), 0, max(state.f_bavail * state.f_frsize - leave, 1))


def read_only(t: Trial) -> None:
    with program.limited_disk(t.run, 100) as remount:
        t.kill(t.start(), t.source.uniform(2, t.seconds), signal.SIGKILL)
        t.row.times -= 1
        if (t.run / "summary.json").exists():
            return t.finish()
        remount("ro")
        t.refused(program.wait(t.start()), "read-only", "written")
        t.row.times += 1
        remount("rw")
        t.finish()


def damaged(t: Trial) -> None:
    """One of the run's files is damaged between a kill and the next start."""
    t.kill(t.start(), t.source.uniform(2, t.seconds), signal.SIGKILL)
    t.row.times -= 1
    files = sorted(f for f in t.run.rglob("*") if f.is_file() and f.name not in ("lock", "train.log"))
    if not files:
        return t.finish()
    file = t.source.choice(files)
    before = file.read_bytes()
    t.ignored = _not_needed(t.run, file)
    _damage(file, t.source)
    t.row.times += 1
    code = program.wait(t.start())
    if code == 2:
        t.refused(code, file.name.partition(".")[0], file.parent.name)
        file.write_bytes(before)
    else:
        t.check_code(code, (0,))
    try:
        t.finish()
    except Failed as error:
        raise Failed(f"after damage to {file.relative_to(t.run)}: {error}") from error


def _not_needed(run: Path, file: Path) -> tuple[str, ...]:
    """The parts of the result that no program repairs: rows of a log, and files of a stage that is finished."""
    stage, ended = file.relative_to(run).parts[0], [path.parent.name for path in run.glob("*/summary.json")]
    if file.name == "metrics.jsonl":
        return (f"{stage}/rows", *(["files"] if stage in ended else []))
    return (f"{stage}/last", f"{stage}/best", "files") if stage in ended and file.name != "summary.json" else ()


def _damage(file: Path, source: random.Random) -> None:
    content = bytearray(file.read_bytes())
    kind = source.choice(("empty", "cut", "bits", "gone", "binary"))
    if kind == "gone":
        return file.unlink()
    if kind == "empty":
        content = bytearray()
    elif kind == "cut":
        content = content[: source.randrange(len(content) + 1)]
    elif kind == "binary":
        content = bytearray(b"\xff\xfe\x00\x80" * 9)
    elif content:
        for _ in range(source.randint(1, 4)):
            content[source.randrange(len(content))] ^= 1 << source.randrange(8)
    file.write_bytes(content)


def vanished_image(t: Trial) -> None:
    """A training image disappears while the run trains; it comes back, and the run goes on."""
    image = t.source.choice(sorted((t.data / "images" / "train").iterdir()))
    content = image.read_bytes()
    number = t.start()
    t.wait_for("data.json")
    time.sleep(t.source.uniform(0, t.seconds * 0.5))
    image.unlink()
    code = program.wait(number)
    t.check_code(code, (0, 2))
    t.row.times += 1
    if code == 2:
        t.refused(code, image.name, image.stem)
    image.write_bytes(content)
    t.finish()


def frozen(t: Trial) -> None:
    """The process stands still for a moment, some times."""
    number = t.start()
    for _ in range(3):
        time.sleep(t.source.uniform(0.3, t.seconds / 4))
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGSTOP)
            time.sleep(0.5)
            os.kill(number, signal.SIGCONT)
            t.row.times += 1
    t.check_code(program.wait(number), (0,))
    t.compare()
    t.row.bits += 1


def clock(t: Trial) -> None:
    t.check_code(program.wait(t.start(program.clock_jumps(t.source.randrange(1000)))), (0,))
    t.row.times += 1
    t.compare()
    t.row.bits += 1


def two_at_once(t: Trial) -> None:
    """A second program begins in the folder of a run that trains: it is refused, and leaves no mark."""
    number = t.start()
    t.wait_for("data.json")
    other = t.place / "other.log"
    code = program.wait(program.start(other, ["train", f"resume={t.run}", "trust=[tests]"]))
    if code != 2 and program.wait(number, 0.01) != 0:
        raise Failed(f"the second program ended with {code}:\n{other.read_text()[-1500:]}")
    t.row.times += 1
    t.check_code(program.wait(number), (0,))
    t.compare()
    t.row.bits += 1


SHARES = {
    "SIGKILL at a random moment": (0.34, killed(signal.SIGKILL)),
    "SIGKILL inside an operation on a file": (0.24, killed_in_a_file_operation),
    "SIGTERM at a random moment": (0.16, killed(signal.SIGTERM)),
    "SIGINT at a random moment": (0.16, killed(signal.SIGINT)),
    "SIGINT twice": (0.1, killed(signal.SIGINT, twice=True)),
}
"""Kills, as shares of their number."""

OTHERS = {
    "full disk": (6, full_disk),
    "read-only folder": (3, read_only),
    "a damaged file of the run": (14, damaged),
    "an image that vanishes": (3, vanished_image),
    "a process that stands still": (2, frozen),
    "a clock that jumps": (2, clock),
    "a second program in the folder": (2, two_at_once),
}
"""Other faults, and their trials."""
