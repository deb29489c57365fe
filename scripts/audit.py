"""Compares the versions of requirements.lock with known weaknesses, offline.

    python scripts/audit.py FOLDER [LOCK]       # make audit ADVISORIES=FOLDER

FOLDER: a copy of github.com/pypa/advisory-database, or any folder of files in OSV's format (.yaml or .json).
It prints a line for each weakness of a locked version. Exit code 1: there is one.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parent.parent
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def locked(file: Path) -> list[tuple[str, Version]]:
    """(name, version) of each line of a lock file; a package may have two versions, for different systems."""
    return [(canonicalize_name(name), Version(version)) for name, version in LOCKED.findall(file.read_text())]


def advisories(folder: Path) -> Iterator[dict[str, Any]]:
    """All advisories in a folder that are not withdrawn."""
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".yaml", ".yml", ".json") and file.is_file():
            text = file.read_text(encoding="utf-8")
            content = json.loads(text) if file.suffix == ".json" else yaml.load(text, yaml.CSafeLoader)
            if isinstance(content, dict) and "affected" in content and not content.get("withdrawn"):
                yield content


def affects(entry: dict[str, Any], version: Version) -> bool:
    """Whether an entry of `affected` names a version, or has it in a range."""
    if any(_same(listed, version) for listed in entry.get("versions") or ()):
        return True
    ranges = [one for one in entry.get("ranges") or () if one.get("type") == "ECOSYSTEM"]
    return any(_within(one["events"], version) for one in ranges)


def _within(events: list[dict[str, str]], version: Version) -> bool:
    inside = False
    for event in events:  # OSV lists them in the order of the versions
        if "introduced" in event:
            inside |= event["introduced"] == "0" or version >= Version(event["introduced"])
        elif "fixed" in event:
            inside &= version < Version(event["fixed"])
        elif "last_affected" in event:
            inside &= version <= Version(event["last_affected"])
    return inside


def _same(listed: str, version: Version) -> bool:
    try:
        return Version(listed) == version
    except InvalidVersion:
        return False


def main() -> int:
    folder, lock = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "requirements.lock")
    packages: dict[str, list[Version]] = {}
    for name, version in locked(lock):
        packages.setdefault(name, []).append(version)
    read = found = 0
    for advisory in advisories(folder):
        read += 1
        for entry in advisory["affected"]:
            name = canonicalize_name(entry.get("package", {}).get("name", ""))
            for version in packages.get(name, ()):
                if affects(entry, version):
                    found += 1
                    about = str(advisory.get("summary") or advisory.get("details") or "").strip().splitlines()
                    names = ", ".join([advisory["id"], *advisory.get("aliases", [])])
                    print(f"{name} {version}: {names}: {about[0] if about else ''}")
    print(f"{sum(map(len, packages.values()))} versions, {read} advisories, {found} weaknesses")
    if not read:
        raise SystemExit(f"{folder} has no advisories: legal is a copy of github.com/pypa/advisory-database")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
