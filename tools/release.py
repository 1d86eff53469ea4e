"""The release: sdist and wheel built reproducibly, checked, and tried in clean environments. `make release` runs it."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from packaging.metadata import Metadata

ROOT = Path(__file__).resolve().parent.parent
VERSION_FILE = "src/epigone/__init__.py"
WHOSE = {
    "epigone/sample/sonnets.txt": "Shakespeare, 1609: public domain",
    "epigone/bases/words.txt": "a list of words that the project counted",
    "epigone/bases/*/*.json": "sizes, tokenizer and samples of a bundled base",
    "epigone/bases/*/*.safetensors": "weights of a bundled base, and hashes of what it has read",
    "epigone/bases/*/profile.toml": "how a bundled base is tuned",
    "epigone/evaluation/authors.safetensors": "frequencies of words and n-grams in public-domain books",
    "epigone/report/templates/*": "pages, by the project",
    "epigone/export/page/*": "the page that runs a model, by the project",
    "epigone/serving/static/*": "the served page, by the project",
    "epigone/py.typed": "a marker, empty",
    "epigone/*.md": "where data come from",
}
"""Files of the wheel that are not code, and where they come from. What is not named here may not be in it."""
LARGEST_WHEEL = 60_000_000
"""Bytes; the registry's own limit is 100 million."""
ABOUT_SOURCE = ("test_house.py", "test_words.py", "test_docs.py", "test_release.py")
"""Tests of the source tree and of the tools that work on it, which a package does not have."""
OUTSIDE = (
    "tests",
    "tools",
    "docs",
    "examples",
    ".github",
    "README.md",
    "pyproject.toml",
    "Makefile",
    "CITATION.cff",
    "LICENSE",
)
"""What the tests need beside themselves where the package is installed: all but the source."""
FOR_TESTS = ("pytest", "pytest-xdist", "hypothesis", "httpx2", "scikit-learn", "packaging")
"""Packages that all tests need; those of extras are skipped where they are missing."""


class ReleaseError(Exception):
    """Something that must not be released as it is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the steps that are named; 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", nargs="+", choices=("build", "check", "try", "pins"))
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="folder of the packages")
    parser.add_argument("--tag", default=os.environ.get("TAG", ""), help="the tag of a final release, such as v0.2.0")
    parser.add_argument("--constraints", type=Path, nargs="*", help="files to try: the oldest and the newest versions")
    parser.add_argument("--tests", nargs="*", default=[], help="files in tests/ to run instead of all")
    parser.add_argument("--keep", action="store_true", help="keep the environments")
    asked = parser.parse_args(arguments)
    try:
        for step in asked.step:
            if step == "build":
                build(asked.dist)
            elif step == "check":
                check(asked.dist, asked.tag)
            elif step == "pins":
                write_pins(ROOT / "constraints-newest.txt")
            else:
                files = asked.constraints or [ROOT / "constraints-oldest.txt", ROOT / "constraints-newest.txt"]
                for file in files:
                    try_in_clean_environment(asked.dist, file, asked.tests, keep=asked.keep)
    except (ReleaseError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def read_version() -> str:
    """The version, from the only place that has it."""
    found = re.search(r'^__version__ = "([^"]+)"$', (ROOT / VERSION_FILE).read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise ReleaseError(f"{VERSION_FILE} has no version.")
    return found[1]


# -- building


def build(dist: Path) -> None:
    """Build sdist and wheel of the last commit twice, and the wheel once more from the sdist: all have to be equal."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": _git("log", "-1", "--format=%ct").strip()}
    with tempfile.TemporaryDirectory(prefix="epigone-release-") as folder:
        first, second, third = (Path(folder) / name for name in ("first", "second elsewhere", "third"))
        for place in (first, second):
            _export_commit(place / "tree")
            _build_once(place / "tree", place / "dist", environment)
        with tarfile.open(next((first / "dist").glob("*.tar.gz"))) as archive:
            archive.extractall(third, filter="data")
        _build_once(next(third.iterdir()), third / "dist", environment, "wheel")
        _compare(first / "dist", second / "dist", "Two builds")
        _compare(third / "dist", first / "dist", "The wheel from the source and that from the sdist")
        shutil.rmtree(dist, ignore_errors=True)
        shutil.copytree(first / "dist", dist)
    for path in sorted(dist.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, sha256 {hash_file(path)}")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _export_commit(folder: Path) -> None:
    """The files of the last commit, without anything else that lies in the working tree."""
    folder.mkdir(parents=True)
    packed = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed, check=True)


def _build_once(tree: Path, dist: Path, environment: Mapping[str, str], *targets: str) -> None:
    flags = [flag for target in targets or ("sdist", "wheel") for flag in ("-t", target)]
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(dist), *flags]
    subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _compare(some: Path, others: Path, what: str) -> None:
    """Raise ReleaseError unless each file of one folder is the same in the other."""
    for path in sorted(some.iterdir()):
        if hash_file(path) != hash_file(others / path.name):
            raise ReleaseError(f"{what} differ: {path.name}.")


def hash_file(path: Path) -> str:
    """The sha256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- checking


def check(dist: Path, tag: str = "") -> None:
    """Metadata, contents, version and changelog. With a tag everything has to be final. Raises ReleaseError."""
    version = read_version()
    wheel, sdist = dist / f"epigone-{version}-py3-none-any.whl", dist / f"epigone-{version}.tar.gz"
    if {path.name for path in dist.iterdir()} != {wheel.name, sdist.name}:
        raise ReleaseError(f"{dist} does not hold just {wheel.name} and {sdist.name}.")
    tracked = set(_git("ls-files").splitlines())
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        check_metadata(archive.read(f"epigone-{version}.dist-info/METADATA"), version)
    with tarfile.open(sdist) as packed:
        sources = [str(PurePosixPath(*PurePosixPath(one.name).parts[1:])) for one in packed if one.isfile()]
    faults = [
        *find_strangers(names, tracked),
        *find_untracked(sources, tracked),
        *find_other_versions(version, tracked),
    ]
    faults += list(check_changelog((ROOT / "CHANGELOG.md").read_text("utf-8"), version, tag))
    if wheel.stat().st_size > LARGEST_WHEEL:
        faults.append(f"The wheel has {wheel.stat().st_size:,} bytes.")
    if faults:
        raise ReleaseError("\n  ".join(["This cannot be released:", *faults]))
    print(f"{wheel.name}: {len(names)} files; {sdist.name}: {len(sources)} files; metadata, version and changelog fit")


def check_metadata(raw: bytes, version: str) -> None:
    """Raise ReleaseError unless a package index would take them."""
    try:
        metadata = Metadata.from_email(raw, validate=True)
    except ExceptionGroup as error:
        raise ReleaseError("\n  ".join(["The metadata are wrong:", *map(str, error.exceptions)])) from None
    wrong = str(metadata.version) != version or metadata.description_content_type != "text/markdown"
    if wrong or not metadata.summary or not metadata.license_expression or not metadata.requires_python:
        raise ReleaseError(f"The metadata of version {metadata.version} are incomplete.")


def find_strangers(names: Iterable[str], tracked: set[str]) -> Iterator[str]:
    """What does not belong into the wheel: files that are not the project's code or known data."""
    for name in names:
        if re.match(r"epigone-[^/]+\.dist-info/", name):
            continue
        if f"src/{name}" not in tracked:
            yield f"{name} is in the wheel and not under version control."
        elif not name.startswith("epigone/") or not (name.endswith((".py", ".c")) or _is_known(name)):
            yield f"{name} is in the wheel, and nothing says where it comes from."


def _is_known(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in WHOSE)


def find_untracked(sources: Iterable[str], tracked: set[str]) -> Iterator[str]:
    """Files in the sdist that are not under version control."""
    for name in sorted({*sources} - tracked - {"PKG-INFO"}):
        yield f"{name} is in the sdist and not under version control."


def find_other_versions(version: str, tracked: set[str]) -> Iterator[str]:
    """Files besides the one place that state the version as the project's."""
    stated = re.compile(rf"(?:version|epigone)\W{{1,6}}{re.escape(version)}\b", re.IGNORECASE)
    for name in sorted(tracked):
        path = ROOT / name
        kind = path.suffix in (".toml", ".cff", ".yml", ".txt") or path.name in ("Dockerfile", "Makefile")
        if kind and not name.startswith(("src/", "tests/")) and stated.search(path.read_text("utf-8")):
            yield f"{name} states the version {version}, which stands in {VERSION_FILE} alone."


def check_changelog(text: str, version: str, tag: str = "") -> Iterator[str]:
    """What is wrong with the changelog: its headings, their dates and order; for a final release also its beginning."""
    headings = re.findall(r"^## \[([^\]]+)\](?: - (\S+))?\s*$", text, re.MULTILINE)
    versions = [name for name, _ in headings]
    if versions[:1] != ["Unreleased"]:
        yield "CHANGELOG.md does not begin with Unreleased."
    if len(headings) != len(re.findall(r"^## ", text, re.MULTILINE)):
        yield 'CHANGELOG.md has a heading that is not "[version] - date".'
    yield from (
        f"CHANGELOG.md has no date for {name}."
        for name, date in headings
        if name != "Unreleased" and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date)
    )
    numbers = [tuple(map(int, re.findall(r"\d+", name))) for name in versions if name != "Unreleased"]
    if numbers != sorted(set(numbers), reverse=True):
        yield "The versions in CHANGELOG.md do not go down."
    if version not in versions:
        yield f"CHANGELOG.md has nothing on {version}."
    if tag:
        new = text.partition("## [Unreleased]")[2].partition("\n## ")[0]
        if tag != f"v{version}":
            yield f"The tag is {tag}, the version {version}."
        if new.strip():
            yield f"CHANGELOG.md has lines under Unreleased that belong under {version}."
        if versions[1:2] != [version]:
            yield f"{version} is not the newest version in CHANGELOG.md."


# -- trying


def try_in_clean_environment(dist: Path, constraints: Path, tests: Sequence[str] = (), *, keep: bool = False) -> None:
    """Install the wheel with these versions in a new environment, run the demo and the tests there, then the sdist.

    The source is out of the way: tests run in a folder that has no src/. Raises CalledProcessError, ReleaseError.
    """
    wheel, sdist = next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))
    print(f"-- {constraints.name}", flush=True)
    place = Path(tempfile.mkdtemp(prefix="epigone-try-"))
    place.chmod(0o755)  # a test acts as another user, who has to find the environment
    try:
        python = _make_environment(place / "environment", wheel, constraints)
        _try_demo(python, place)
        _run_tests(python, place / "outside", tests)
        before = _list_installed(python)
        _pip(python, "install", "--quiet", "--no-deps", "--force-reinstall", str(sdist))
        if _list_installed(python) != before:
            raise ReleaseError("The sdist installs other files than the wheel.")
        print(f"-- {constraints.name}: demo, tests, sdist: well", flush=True)
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)


def _make_environment(folder: Path, wheel: Path, constraints: Path) -> Path:
    """A new environment with the wheel, its extras and what tests need; its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = [f"{wheel}[gguf,lora,parquet,pdf]", *FOR_TESTS]
    _pip(python, "install", "--quiet", "--only-binary", ":all:", "-c", str(constraints), *wanted)
    _pip(python, "check")
    return python


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run([str(python), "-m", "pip", "--disable-pip-version-check", *arguments], check=True)


def _try_demo(python: Path, place: Path) -> None:
    """Learn the sonnets for half a minute and write, as the README says."""
    environment = os.environ | {"PYTHONPATH": ""}
    place.joinpath("demo").mkdir()
    for arguments in (
        ("train", "sample:sonnets", "--minutes", "0.5", "--quiet"),
        ("write", "runs/sonnets", "--prompt", "Shall I compare", "--length", "60"),
    ):
        command = [str(python), "-m", "epigone", *arguments]
        subprocess.run(command, cwd=place / "demo", env=environment, check=True)


def _run_tests(python: Path, folder: Path, tests: Sequence[str]) -> None:
    """The tests without the slow ones, in a folder that has all but the source."""
    folder.mkdir()
    for path in [*(ROOT / name for name in OUTSIDE), *ROOT.glob("*.md"), *ROOT.glob("constraints*.txt")]:
        name = path.name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, folder / name)
    chosen = [f"tests/{name}" for name in tests] or [f"--ignore=tests/{name}" for name in ABOUT_SOURCE]
    processes = ["--numprocesses", os.environ.get("PROCESSES", "auto"), "--dist", "worksteal"]
    command = [str(python), "-m", "pytest", *processes, *chosen]
    environment = os.environ | {"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(command, cwd=folder, env=environment, check=True)


def _list_installed(python: Path) -> list[str]:
    """The names and hashes of the package's files, as its record has them, without what pip adds."""
    code = "from importlib.metadata import files; print('\\n'.join(sorted(f'{f} {f.hash}' for f in files('epigone'))))"
    done = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=True)
    added = ("direct_url.json", "REQUESTED", "RECORD", "INSTALLER", "__pycache__", "/bin/", "/Scripts/")
    return [line for line in done.stdout.splitlines() if not any(name in line for name in added)]


def write_pins(path: Path) -> None:
    """The newest versions that pip chooses for the package and its extras, as constraints. PyTorch stays as it is."""
    pinned = re.search(r"^torch==\S+$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        report, torch = Path(folder) / "report.json", Path(folder) / "torch.txt"
        torch.write_text(pinned[0] if pinned else "", "utf-8")
        command = ["install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report), "-c", str(torch)]
        _pip(Path(sys.executable), *command, f"{ROOT}[gguf,lora,parquet,pdf]")
        import json

        found = json.loads(report.read_text("utf-8"))["install"]
    pins = {item["metadata"]["name"].lower(): item["metadata"]["version"].partition("+")[0] for item in found}
    pins.pop("epigone", None)
    lines = [NEWEST_HEAD, *(f"{name}=={version}" for name, version in sorted(pins.items()))]
    path.write_text("\n".join(lines) + "\n", "utf-8")


NEWEST_HEAD = "# The newest versions that a release was tried with. Written by `make pins`."


if __name__ == "__main__":
    sys.exit(main())
