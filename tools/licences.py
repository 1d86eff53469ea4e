"""Licences of what epigone needs: every installed package that it or one of its extras leads to, as each states it."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REFUSED = re.compile(r"(?<!L)GPL|\bGNU (?:Affero )?General Public|SSPL|BUSL|Non-?Commercial", re.IGNORECASE)
"""Licences that would put conditions on a program that needs the package, or on what is done with it."""
OWN_PROGRAM = ("dev",)
"""Extras with tools that work on epigone and are not part of it when it runs."""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package: its licence is "" where it states none."""

    name: str
    version: str
    licence: str
    needed_by: str

    @property
    def is_refused(self) -> bool:
        """Whether epigone may not need it."""
        return not self.licence or bool(REFUSED.search(self.licence))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a licence is refused or missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", default="epigone", help="another package to begin with")
    packages = sorted(list_packages(parser.parse_args(arguments).package), key=lambda package: package.name)
    width = max((len(package.name) for package in packages), default=0)
    for package in packages:
        print(f"{package.name:{width}}  {package.version:16}  {package.licence or 'NOT STATED'}")
    refused = [package for package in packages if package.is_refused]
    for package in refused:
        print(f"refused: {package.name}, needed by {package.needed_by}: {package.licence or 'states no licence'}")
    print(f"{len(packages)} packages, {len(refused)} refused")
    return int(bool(refused))


def list_packages(root: str) -> Iterator[Package]:
    """Each package that `root` leads to and that is installed, once, without `root` itself."""
    extras = set(distribution(root).metadata.get_all("Provides-Extra") or ()) - {*OWN_PROGRAM}
    waiting = list(_list_needs(distribution(root), extras))
    seen: set[tuple[str, frozenset[str]]] = set()
    listed = {canonicalize_name(root)}
    while waiting:
        requirement, needed_by = waiting.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:  # of an extra that is not installed
            continue
        waiting += _list_needs(found, requirement.extras)
        if key[0] not in listed:
            listed.add(key[0])
            yield Package(found.metadata["Name"], found.version, read_licence(found), needed_by)


def _list_needs(found: Distribution, extras: Collection[str]) -> Iterator[tuple[Requirement, str]]:
    """What a package needs on this system, with some of its extras."""
    for line in found.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement, found.metadata["Name"]


def read_licence(found: Distribution) -> str:
    """What a package says of its licence: as an SPDX expression, by classifiers, or in a line of its own words."""
    said = found.metadata
    classifiers = [line for line in said.get_all("Classifier") or () if line.startswith("License :: ")]
    names = [name for line in classifiers if (name := line.split(" :: ")[-1]) != "OSI Approved"]
    expression, words = ("".join(said.get_all(field) or ()).strip() for field in ("License-Expression", "License"))
    own = words if "\n" not in words else ""  # some put the whole text there
    return expression or " AND ".join(names) or own or words.partition("\n")[0].strip() or _call_empty(found)


def _call_empty(found: Distribution) -> str:
    """What is said of a package that only names others, such as that of CUDA's libraries."""
    own = [file for file in found.files or () if not file.parts[0].endswith(".dist-info")]
    return "holds nothing but the names of others" if found.files and not own else ""


if __name__ == "__main__":
    sys.exit(main())
