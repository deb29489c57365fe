"""The command line `detect VERB [overrides]`: each verb is the function `main` of the module `detect.cli.VERB`.

Nothing here imports TensorFlow. `detect --help` does not import Hydra either.
"""

import contextlib
import difflib
import functools
import importlib
import importlib.metadata
import io
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from detect import environment
from detect.cli import completion
from detect.cli.help import OTHER_WORDS, VERBS, overview, verb_help
from detect.errors import DISTRIBUTION, InUse, Unfinished, UserError, printable, printable_lines

if TYPE_CHECKING:
    from logging import LogRecord

    from omegaconf import DictConfig

    from detect.cli.overrides import Command


def main() -> int:
    """Entry point of `detect`: checks the command line, and calls `main` of the module `detect.cli.VERB`.

    A verb ends in SystemExit, whose code is 141 if nobody reads its output.
    """
    try:
        try:
            return _verb()
        finally:
            if sys.stdout:
                sys.stdout.flush()  # at the exit of Python, a closed pipe would be told
    except BrokenPipeError as error:
        if not _nobody_reads(error):
            raise
        sys.exit(141)


def _verb() -> int:
    """Runs the verb that the command line names. Returns the exit code if there is none to run."""
    if sys.platform == "win32":
        print("detect: Windows is not supported: it lacks parts of Linux and macOS; use WSL2", file=sys.stderr)
        return 2
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if "--version" in sys.argv[1:]:
        print(f"detect {importlib.metadata.version(DISTRIBUTION)}")
        return 0
    if name in completion.FLAGS:
        if (asked := completion.begin(sys.argv[1:])) is None:
            return 0
        name, arguments = asked
    if name not in VERBS:
        near = OTHER_WORDS.get(name) or next(iter(difflib.get_close_matches(name, VERBS, 1)), None)
        hint = f"; did you mean {near}?" if near else ""
        print(f"detect: unknown verb {printable(name)}{hint} (verbs: {', '.join(VERBS)})", file=sys.stderr)
        return 2
    sys.argv = [f"detect {name}", *arguments]
    sys.unraisablehook = _unraisable
    sys.exit(run(name, _late(name), arguments))


def _late(name: str) -> Callable[["DictConfig"], object]:
    """The function of a verb, whose module is imported when a job starts: a wrong command line needs none of it."""

    def function(cfg: "DictConfig") -> object:
        return importlib.import_module(f"detect.cli.{name}").main(cfg)

    function.__module__ = f"detect.cli.{name}"  # Hydra names the job after it
    return function


def _unraisable(event: "sys.UnraisableHookArgs") -> None:
    """Python prints and forgets a Ctrl-C that arrives while it frees an object: it is sent again.

    By a timer of the system: a thread could wait here for a lock of `threading`, which is held while the object is
    freed.
    """
    if event.exc_type is KeyboardInterrupt:
        signal.signal(signal.SIGALRM, lambda number, frame: signal.raise_signal(signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    else:
        sys.__unraisablehook__(event)


def run(config_name: str, function: Callable[["DictConfig"], object], argv: list[str]) -> int:
    """Checks the command line, then lets Hydra run `function`, as `@hydra.main` does; returns the exit code.

    config_name: YAML file below detect.config.check.CONFIG_DIR. The exit code is 2 after a UserError or a configuration
    that can't be composed, with one message and no traceback; 1 if a part of the work could not be done
    (`detect.errors.Unfinished`), or a job of a sweep; 130 after Ctrl-C.
    """
    prepare_environment()
    from detect.cli import overrides
    from detect.runs import sweep

    started, folder = time.time(), None
    try:
        command = overrides.read(argv, config_name)
        options = command.options
        if options.help:
            print(verb_help(command))
            return 0
        if options.hydra_help or options.info:
            overrides.first_job(command)  # it refuses code that files name
        elif not options.shell_completion:
            command = overrides.prepare(command)
            folder = command.sweep_folder
        _start(config_name, command, function)
    except (KeyboardInterrupt, Exception) as error:
        return _code(config_name, error, folder)
    failed = sweep.failures(folder, started) if folder else []
    failed = [f"failed: {line}" for line in failed] + [
        f"not done: run folder {cell}: another process is training in it"
        for cell in command.cells
        if sweep.in_use(cell)
    ]
    for line in failed:
        print(f"detect {config_name}: {printable(line)}", file=sys.stderr)
    return 1 if failed else 0


def _start(config_name: str, command: "Command", function: Callable[["DictConfig"], object]) -> None:
    """Lets Hydra run `function` for each job of a command."""
    import hydra

    from detect.config import check, trust
    from detect.config.grammar import quoted
    from detect.runs import signals, sweep, unstarted

    first, kept = command.first, None
    if first is not None and not command.multirun:
        kept = unstarted.ancestor(Path(str(first.hydra.run.dir)))
    sys.argv = ["detect" if command.options.shell_completion else f"detect {config_name}", *command.argv]

    @functools.wraps(function)  # Hydra names the job after the function's module
    def job(cfg: "DictConfig") -> object:
        with trust.trusting(command.trusted):
            return _job(config_name, function, cfg, command.checked, kept)

    begin = hydra.main(version_base="1.3", config_path=str(check.CONFIG_DIR), config_name=config_name)(job)
    sweep.end_with_owner()
    if command.sweep_folder and config_name == "train":
        from detect.studies import sweep_tables

        launcher = str(first.hydra.launcher._target_) if first else ""
        with sweep.owned(command.sweep_folder, launcher):
            sweep_tables.begin(command.sweep_folder)
            started = time.time()
            try:
                begin()
            except ValueError:  # Optuna's, if no cell has a score
                if not sweep.failures(command.sweep_folder, started):
                    raise
        sweep_tables.conclude(command.sweep_folder)
        return
    plain = command.multirun and first and not check.makes_runs(first)
    scratch = tempfile.TemporaryDirectory(prefix=".sweep_", dir=".") if plain else contextlib.nullcontext()
    with signals.handled(_end, signal.SIGTERM, signal.SIGHUP), scratch as place:
        if place:  # Hydra writes multirun.yaml: the user's folder may have one
            sys.argv.append(f"hydra.sweep.dir={quoted(place)}")
        begin()


def _code(config_name: str, error: BaseException, folder: Path | None) -> int:
    """The exit code after an error, of which it prints what the user can correct. Raises any other error again.

    folder: that of a sweep, or None.
    """
    from hydra.errors import HydraException, InstantiationException

    from detect.runs import signals, sweep

    if _nobody_reads(error):
        return 141
    if isinstance(error, sweep.CellFailed):
        return 1
    if signals.interrupted(error):
        if folder:
            again = f"with hydra.sweep.dir={folder} the same command goes on"
            print(f"detect {config_name}: stopped; {again}", file=sys.stderr)
        return 130
    told: Exception | None = None  # an InstantiationException is a bug in a constructor
    if isinstance(error, UserError | HydraException) and not isinstance(error, InstantiationException):
        told = error
    elif isinstance(error, OSError):  # Hydra makes the folder of the job before it calls the function
        told = _user_error(error)
    if told is None:
        raise error
    tell(config_name, told)
    return 2


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM and SIGHUP end the program as Ctrl-C does: files that are half written are removed."""
    raise KeyboardInterrupt


def _job(
    config_name: str,
    function: Callable[["DictConfig"], object],
    cfg: "DictConfig",
    checked: frozenset[str],
    kept: Path | None = None,
) -> object:
    """Runs one job, in this process or in one that a launcher started. In a sweep, a job that fails returns None.

    checked: digests of configurations that the command line has checked already (cli.overrides).
    kept: what was there of the run folder before a single run (runs.unstarted).
    """
    prepare_environment()
    from detect.cli import job
    from detect.config import check
    from detect.config.fingerprint import digest
    from detect.runs import signals, sweep, unstarted

    if job.is_cell():
        sweep.end_with_owner()  # else a launcher's process goes on when the sweep was killed
    folder = job.folder() if check.makes_runs(cfg) else None
    try:
        if folder and not sweep.in_use(folder):
            sweep.forget_failure(folder)
        if digest(cfg) not in checked:  # a sampler drew its values, or it is a late job of a long sweep
            check.check(cfg)
        return function(cfg)
    except sweep.CellFailed:
        return None
    except Exception as error:
        if _nobody_reads(error):
            raise SystemExit(141) from None
        if signals.interrupted(error):
            raise KeyboardInterrupt from error
        mend = _user_error(error, folder)
        if folder and not isinstance(mend, InUse) and not sweep.in_use(folder):
            sweep.record(folder, mend or error)
            if kept:
                unstarted.remove(folder, kept)
        if job.is_cell():  # the other jobs of the sweep go on after any error
            tell(config_name, mend or error, f"{job.title()}: ")
            if folder is None:  # no file tells of it
                raise sweep.CellFailed from None
            return None
        if mend is None:
            raise
        tell(config_name, mend)
        raise SystemExit(
            1 if isinstance(mend, Unfinished) else 2
        ) from None  # not through Hydra, which would print a line of its own


def _user_error(error: Exception, folder: Path | None = None) -> UserError | None:
    """`error`, if it is a UserError. An error of the disk becomes one. folder: that of the job, for its message."""
    from detect.runs import disk

    if message := disk.problem(error, folder):
        return UserError(message)
    return error if isinstance(error, UserError) else None


def _nobody_reads(error: BaseException) -> bool:
    """Whether the reader of stdout ended, as in `detect doctor | head`; then it drops the rest of the output.

    A pipe to another process may break, too: that is an error as any other.
    """
    if not isinstance(error, BrokenPipeError):
        return False
    stdout = select.poll()
    stdout.register(sys.stdout.fileno(), 0)
    if not stdout.poll(0):  # it tells POLLERR without being asked
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def tell(config_name: str, error: Exception, where: str = "") -> None:
    """Prints one message to stderr."""
    lines = [line.rstrip() for line in str(error).split("\n") if line.strip()]
    if error.__cause__ is not None and not isinstance(error, UserError):
        lines += [line for line in str(error.__cause__).splitlines()[:1] if line not in lines]
    print(
        f"detect {config_name}: {where}" + "\n".join(map(printable, lines or [type(error).__name__])), file=sys.stderr
    )


def _without_escapes(record: "LogRecord") -> bool:
    """A filter of the log that writes control characters as escapes: names and paths may have some. Lines stay."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    record.args = tuple(printable(a) if isinstance(a, Path) else a for a in arguments) or record.args
    record.msg, record.args = printable_lines(record.getMessage()), None
    return True


def prepare_environment() -> None:
    """Sets environment variables; this must come before the import of the libraries that read them."""
    environment.for_program()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of a terminal that is not UTF-8, as Python does for stderr
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors and does not print them: run() prints the message
    import logging

    import absl.logging

    logging.getLogger("detect").addFilter(_without_escapes)
    absl.logging.set_verbosity(absl.logging.ERROR)
