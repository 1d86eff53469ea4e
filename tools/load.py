"""Load on the server, from many clients at once: its rate beside `write`, and hours at its limit, with some leaving.

python tools/load.py rate                   # 1, 8 and 64 clients in turns with one batch of eight texts
python tools/load.py soak --minutes 30      # half of the clients break off; ends with 1 where anything was wrong
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

PROMPT = "When the sun went down "
REQUESTS = 16
"""Different ones; all answers to the same one have to be equal."""
BY_CLOCK, BY_PROCESSOR = "by the clock", "of the server's processor time"
PATIENCE = 120.0
"""Seconds in which an answer has to end."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server in a process of its own."""

    pid: int
    port: int

    def read_memory(self) -> int:
        """Its resident memory in MB."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text("utf-8"))
        return int(found[1]) // 1024 if found else 0

    def read_processor(self) -> float:
        """Seconds of processor time of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def serving(*arguments: str) -> Iterator[ServerProcess]:
    """`epigone serve` on a free port, until the end of the block."""
    command = [sys.executable, "-m", "epigone", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = next(int(found[1]) for line in process.stdout if (found := re.search(r"serves at \S+:(\d+)", line)))
        yield ServerProcess(process.pid, port)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


# -- one request


@dataclass(slots=True)
class Answer:
    """What a client got."""

    status: int = 0
    text: str = ""
    n_tokens: int = 0
    ended: bool = False
    """Whether it came to its end: [DONE], or all of its body."""
    error: str = ""
    first_seconds: float = 0.0
    """Until the first of its text came."""
    received: bytes = b""
    """All of its body as it came, until it is parsed."""
    is_stream: bool = False


async def ask(port: int, *, give_up: float | None = None, **fields: object) -> Answer:
    """One request. `give_up`: seconds after which the client closes its connection."""
    answer = await receive(port, give_up=give_up, **fields)
    parse(answer)
    return answer


async def receive(port: int, *, give_up: float | None = None, **fields: object) -> Answer:
    """The answer to a request, not parsed."""
    body = json.dumps(fields).encode()
    begin, answer = time.perf_counter(), Answer()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE if give_up is None else give_up):
                await _read_answer(reader, answer, begin)
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        answer.error = type(error).__name__
    finally:
        writer.close()
    return answer


async def _read_answer(reader: asyncio.StreamReader, answer: Answer, begin: float) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    answer.status = int(head.split(b" ", 2)[1])
    received = []
    while data := await reader.read(1 << 16):
        answer.first_seconds = answer.first_seconds or time.perf_counter() - begin
        received.append(data)
    answer.received = b"".join(received)
    answer.is_stream = b"chunked" in head


def parse(answer: Answer) -> None:
    """Find an answer's text and how it ended in what was received, if all of it was."""
    received, answer.received = answer.received, b""
    if not received:
        return
    if answer.is_stream:
        received = _join_chunks(received)
        events = [event.removeprefix("data: ") for event in received.decode().split("\n\n") if event]
        answer.ended = events[-1:] == ["[DONE]"]
        found = [json.loads(event) for event in events if event != "[DONE]"]
    else:
        found = [json.loads(received)]
        answer.ended = True
    answer.error = str(next((one["error"]["message"] for one in found if "error" in one), ""))
    answer.text = "".join(choice["text"] for one in found for choice in one.get("choices", ()))
    answer.n_tokens = sum((one.get("usage") or {}).get("completion_tokens", 0) for one in found)


def _join_chunks(body: bytes) -> bytes:
    """The body of an answer in HTTP's chunks."""
    parts: list[bytes] = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        parts.append(body[:length])
        body = body[length + 2 :]
    return b"".join(parts)


# -- the rate


async def measure(port: int, n_clients: int, n_tokens: int, model: str) -> tuple[int, float, list[float]]:
    """Tokens, seconds, and the times until the first text came, of so many clients that begin together.

    What they parse of it is not the server's work, so that it comes after the end.
    """
    how: dict[str, Any] = {
        "prompt": PROMPT,
        "max_tokens": n_tokens,
        "stop_at": "anywhere",
        "ignore_eos": True,
        "model": model,
    }
    how |= {"stream": True, "stream_options": {"include_usage": True}}
    begin = time.perf_counter()
    answers = await asyncio.gather(*(receive(port, seed=number, **how) for number in range(n_clients)))
    seconds = time.perf_counter() - begin
    for answer in answers:
        parse(answer)
    assert all(answer.ended for answer in answers), [answer.error for answer in answers if not answer.ended]
    return sum(answer.n_tokens for answer in answers), seconds, [answer.first_seconds for answer in answers]


def open_writer(model: str) -> Callable[[int, int], tuple[int, float, float]]:
    """What writes eight texts in one batch, as `write` does, in this process: by their length and seed, tokens, seconds

    and seconds of processor time.
    """
    from epigone.serving.library import ModelLibrary
    from epigone.settings import WriteSettings

    library = ModelLibrary(Path("runs"))
    generator = library.load(library.find(model)).generator

    def write(n_tokens: int, seed: int) -> tuple[int, float, float]:
        how = WriteSettings(length=n_tokens, unit="tokens", stop_at="anywhere", count=8, seed=seed)
        seconds, processor = -time.perf_counter(), -time.process_time()
        generator.write(PROMPT, how)
        return 8 * n_tokens, seconds + time.perf_counter(), processor + time.process_time()

    return write


def show_rate(asked: argparse.Namespace) -> int:
    """Print the rates, in turns, and their medians."""
    rates: dict[str, list[float]] = {}
    firsts: dict[int, list[float]] = {}
    with serving() as server:
        write = open_writer(asked.model)
        write(8, 0)
        asyncio.run(measure(server.port, 1, 8, asked.model))
        for turn in range(asked.turns):
            n, seconds, processor = write(asked.tokens, turn)
            rates.setdefault("write, eight texts: by the clock", []).append(n / seconds)
            rates.setdefault("write, eight texts: of processor time", []).append(n / processor)
            for n_clients in asked.clients:
                before = server.read_processor()
                n, seconds, first = asyncio.run(measure(server.port, n_clients, asked.tokens, asked.model))
                used = max(0.01, server.read_processor() - before)
                rates.setdefault(f"{n_clients} clients: {BY_CLOCK}", []).append(n / seconds)
                rates.setdefault(f"{n_clients} clients: {BY_PROCESSOR}", []).append(n / used)
                firsts.setdefault(n_clients, []).extend(first)
    for name, values in rates.items():
        print(f"{name:52} {median(values):8,.0f} tokens a second ({min(values):,.0f} to {max(values):,.0f})")
    whole = median(rates["write, eight texts: by the clock"])
    for n_clients in asked.clients:
        clock, processor = (median(rates[f"{n_clients} clients: {how}"]) for how in (BY_CLOCK, BY_PROCESSOR))
        cores = clock / processor
        print(f"{n_clients} clients: {clock / whole:.0%} of write by the clock, with {cores:.1f} cores at work")
    for n_clients, values in firsts.items():
        last = sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]
        print(f"{n_clients} clients: first text after {1000 * median(values):.0f} ms, p99 {1000 * last:.0f} ms")
    return 0


# -- hours at the limit


@dataclass(slots=True)
class SoakResult:
    """What came of hours at the limit."""

    counts: Counter[str] = field(default_factory=Counter)
    known: dict[int, str] = field(default_factory=dict)
    """The first whole answer to each request."""
    errors: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    """In MB, at even distances."""
    n_open: int = 0
    """Requests that the server still counted when all clients had gone."""

    @property
    def growth(self) -> float:
        """MB by which the last quarter lies above the second."""
        quarter = max(1, len(self.memory) // 4)
        return median(self.memory[-quarter:]) - median(self.memory[quarter : 2 * quarter] or self.memory)

    @property
    def is_sound(self) -> bool:
        """Whether nothing was lost, mixed or left open, and no error was seen but 429."""
        return not (self.counts["mixed"] or self.counts["lost"] or self.errors or self.n_open)


def make_request(number: int, model: str) -> dict[str, Any]:
    """One of the requests: of different lengths, streamed and not, some with several texts."""
    return {
        "model": model,
        "prompt": PROMPT + "and " * (number % 5),
        "max_tokens": 20 + 12 * (number % 7),
        "seed": number,
        "stream": number % 3 != 0,
        "stop_at": ("anywhere", "sentence", "document")[number % 3],
        **({"logprobs": 3} if number % 4 == 0 else {}),
    }


async def soak(server: ServerProcess, *, minutes: float, n_clients: int, model: str, seed: int = 0) -> SoakResult:
    """So many clients, each of which asks again as soon as it has its answer, and leaves every second time."""
    result, ends = SoakResult(), time.monotonic() + 60 * minutes

    async def be_client(number: int) -> None:
        chance = random.Random(seed * 10_000 + number)
        while time.monotonic() < ends:
            which = chance.randrange(REQUESTS)
            give_up = chance.uniform(0.0, 1.5) if chance.random() < 0.5 else None
            answer = await ask(server.port, give_up=give_up, **make_request(which, model))
            _judge(result, which, answer, left=give_up is not None)
            if answer.status == 429:
                await asyncio.sleep(chance.uniform(0.05, 0.5))

    async def watch_memory() -> None:
        while time.monotonic() < ends:
            result.memory.append(server.read_memory())
            await asyncio.sleep(max(0.2, 60 * minutes / 200))

    await asyncio.gather(watch_memory(), *(be_client(number) for number in range(n_clients)))
    for _ in range(100):
        result.n_open = await _count_open(server.port)
        if not result.n_open:
            break
        await asyncio.sleep(0.1)
    return result


def _judge(result: SoakResult, which: int, answer: Answer, *, left: bool) -> None:
    if answer.status == 429:
        result.counts["429"] += 1
    elif answer.ended and answer.status == 200 and not answer.error:
        is_same = result.known.setdefault(which, answer.text) == answer.text
        result.counts["answered" if is_same else "mixed"] += 1
    elif left and answer.status in (0, 200):
        result.counts["broken off"] += 1
    elif answer.status == 200 and not answer.error:
        result.counts["lost"] += 1
    else:
        result.counts["errors"] += 1
        result.errors.append(f"{answer.status} {answer.error}"[:200])


async def _count_open(port: int) -> int:
    """Requests and texts that the server still has."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return sum(int(value) for value in re.findall(r"^epigone_(?:requests_open|texts_running) (\d+)$", text, re.M))


def show_soak(asked: argparse.Namespace) -> int:
    """Print what came of it; 1 where anything was wrong."""
    with serving("--queue", str(asked.queue)) as server:
        result = asyncio.run(soak(server, minutes=asked.minutes, n_clients=asked.clients[0], model=asked.model))
    for name, count in sorted(result.counts.items()):
        print(f"{name:12} {count:,}")
    memory = result.memory
    print(
        f"memory       {min(memory)} to {max(memory)} MB; the last quarter {result.growth:+.0f} MB against the second"
    )
    print(f"left open    {result.n_open}")
    for error, count in Counter(result.errors).most_common(10):
        print(f"  {count} x {error}")
    return 0 if result.is_sound else 1


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", help="a bundled base, or a run in runs/")
    kinds = parser.add_subparsers(required=True)
    rate = kinds.add_parser("rate")
    rate.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    rate.add_argument("--tokens", type=int, default=200)
    rate.add_argument("--turns", type=int, default=5)
    rate.set_defaults(show=show_rate)
    long = kinds.add_parser("soak")
    long.add_argument("--minutes", type=float, default=2.0)
    long.add_argument("--clients", type=int, nargs=1, default=[64])
    long.add_argument("--queue", type=int, default=48)
    long.set_defaults(show=show_soak)
    asked = parser.parse_args()
    return int(asked.show(asked))


if __name__ == "__main__":
    sys.exit(main())
