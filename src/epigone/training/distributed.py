"""Training in several processes as one program: start, signs of life, errors, agreement, and the accelerator.

The processes meet in the key-value store that torchrun serves. Each says there every second that it is alive, and there
the first error is put, for all to see. A thread in each process ends it when another one has failed or is lost, even
while the main thread waits for that one inside torch.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from datetime import timedelta
from functools import cache
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import distributed
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from epigone.corpus.sources import PIPE
from epigone.errors import EpigoneError, OutputError, ProcessFailed, SettingsError, first_line
from epigone.files import write_text
from epigone.hardware import Hardware, count_own_cores
from epigone.planning.plan import Plan
from epigone.planning.specs import ComputeSpec
from epigone.training.state import pack_random_state

if TYPE_CHECKING:
    from accelerate import Accelerator

LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun and accelerate launch set for each process."""
OTHER_LAUNCHERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
UNSUPPORTED = {
    "ACCELERATE_USE_FSDP": "use --shard instead.",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed is not supported.",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM is not supported.",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "only data parallelism is supported.",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker's launcher is not supported.",
    "ACCELERATE_TORCH_DEVICE": "use --device instead.",
    "ACCELERATE_MIXED_PRECISION": "use --precision instead.",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "use --gradient-accumulation instead.",
    "ACCELERATE_DYNAMO_BACKEND": "use --compile instead.",
}
"""Variables that make accelerate train in another way than planned, and what to say of them."""
WITHOUT_EFFECT = {"", "0", "no", "none", "false"}
"""Values that accelerate launch gives them, in lower case, where nothing was asked for."""
PROCESS_TIMEOUT = 45.0
"""Seconds without a sign of life after which a process counts as lost."""
BEAT_SECONDS = 1.0
MISSED_BEATS = 3
"""After an error of the connection, a process that misses this many signs of life is taken for its cause."""
START_SECONDS = 300.0
"""In which all processes have to start."""
SEEING_SECONDS = 15.0
"""In which all have to see a file that one of them wrote: network file systems remember for a while what was not there.
"""
POLL_SECONDS = 0.05
NO_LIMIT = timedelta(days=30)
"""For waiting inside torch, which cannot tell a lost process from a busy one."""
LEFT = "left"
"""In place of a sign of life: this process has done its part."""
LOST_STORE = (distributed.DistError, RuntimeError)
"""Errors of a store that is gone."""


def count_processes() -> int:
    """The number of processes that train together, as set by torchrun or accelerate launch."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process writes files and prints; a single one always does."""
    return os.environ.get("RANK", "0") == "0"


# -- what is refused


def check_launch(texts: Iterable[str] = ()) -> None:
    """Raise SettingsError where environment or texts ask for what epigone, or several processes, cannot do."""
    for name, why in UNSUPPORTED.items():
        value = os.environ.get(name, "").lower()
        if value not in WITHOUT_EFFECT and (name, value) != ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1"):
            raise SettingsError(f"The environment has {name}={os.environ[name]}: {why}", hint=f"First: unset {name}")
    if not _is_complete():
        found = ", ".join(f"{name}={os.environ[name]}" for name in LAUNCH + OTHER_LAUNCHERS if name in os.environ)
        raise SettingsError(
            f"The environment has {found}, which is only a part of what several processes need.",
            hint=f"For one process: unset {' '.join(LAUNCH)}. For several: torchrun --nproc-per-node 2 -m epigone …",
        )
    if count_processes() > 1 and PIPE in texts:
        raise SettingsError(
            "Several processes cannot share standard input.", hint="Save the text in a file and give its name."
        )


def _is_complete() -> bool:
    """Whether the environment is that of a single process, or has all that one of several needs."""
    rank, size, local = (_read_number(name) for name in LAUNCH[:3])
    if local is None and rank in (None, 0) and size in (None, 1):
        return not any((_read_number(name) or 1) > 1 for name in OTHER_LAUNCHERS)
    return rank is not None and size is not None and 0 <= rank < size and all(map(os.environ.get, LAUNCH))


def _read_number(name: str) -> int | None:
    """The number that a variable of the environment holds; -1 if it holds something else."""
    value = os.environ.get(name)
    return None if value is None else int(value) if value.isdecimal() else -1


# -- errors and signs of life


class Processes:
    """The processes of one training, as one of them sees the others."""

    n_met = 0
    """How often they have met so far."""

    def __init__(self, timeout: float) -> None:
        """Meet the others. `timeout`: seconds after which a silent one counts as lost. Raises ProcessFailed."""
        self.rank, self.size, self.timeout = int(os.environ["RANK"]), count_processes(), timeout
        self.hint = "Nothing was trained yet: give the command again."
        self.names = [f"Process {rank}" for rank in range(self.size)]
        prefix = f"epigone/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{Processes.n_met}"
        try:
            store, *_ = next(rendezvous("env://", timeout=timedelta(seconds=START_SECONDS)))
        except LOST_STORE as error:
            place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise ProcessFailed(f"The other processes cannot be reached at {place}: {first_line(error)}") from None
        self.store: Store = PrefixStore(prefix, store)
        self._heart: Store = PrefixStore(prefix, store.clone())  # a connection that waits for nothing but its answers
        self._heart.set_timeout(timedelta(seconds=timeout))
        self._beats = [f"beat/{rank}" for rank in range(self.size)]
        self._last, self._silence = [b""] * self.size, [0.0] * self.size
        self._stopped, self._ending, self._n_gathered = threading.Event(), threading.Lock(), count()
        self._meet()

    def _meet(self) -> None:
        self.store.set(f"beat/{self.rank}", "0")
        ends = time.monotonic() + START_SECONDS
        while missing := [rank for rank in range(self.size) if not self.store.check([f"beat/{rank}"])]:
            if time.monotonic() > ends:
                raise ProcessFailed(
                    f"{self._list(missing)} did not start within {START_SECONDS:.0f} seconds.", hint=self.hint
                )
            time.sleep(POLL_SECONDS)
        Processes.n_met += 1
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._watch)]
        for thread in self._threads:
            thread.start()
        hosts = self.gather(socket.gethostname())
        self.names = [f"Process {rank}" + f" on {host}" * (len(set(hosts)) > 1) for rank, host in enumerate(hosts)]

    def _list(self, ranks: Sequence[int]) -> str:
        return ", ".join(self.names[rank] for rank in ranks)

    def gather(self, value: str) -> list[str]:
        """The values of all processes, by rank. All have to call it; it waits for them."""
        number = next(self._n_gathered)
        self.store.set(f"value/{number}/{self.rank}", value)
        keys, pause = [f"value/{number}/{rank}" for rank in range(self.size)], POLL_SECONDS
        while not self.store.check(keys):
            time.sleep(pause)
            pause = min(1.1 * pause, BEAT_SECONDS)  # what takes an hour need not be asked for 72,000 times
        return [found.decode() for found in self.store.multi_get(keys)]

    def leave(self) -> None:
        """Tell the others that this process has done its part and is not to be waited for."""
        self.stop()
        for thread in self._threads:
            thread.join(self.timeout)  # a last sign of life would come after the word that there are no more
        with suppress(*LOST_STORE):
            self.store.set(f"beat/{self.rank}", LEFT)

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def _beat(self) -> None:
        """Give signs of life and look for those of the others and for errors. Runs in a thread of its own."""
        for number in count(1):
            if self._stopped.wait(BEAT_SECONDS):
                return
            try:
                self._heart.set(f"beat/{self.rank}", str(number))
                self._look_around()
            except LOST_STORE:  # torchrun was killed
                if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
                    self._stopped.set()  # torch itself notices whether a process of the same machine ends
                return

    def _look_around(self) -> None:
        for rank, value in enumerate(self._heart.multi_get(self._beats)):
            if value != self._last[rank] or value == LEFT.encode():
                self._last[rank], self._silence[rank] = value, 0.0
        if self._heart.check(["error"]):
            record = json.loads(self._heart.get("error"))
            if record["rank"] != self.rank:
                self._heart.add("seen", 1)
                self._end(_restore_error(record), show=self._may_show(self._heart))

    def _watch(self) -> None:
        """End the process if another one is silent for too long. In a thread of its own: the other may be stuck.

        Silence is counted in turns and not by the clock, so that all processes can be suspended together.
        """
        while not self._stopped.wait(BEAT_SECONDS):
            for rank in range(self.size):
                self._silence[rank] += BEAT_SECONDS
            if self._find_lost(self.timeout):
                self._end(self._explain_loss(self.timeout), show=os.environ["LOCAL_RANK"] == "0")

    def _find_lost(self, seconds: float) -> list[int]:
        return [rank for rank, silence in enumerate(self._silence) if silence > seconds and rank != self.rank]

    def _explain_loss(self, seconds: float) -> ProcessFailed:
        lost = self._find_lost(seconds)
        what = f"{self._list(lost)} ended or cannot be reached" if lost else "The connection to other processes broke"
        return ProcessFailed(f"{what}.", hint=self.hint)

    def _end(self, error: EpigoneError, *, show: bool) -> None:
        """End the process at once: the main thread may be inside torch, waiting for a process that does not answer."""
        with self._ending:
            if self._stopped.is_set():  # the main thread has come to an end by itself
                return
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                cursor = "\r\x1b[?25h" if sys.stderr.isatty() else ""
                sys.stderr.write(f"{cursor}error: {error}\n  {error.hint}\n" * show)
                sys.stderr.flush()
            os._exit(error.exit_code)

    def settle(self, error: BaseException) -> BaseException:
        """What this process has to raise for an error: of those that fail, one on each host shows the first error."""
        if _is_of_connection(error):
            error = self._find_cause()
        record = _record_error(error, self.rank, self.names[self.rank])
        try:
            show = self._may_show(self.store)
            first = json.loads(self.store.compare_set("error", "", json.dumps(record)))
            self.store.add("seen", int(first["rank"] != self.rank))
        except LOST_STORE:
            first, show = record, os.environ["LOCAL_RANK"] == "0"
        self.stop()
        if first["rank"] == self.rank and not isinstance(error, ProcessFailed):
            self._wait_until_seen()
        if not show:
            return SystemExit(first["exit_code"])
        return error if first["rank"] == self.rank else _restore_error(first)

    def _wait_until_seen(self) -> None:
        """Give the others time to see the error: the store may end with this process, or soon after it."""
        ends = time.monotonic() + BEAT_SECONDS * MISSED_BEATS
        with suppress(*LOST_STORE):
            while self.store.add("seen", 0) < self.size - 1 and time.monotonic() < ends:
                time.sleep(POLL_SECONDS)

    def _find_cause(self) -> ProcessFailed:
        """Why torch lost a connection: the process at its other end has failed, which it says, or was killed."""
        silent = BEAT_SECONDS * MISSED_BEATS
        for _ in range(2 * MISSED_BEATS):
            time.sleep(BEAT_SECONDS)
            with suppress(*LOST_STORE):
                if self._find_lost(silent) or self.store.check(["error"]):
                    break
        return self._explain_loss(silent)

    @staticmethod
    def _may_show(store: Store) -> bool:
        """Whether this process is the first on its host that wants to show an error."""
        return store.add(f"shown/{os.environ.get('GROUP_RANK', socket.gethostname())}", 1) == 1


def _is_of_connection(error: BaseException) -> bool:
    """Whether torch lost the connection to another process; gloo has no class of errors of its own."""
    return isinstance(error, distributed.DistError) or (type(error) is RuntimeError and "gloo" in str(error).lower())


def _record_error(error: BaseException, rank: int, name: str) -> dict[str, Any]:
    if isinstance(error, EpigoneError):
        message, hint, exit_code = str(error), error.hint, error.exit_code
    elif isinstance(error, KeyboardInterrupt):
        message, hint, exit_code = "Interrupted.", "", 130
    else:
        message, hint, exit_code = f"{type(error).__name__}: {first_line(error)}", "", 1
    where = f"{name}: " if " on " in name and not isinstance(error, ProcessFailed) else ""
    message, hint = ("".join(c if c.isprintable() else "?" for c in text) for text in (message, hint))
    return {"rank": rank, "message": where + message, "hint": hint, "exit_code": exit_code}


def _restore_error(record: Mapping[str, Any]) -> ProcessFailed:
    """The error of another process."""
    error = ProcessFailed(record["message"], hint=record["hint"])
    error.exit_code = record["exit_code"]
    return error


# -- as one program

_joined: list[Processes] = []
"""The processes that this one trains with now; empty for a single process."""


@contextmanager
def join_processes(timeout: float = PROCESS_TIMEOUT) -> Iterator[None]:
    """Within it the processes that were started together also end together. Does nothing for a single one, or nested.

    Raises the first error of any process, SystemExit where another one shows it, and ProcessFailed where one is lost.
    """
    if count_processes() == 1 or _joined:
        yield
        return
    processes = Processes(timeout)
    _joined.append(processes)
    _share_cores()
    try:
        yield
        processes.leave()
    except GeneratorExit:  # what is not read to its end may go on elsewhere
        raise
    except BaseException as error:
        found = processes.settle(error)
        if found is error:
            raise
        raise found from None
    finally:
        processes.stop()
        _joined.clear()


def may_show_error() -> bool:
    """Whether an error that this process raised is to be shown: all fail alike until they have met."""
    return os.environ.get("LOCAL_RANK", "0") == "0" or Processes.n_met > 0


def _share_cores() -> None:
    """Give each process of this machine its share of the cores; torchrun itself says 1 where the user says nothing."""
    of_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if os.environ.get("OMP_NUM_THREADS") in (None, "1" if of_torchrun else None):
        n_threads = count_own_cores()
        os.environ["OMP_NUM_THREADS"] = str(n_threads)  # or accelerate would choose another number, with a warning
        torch.set_num_threads(n_threads)


def set_timeout(seconds: float) -> None:
    """Count a process as lost after so many seconds without a sign of life."""
    for processes in _joined:
        processes.timeout = seconds


def set_hint(hint: str) -> None:
    """What to do if a process is lost from here on."""
    for processes in _joined:
        processes.hint = hint


def agree(
    values: Mapping[str, object], hint: str = "All processes need the same versions, settings and texts."
) -> None:
    """Raise SettingsError, in all processes, unless all have the same values."""
    for processes in _joined:
        first, *others = [json.loads(found) for found in processes.gather(json.dumps(_flatten(values), default=str))]
        for name, other in zip(processes.names[1:], others, strict=True):
            if differing := [key for key in first if other.get(key) != first[key]]:
                found = "; ".join(f"{key}: {other.get(key)}, not {first[key]}" for key in differing[:3])
                raise SettingsError(f"{name} differs from {processes.names[0]} in {found}.", hint=hint)


def _flatten(values: Mapping[str, object], of: str = "") -> dict[str, object]:
    """The values within values under their own names, or if that is "name", under the name of what they are in."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        flat |= _flatten(value, name) if isinstance(value, Mapping) else {of if name == "name" else name: value}
    return flat


def agree_on_plan(plan: Plan) -> None:
    """Raise SettingsError, in all processes, unless all have the same plan, but for the machine and its threads."""
    values = _flatten(asdict(plan) | {"reasons": ""})
    agree(
        values | {"n_threads": "", "machine": ""},
        "Where machines differ, say what is to be done: --device, --precision, --base …",
    )


def check_shared(mark: Path) -> None:
    """Raise OutputError, in all processes, unless all see the file that the first one writes into the run's folder.

    It also says who started them: see `was_begun_before_restart`.
    """
    if not _joined and "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    launchers, nonce = [_name_launcher()], secrets.token_hex(8)
    for processes in _joined:
        launchers = processes.gather(launchers[0])
    if is_main_process():
        write_text(mark, "\n".join([nonce, *sorted(set(launchers))]) + "\n")
    for processes in _joined:
        nonce, place = json.loads(processes.gather(json.dumps([nonce, str(mark.parent.absolute())]))[0])
        seen = processes.gather(str(_sees(mark, nonce)))
        blind = [name for name, found in zip(processes.names, seen, strict=True) if found != "True"]
        if blind:
            raise OutputError(
                f"{', '.join(blind)} cannot see the run's folder, {place}, of {processes.names[0]}.",
                hint="Put the run, by --out, into a folder that all hosts share.",
            )


def _sees(mark: Path, nonce: str) -> bool:
    ends = time.monotonic() + SEEING_SECONDS
    while time.monotonic() < ends:
        with suppress(OSError, ValueError):
            if mark.read_text("utf-8").startswith(nonce):
                return True
        time.sleep(POLL_SECONDS)
    return False


def was_begun_before_restart(mark: Path) -> bool:
    """Whether torchrun has restarted the processes, and the mark in a run's folder is theirs."""
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return False
    with suppress(OSError, ValueError):
        return _name_launcher() in mark.read_text("utf-8").split()[1:]
    return False


def ask_main_process(question: Callable[[], bool]) -> bool:
    """The main process's answer, for all processes."""
    answer = is_main_process() and question()
    for processes in _joined:
        answer = processes.gather(str(answer))[0] == "True"
    return answer


def take_from_main_process(make: Callable[[], str]) -> str:
    """What the main process makes, for all; the others wait for it outside of torch, however long it takes."""
    found = make() if is_main_process() else ""
    for processes in _joined:
        found = processes.gather(found)[0]
    return found


def gather_strings(value: str) -> list[str]:
    """The values of all processes, by rank, also from outside of torch. All have to call it."""
    for processes in _joined:
        return processes.gather(value)
    return [value]


def wait_until_seen(path: Path) -> None:
    """Give a network file system time to show a file that another process has written."""
    ends = time.monotonic() + SEEING_SECONDS
    while not path.exists() and time.monotonic() < ends:
        time.sleep(POLL_SECONDS)


def _name_launcher() -> str:
    """A name of the torchrun that started this process, which its restarts have in common and no other has."""
    parent = psutil.Process(os.getppid())
    return sha256(f"{socket.gethostname()} {parent.pid} {parent.create_time()}".encode()).hexdigest()[:16]


# -- torch and accelerate


def _connect(device: str) -> None:
    """Connect the processes for torch, unless accelerate is to do so or it was done."""
    if distributed.is_initialized() or not _joined:
        return
    if device == "mps":
        raise SettingsError(
            "Several processes cannot train on one Apple GPU.", hint="Use --device cpu, or one process."
        )
    (processes,) = _joined
    distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=PrefixStore("torch", processes.store),
        rank=processes.rank,
        world_size=processes.size,
        timeout=NO_LIMIT,
    )


def connect(hardware: Hardware) -> None:
    """Connect several processes for torch and accelerate, which otherwise takes each of them for a single one."""
    if count_processes() > 1:
        _connect(hardware.device)
        PartialState(cpu=hardware.device == "cpu")


def make_accelerator(spec: ComputeSpec) -> Accelerator:
    """An `Accelerator` for the planned device and precision, with deterministic arithmetic."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if count_processes() == 1:  # accelerate keeps one state a process and would refuse a second run's precision
        AcceleratorState._reset_state(reset_partial_state=True)
    else:
        _connect(spec.device)
        _leave_group_at_end()
    on_cpu = spec.device == "cpu"
    if on_cpu:
        torch.set_num_threads(spec.n_threads)
        # Free on a CPU, except for filling new tensors; without it embedding gradients are summed in any order.
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    else:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("high")
    return Accelerator(cpu=on_cpu, mixed_precision="no" if spec.precision == "fp32" else spec.precision)


@cache
def _leave_group_at_end() -> None:
    """Otherwise gloo's threads sometimes abort a process that is done, and torchrun then ends the others."""
    atexit.register(lambda: distributed.is_initialized() and distributed.destroy_process_group())


def all_reduce_max(accelerator: Accelerator, *values: float) -> list[float]:
    """The maximum of each value over all processes, so that all of them do the same."""
    if accelerator.num_processes == 1:
        return list(values)
    gathered = accelerator.gather(torch.tensor([values], device=accelerator.device))
    return [float(value) for value in gathered.max(dim=0).values]


def gather_random_state(accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """The random state of all processes, for a checkpoint; "cpu:1" is the second one's "cpu". All have to call it."""
    everywhere = gather_object([pack_random_state(accelerator.device)])
    numbered = ((rank, name, state) for rank, states in enumerate(everywhere) for name, state in states.items())
    return {f"{name}:{rank}" if rank else name: state for rank, name, state in numbered}


def main_process_first(hardware: Hardware) -> AbstractContextManager[Any]:
    """A context that the main process runs first, and then the others, which find the work done."""
    if count_processes() == 1:
        return nullcontext()
    connect(hardware)
    main_first: AbstractContextManager[Any] = PartialState().main_process_first()
    return main_first
