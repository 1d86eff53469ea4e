"""Fixtures for all tests; those that count faults and write the rows of docs/dev/reliability.md when asked to.

A test that takes the fixture `reliability` has the marker `faults` by itself: `make faults` runs all of these.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from epigone.errors import EpigoneError

ODD = "Odd and hostile input"
ROWS = Path(__file__).parents[1] / "build" / "reliability.json"
_found: list[dict[str, Any]] = []
_cpu: dict[str, float] = {}
SHARED = "EPIGONE_TESTS_SHARED"
_STARTED = pytest.StashKey[float]()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table; lines of the same group and fault are added up."""

    group: str
    """The heading under which it stands."""
    fault: str
    tried: int
    survived: int
    lost: str
    refused: int
    """Of those that were survived, the ones that ended in an error of ours: what was given could not be used."""
    test: str
    """The test that made it; when that runs again, its rows are replaced."""


class Reliability(Protocol):
    """Keeps a row. To be called before the assertion, so that what failed is in the table as well."""

    def __call__(
        self, group: str, fault: str, *, tried: int, survived: int, lost: str = "nothing", refused: int = 0
    ) -> None: ...


@dataclass(slots=True)
class Tries:
    """What is counted while things are given that may be read or refused; nothing else is a good end."""

    n_tried: int = 0
    n_read: int = 0
    n_refused: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Something is given within. An error of ours, which is passed on, is a refusal."""
        self.n_tried += 1
        try:
            yield
        except EpigoneError:
            self.n_refused += 1
            raise
        self.n_read += 1

    def end(self, act: Callable[[], int]) -> int:
        """The exit code of a command that is known to end well if nothing is raised."""
        self.n_tried += 1
        code = act()
        self.n_read += code == 0
        self.n_refused += code != 0
        return code


Counting = Callable[[str], AbstractContextManager[Tries]]
"""Counts within what is given to epigone, and keeps the row of that in the end, whatever comes."""


@pytest.fixture
def reliability(request: pytest.FixtureRequest) -> Reliability:
    """How often a fault was tried and survived, and what was lost by it."""

    def keep(group: str, fault: str, *, tried: int, survived: int, lost: str = "nothing", refused: int = 0) -> None:
        row = Row(
            group=group,
            fault=fault,
            tried=tried,
            survived=survived,
            lost=lost,
            refused=refused,
            test=request.node.nodeid,
        )
        _found.append(asdict(row))

    return keep


@contextmanager
def keeping(reliability: Reliability, group: str, fault: str, lost: str = "nothing") -> Iterator[None]:
    """One try, survived if nothing is raised within."""
    survived = 0
    try:
        yield
        survived = 1
    finally:
        reliability(group, fault, tried=1, survived=survived, lost=lost)


@pytest.fixture
def counting(reliability: Reliability) -> Counting:
    """How often something odd was given, and read or refused; nothing else may come of it."""

    @contextmanager
    def count(what: str) -> Iterator[Tries]:
        tries = Tries()
        try:
            yield tries
        finally:
            survived = tries.n_read + tries.n_refused
            reliability(ODD, what, tried=tries.n_tried, survived=survived, refused=tries.n_refused)

    return count


# -- what keeps the tests quick


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest) -> Iterator[None]:
    """The stand-ins of helpers_quick.py, but for those whose marker the test has."""
    with ExitStack() as stand_ins:
        if "torch" in sys.modules:  # else there is nothing that could be slow
            import helpers_quick

            for marker, stand_in in helpers_quick.STAND_INS.items():
                if request.node.get_closest_marker(marker) is None:
                    stand_ins.enter_context(stand_in())
        yield


# -- no network


attempts: list[str] = []
"""What the running test tried to reach beyond this machine."""
_NETWORK = {f"socket.{name}" for name in ("connect", "getaddrinfo", "gethostbyname", "gethostbyaddr", "sendto")}
_THIS_MACHINE = ("127.", "::1", "localhost")


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook, which sees what any library asks of Python's sockets."""
    if event not in _NETWORK:
        return
    where = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
    host = where[0] if isinstance(where, tuple) else where if event.startswith("socket.get") else None
    if host is not None and not str(host).startswith(_THIS_MACHINE):
        attempts.append(f"{event} {where}")
        raise OSError("no network in the tests")


@pytest.fixture(autouse=True)
def _no_network() -> Iterator[None]:
    """A test fails that tries to leave this machine, even where what it calls hides that."""
    attempts.clear()
    yield
    assert not attempts


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the cache of the user."""
    before, os.environ["EPIGONE_CACHE"] = os.environ.get("EPIGONE_CACHE"), str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("EPIGONE_CACHE")
    if before is not None:
        os.environ["EPIGONE_CACHE"] = before


def pytest_configure(config: pytest.Config) -> None:
    """One folder for what the processes of pytest-xdist make once for all of them; they inherit the variable."""
    _heed_interrupts()
    sys.addaudithook(_refuse_network)
    if not hasattr(config, "workerinput"):
        os.environ[SHARED] = tempfile.mkdtemp(prefix="epigone-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(SHARED), ignore_errors=True)


def pytest_collection_finish() -> None:
    """All that is loaded by now stays. Else each collection of garbage, as after memory ran out, would search it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of entries of an empty cache of parsed documents."""
    from epigone.corpus import parse_cache

    monkeypatch.setenv("EPIGONE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(parse_cache._state, "broken", 0)
    return tmp_path / "cache" / "parsed"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    """Write a file and return its path."""

    def write_file(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write_file


# -- options and reports


def _heed_interrupts() -> None:
    """A shell's background job ignores Ctrl-C, and so would every process that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu", type=int, metavar="N", help="list the N tests and files that took most processor time")
    parser.addoption("--rows", action="store_true", help=f"keep the rows of docs/dev/reliability.md in {ROWS.name}")


def _cpu_seconds() -> float:
    """Processor time of this process and of the children it has waited for; the clock says little on a busy machine."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.stash[_STARTED] = _cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, object, object]:
    if call.when == "teardown":
        item.user_properties.append(("cpu", _cpu_seconds() - item.stash[_STARTED]))
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        _cpu[report.nodeid] = dict(report.user_properties).get("cpu", 0.0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium for the tests of a file, which need playwright."""
    from playwright.sync_api import sync_playwright

    from helpers_serve_page import CHROMIUM

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(params=["desk-light", "desk-dark", "phone-light", "phone-dark"])
def look(request: pytest.FixtureRequest) -> str:
    """The device, and whether its screen is dark."""
    return request.param


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    n = config.getoption("--cpu")
    if not n:
        return
    files = Counter[str]()
    for test, seconds in _cpu.items():
        files[test.partition("::")[0]] += seconds
    for title, table in ("tests", Counter(_cpu)), ("files", files):
        terminalreporter.section(f"processor time, {title}; {sum(table.values()):.0f} s in all")
        for name, seconds in table.most_common(n):
            terminalreporter.write_line(f"{seconds:8.2f}  {name}")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "reliability" in getattr(item, "fixturenames", ()):
            item.add_marker("faults")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.getoption("--rows") or not _found:
        return
    again = {row["test"] for row in _found}
    kept = json.loads(ROWS.read_text("utf-8")) if ROWS.exists() else []
    rows = [row for row in kept if row["test"] not in again] + _found
    ROWS.parent.mkdir(exist_ok=True)
    ROWS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
