"""Writes the tables, CSV, curves and page of a study from its run folders or its CSV: `detect report [STUDY]`. With
`run=RUN`, it writes the page of one run."""

import logging
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from detect.config.check import refuse_unread
from detect.config.tree import listed, nearest
from detect.data.split import SPLITS
from detect.errors import ConfigError, printable
from detect.files import expanded
from detect.runs.unstarted import refuse_unwritable

log = logging.getLogger("detect")
STUDIES, RUNS = Path("experiments"), Path("runs")
ROWS = (None, "runs", "exports", "measured")
OF_RUNS = ("rows", "splits", "baseline", "keep")
"""The keys that choose rows of run folders. Tables that are made again from a CSV have all of its rows."""


def main(cfg: DictConfig) -> None:
    """Writes results.csv, table.md, pictures and report.html. Replaces the marked table of a README.md.

    With `run=RUN`, it writes the page of that run only.
    """
    from detect.studies.writer import rewrite, write

    if cfg.run is not None:
        reason = "run=RUN writes the page of one run into its folder, alone"
        refuse_unread(cfg, "report", reason, "study", "runs", "output", *OF_RUNS)
        from detect.studies.run_page import write_page

        run = expanded(cfg.run)
        if not run.is_dir():
            raise ConfigError(f"run={run}: there is no such folder")
        log.info("wrote %s", printable(write_page(run)))
        return
    if cfg.rows not in ROWS:
        raise ConfigError(f"rows={cfg.rows} is not legal: expected runs, exports, measured or null (all)")
    splits = listed(cfg.splits)
    if not splits or not set(splits) <= set(SPLITS):
        raise ConfigError(f"splits={cfg.splits} is not legal: expected a list of {', '.join(SPLITS)}")
    if cfg.keep not in (True, False, None):
        raise ConfigError(f"keep={cfg.keep} is not legal: expected true, false or null")
    if cfg.runs is None and cfg.study is None:
        reason = "name a study or runs=DIR; without them, all tables are made again from their CSV"
        refuse_unread(cfg, "report", reason, *OF_RUNS)
        for folder in committed():
            rewrite(folder)
            log.info("wrote the tables in %s again from its CSV", folder)
        return
    runs, output = places(cfg)
    if runs is None:
        reason = f"there are no run folders, only the results in {output}; name runs=DIR"
        refuse_unread(cfg, "report", reason, *OF_RUNS)
        log.info("%s\nno run folders: wrote the tables in %s again from its CSV", rewrite(output), output)
        return
    text = write(runs, output, splits=splits, rows=cfg.rows, baseline=cfg.baseline, keep=cfg.keep)
    log.info("%s\nwrote results.csv, table.md, pictures and report.html into %s", text, output)


def committed() -> list[Path]:
    """The folders below `experiments` that hold a results.csv. Raises ConfigError without one."""
    folders = sorted(path.parent for path in STUDIES.glob("*/results.csv"))
    if not folders:
        raise ConfigError(
            f"there is no {STUDIES}/*/results.csv: name a study (detect report STUDY) or its runs (runs=DIR)"
        )
    return folders


def places(cfg: DictConfig) -> tuple[str | Sequence[str] | None, Path]:
    """(runs, output): the folder of the study's runs (None if there is only a results.csv), and the output folder.

    A study is a name (runs/NAME, experiments/NAME), or the folder of its runs or of its results.
    Raises ConfigError if neither folder exists, for runs without an output folder, and for results alone with another.
    """
    if cfg.study is None and cfg.output is None:
        raise ConfigError("output=null is not legal with runs=: give output=DIR, for example experiments/NAME")
    study = expanded(cfg.study or cfg.output)
    output = expanded(cfg.output or STUDIES / study.resolve().name)  # of `.` and `..`, too
    refuse_unwritable(output, "output")
    if cfg.runs is not None:
        named = list(map(str, listed(cfg.runs)))
        return named if isinstance(cfg.runs, ListConfig) else named[0], output
    folders = [folder for folder in (RUNS / study, study) if folder.is_dir() and not is_results(folder)]
    if folders:
        return str(folders[0]), output
    results = [folder for folder in (output, study) if is_results(folder)]
    if not results:
        names = [path.name for path in (*RUNS.glob("*/"), *STUDIES.glob("*/"))]
        near = nearest(study.name, names)
        raise ConfigError(f"study={study}: there are no run folders in {RUNS / study} and no results in {output}{near}")
    if cfg.output is not None and results[0] != output:
        reason = f"there are no run folders, and the tables of {results[0]} are written into that folder; name runs=DIR"
        raise ConfigError(f"output={output} is not legal here: {reason}")
    return None, results[0]


def is_results(folder: Path) -> bool:
    """Whether a folder belongs to a committed study: it has results, and no run folders."""
    from detect.studies.records import record_files

    return (folder / "results.csv").is_file() and not any(record_files(folder))
