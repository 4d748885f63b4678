"""Peak memory of the process against tensors of known size; what measuring does not load."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adapt.compare import measure
from adapt.compare.measure import ProcessPeak
from tests import processes

LINUX = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="proc(5), and a heap of glibc")
PIECE = 100_000  # bytes; small enough for the heap, which keeps what is freed below something still used


def hold(megabytes: float) -> list[torch.Tensor]:
    return [torch.ones(PIECE // 4) for _ in range(int(megabytes * 1e6 / PIECE))]


def peak(work: Callable[[], object]) -> float | None:
    with ProcessPeak() as found:
        work()
    return found.megabytes


@pytest.fixture(params=["kernel", "sampled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to see a peak, whatever this system offers."""
    if request.param == "sampled":
        pytest.importorskip("psutil")
        monkeypatch.setattr(measure, "_kernel_peak", lambda: None)
    elif not measure.RESET.exists():
        pytest.skip("the system keeps no peak that can be reset")
    return str(request.param)


#: In a process of its own, and several times: what other tests left for the garbage collector may go at any
#: time, the system takes back pages that are not used, and the first time code is loaded, too.
PASSED = """
import sys, torch
from adapt.compare import measure

def work():
    large = torch.ones(15_000_000)  # 60 MB, and 20 MB while they are there
    small = torch.ones(5_000_000)
    del large, small

if sys.argv[1] == "sampled":
    measure._kernel_peak = lambda: None
for do in (*7 * [work], lambda: None):
    with measure.ProcessPeak() as found:
        do()
    print(found.megabytes)
"""


def test_a_peak_is_seen_though_it_has_passed(way: str, tmp_path: Path) -> None:
    done = processes.run(["-c", PASSED, way], tmp_path)
    assert done.returncode == 0, done.stderr
    *busy, idle = map(float, done.stdout.split())
    assert median(busy) == pytest.approx(80, abs=4)
    assert idle == pytest.approx(0, abs=2)


@LINUX
def test_memory_that_was_freed_before_does_not_hide_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe() -> float | None:
        earlier = hold(40)
        above = torch.ones(PIECE // 4)  # the heap cannot shrink below this one
        del earlier
        found = peak(lambda: hold(30))
        del above
        return found

    assert probe() == pytest.approx(30, abs=3)
    monkeypatch.setattr(measure, "_give_back_freed_memory", lambda: None)
    assert probe() == pytest.approx(0, abs=3)  # what it would be otherwise


def test_what_stays_counts_once(way: str) -> None:
    kept: list[torch.Tensor] = []
    assert peak(lambda: kept.extend(hold(20))) == pytest.approx(20, abs=3)
    assert peak(lambda: None) == pytest.approx(0, abs=2)


def test_without_a_way_to_look_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_kernel_peak", lambda: None)
    monkeypatch.setitem(sys.modules, "psutil", None)  # importing it fails
    assert peak(lambda: hold(5)) is None


def test_a_system_that_does_not_let_the_peak_be_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "RESET", measure.RESET.parent / "no such file" / "there")
    assert measure._kernel_peak() is None


def test_a_failure_inside_is_not_swallowed(way: str) -> None:
    with pytest.raises(ZeroDivisionError):
        peak(lambda: 1 / 0)


@pytest.mark.parametrize("inference", [False, True])
def test_operations_are_those_that_torch_counts(inference: bool) -> None:
    convolution, x = torch.nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    attended = torch.randn(2, 2, 5, 4)

    def work() -> None:
        torch.nn.functional.linear(convolution(x).flatten(2), torch.randn(7, 36), torch.randn(7))
        torch.nn.functional.scaled_dot_product_attention(attended, attended, attended)
        torch.einsum("nchw,dc->ndhw", x, torch.randn(5, 3))
        if not inference:
            torch.func.vmap(torch.func.grad(lambda w: (w @ w.T).sum()))(torch.randn(3, 4, 4))
            torch.func.jvp(lambda w: w @ w, (torch.ones(4, 4),), (torch.ones(4, 4),))
            convolution(x).sum().backward()

    with torch.inference_mode(inference), FlopCounterMode(display=False) as counter:
        work()
    with torch.inference_mode(inference):
        assert measure.count_flops(work) == counter.get_total_flops() > 0


def test_counting_waits_for_no_compiler_and_digits_for_no_scikit_learn() -> None:
    code = """
import sys, torch
from adapt.compare.measure import count_flops, peak_megabytes
from tasks import Digits
Digits()
assert count_flops(lambda: torch.ones(2, 3) @ torch.ones(3, 4)) == 2 * 2 * 3 * 4
assert peak_megabytes(lambda: torch.ones(1000, 250), torch.device("cpu")) == 1
print(*{"sklearn", "torch._dynamo", "torch._inductor"} & {*sys.modules})
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not said.split()
