"""What the installation of this Python takes: packages, megabytes on disk, and seconds of imports.

make install-size
"""

import subprocess
import sys
import sysconfig
import time
from importlib import metadata
from pathlib import Path

IMPORTS = ("detect.api", "detect.cli.main", "tensorflow")


def main() -> None:
    folder = Path(sysconfig.get_paths()["purelib"])
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{len(list(metadata.distributions()))} packages, {size / 1e9:.2f} GB in {folder.parent.name}/{folder.name}")
    for name in IMPORTS:
        times = []
        for _ in range(3):  # the first import reads the files from the disk
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {name}"], check=True, capture_output=True)
            times.append(time.perf_counter() - begin)
        print(f"import {name}: {min(times):.1f} s (the first time {times[0]:.1f} s)")


if __name__ == "__main__":
    main()
