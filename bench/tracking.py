"""What tracking costs: the same training with and without it, in turn.

``python -m bench.tracking [--quick]``. A conv4 learns five classes and records loss and accuracy after every
step, with system metrics every ten seconds: with tracking off, into a local store, and to a server that
refuses everything after a while. A piece is a whole run of half a minute.

``cost/processor`` is what the threads and the calls of tracking take of the processor while the work goes on,
added to what the work itself takes of it, in units of that: it does not depend on what else the machine does.
``cost/work`` is the seconds of the work divided by those without tracking in the same round. Opening and
closing a run take a time that does not depend on how long the run is, and are reported apart.
"""

import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from adapt.backbones import Conv4
from adapt.compare.statistics import mean_interval, ratio_interval
from adapt.memory import keep_freed_memory
from adapt.tracking import Run, TrackingSettings, prepare_store, track
from bench.lib.record import Row, options, report

DEPENDS = ("adapt/tracking",)
GOAL = 1.02
#: Seconds that the slow server takes for an answer.
DELAY = 1.0
ROUNDS, QUICK_ROUNDS = 5, 1
#: Seconds of work of a piece.
SECONDS, QUICK_SECONDS = 30.0, 0.2
OFF = "tracking off"
CALLS = 1000
THREADS = ("adapt-tracking", "adapt-system-metrics")


class Slow(BaseHTTPRequestHandler):
    """Answers that it is overloaded, after a while: what is sent is sent again and again."""

    def do_GET(self) -> None:
        time.sleep(DELAY)
        self.send_response(503)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *_: object) -> None:
        """Say nothing."""


@contextmanager
def slow_server() -> Iterator[str]:
    """Address of a server on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Training:
    """A network that learns, step by step."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(Conv4(channels=1, width=32), nn.LazyLinear(5))
        self.x, self.y = torch.rand(25, 1, 32, 32), torch.arange(25) % 5
        self.network(self.x)
        self.optimiser = torch.optim.Adam(self.network.parameters(), 1e-3)

    def work(self, run: Run, steps: int) -> None:
        """So many steps, each of them recorded."""
        for step in range(steps):
            self.optimiser.zero_grad()
            logits = self.network(self.x)
            loss = nn.functional.cross_entropy(logits, self.y)
            loss.backward()
            self.optimiser.step()
            accuracy = float((logits.argmax(-1) == self.y).double().mean())
            run.log_metrics({"train/loss": loss.item(), "train/accuracy": accuracy}, step=step)


def processor_seconds() -> float:
    """Of the threads of tracking, since they began."""
    found = [thread.ident for thread in threading.enumerate() if thread.name in THREADS]
    clocks = [time.pthread_getcpuclockid(ident) for ident in found if ident is not None]
    return sum(time.clock_gettime(clock) for clock in clocks)


def piece(training: Training, settings: TrackingSettings, folder: Path, steps: int) -> dict[str, float]:
    """Seconds of one run: opening, work, closing; and of the processor: for its work, for its tracking."""
    marks = [time.perf_counter()]
    not_taken = warnings.catch_warnings(record=True)  # by the overloaded server
    with not_taken, track(settings, "bench", folder=folder) as run:
        marks.append(time.perf_counter())
        processor = time.thread_time()
        training.work(run, steps)
        processor = time.thread_time() - processor
        tracking = processor_seconds()
        marks.append(time.perf_counter())
    marks.append(time.perf_counter())
    opening, work, closing = (after - before for before, after in pairwise(marks))
    return {"open": opening, "work": work, "processor": processor, "tracking": tracking, "close": closing}


def measure(folder: Path, uri: str, rounds: int, seconds: float) -> list[Row]:
    """All rows."""
    prepare_store(folder)
    ways = {
        OFF: TrackingSettings(enabled=False),
        "local store": TrackingSettings(root=str(folder)),
        "overloaded server": TrackingSettings(uri=uri, wait_seconds=0.1),
    }
    training = Training()
    first = [piece(training, way, folder / name / "first", 20)["work"] for name, way in ways.items()]
    steps = max(1, round(20 * seconds / first[0]))
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        order = list(ways)[number % 3 :] + list(ways)[: number % 3]  # nobody is always first
        for name in order:
            taken[name].append(piece(training, ways[name], folder / name / str(number), steps))
        told = ", ".join(f"{name} {pieces[-1]['work']:.2f} s" for name, pieces in taken.items())
        print(f"round {number + 1} of {rounds}: {told}", flush=True)
    call = calls(folder)
    rows = [Row.cost("local store", "time/log_metrics", 1e6 * call, "µs", n=CALLS)]
    for name in list(ways)[1:]:
        shares = [(one["tracking"] + steps * call) / (one["processor"] - steps * call) for one in taken[name]]
        share = mean_interval(shares)
        note = f"{steps} steps, each recorded"
        row = Row(name, "cost/processor", 1 + share.mean, "×", share.ci95, share.n, GOAL, False, note)
        rows.append(row)
        tracked, untracked = ([one["work"] for one in taken[way]] for way in (name, OFF))
        found = ratio_interval(tracked, untracked)
        note = found.between(".3f")
        rows.append(Row(name, "cost/work", found.ratio, "×", None, found.n, None, False, note))
        for part in ("open", "close"):
            value = statistics.median(one[part] for one in taken[name])
            rows.append(Row.cost(name, f"time/{part}", value, "s", n=rounds))
    value = statistics.median(one["work"] for one in taken[OFF])
    rows.append(Row.cost(OFF, "time/work", value, "s", n=rounds))
    return rows


def calls(folder: Path) -> float:
    """Seconds of the processor that recording two metrics takes the caller."""
    with track(TrackingSettings(root=str(folder)), "calls") as run:
        started = time.thread_time()
        for step in range(CALLS):
            run.log_metrics({"loss": 1.0, "accuracy": 0.5}, step=step)
        return (time.thread_time() - started) / CALLS


def main() -> None:
    arguments = options(__doc__).parse_args()
    keep_freed_memory()  # as ``python -m adapt`` does
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if arguments.quick else (ROUNDS, SECONDS)
    with tempfile.TemporaryDirectory() as folder, slow_server() as uri:
        rows = measure(Path(folder), uri, rounds, seconds)
    report("tracking", rows, arguments)


if __name__ == "__main__":
    main()
