"""The report of a sweep: TensorBoard's layout while it trains, and its tables at the end."""

import logging
from pathlib import Path

from detect.errors import DataError
from detect.studies.tensorboard_layout import write_layout
from detect.studies.writer import write

log = logging.getLogger("detect")


def begin(folder: Path) -> None:
    """Writes the layout with which TensorBoard shows all arms of a study in one chart while they train."""
    folder.mkdir(parents=True, exist_ok=True)
    write_layout(folder)


def conclude(folder: Path) -> None:
    """Writes results.csv, tables and curves of all finished cells to the sweep's folder. Rows whose runs are gone
    stay."""
    try:
        text = write(folder, folder, keep=True)
    except DataError as error:  # no cell is finished, or two cells are the same
        log.warning("no table: %s", error)
        return
    log.info("%s\nwrote results.csv, table.md and report.html into %s", text, folder)
