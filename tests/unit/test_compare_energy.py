"""Energy, emissions and price: counters against fake ones whose joules are known."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapt.compare import Electricity, meters
from adapt.compare.energy import Cost, mean_power
from adapt.compare.meters import Estimate, Meter, Nvml, Rapl, find_meter, processor_name, thermal_design_power
from adapt.errors import AdaptError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Fake:
    """A counter that runs at ``watts`` on a clock that ``work`` moves on."""

    def __init__(self, watts: float, shortest: float = 0.0, measured: bool = True) -> None:
        self.watts, self.shortest, self.measured, self.now = watts, shortest, measured, 7.0

    def joules(self) -> float:
        return 100 + self.watts * self.now

    def clock(self) -> float:
        return self.now

    def work(self, seconds: float = 0.008) -> None:
        self.now += seconds


# ------------------------------------------------------------------------------------------------- the price


def test_cost_in_closed_form() -> None:
    energy = Electricity(grid_g_per_kwh=300, pue=1.5, usd_per_kwh=0.2, usd_per_hour=36)
    found = energy.cost(watts=90.0, seconds=20.0)  # 1,800 J = 0.5 Wh; 0.75 Wh with the building
    assert found.energy_wh == pytest.approx(0.5)
    assert found.co2_g == pytest.approx(0.00075 * 300)
    assert found.usd == pytest.approx(0.00075 * 0.2 + 36 * 20 / 3600)


def test_what_is_not_known_stays_unknown() -> None:
    assert Electricity().cost(None, 20.0) == Cost(None, None, None)
    rented = Electricity(usd_per_kwh=0, usd_per_hour=3.6)
    assert rented.cost(None, 20.0).usd == pytest.approx(0.02)  # the rent includes electricity
    assert Electricity(usd_per_hour=3.6).cost(None, 20.0).usd is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"grid_g_per_kwh": -1}, "energy.grid_g_per_kwh=-1"),
        ({"usd_per_kwh": -0.1}, "energy.usd_per_kwh"),
        ({"usd_per_hour": -2}, "energy.usd_per_hour"),
        ({"pue": 0.9}, "energy.pue=0.9"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(AdaptError, match=said):
        Electricity(**wrong)


def test_every_option_of_the_group_is_built_and_names_its_sources() -> None:
    from omegaconf import OmegaConf

    from adapt.app.build import build
    from adapt.app.config import config_folder

    options = sorted((config_folder() / "energy").glob("*.yaml"))
    assert {"none", "world"} < {path.stem for path in options}
    for path in options:
        found: Any = build(OmegaConf.load(path), "energy", [])
        assert isinstance(found, Electricity)
        assert found.enabled == (path.stem != "none")
        if found.enabled:
            assert path.read_text().count("(") >= 2, f"{path} does not say where its numbers are from"


# ------------------------------------------------------------------------------------------------- the power


@pytest.mark.parametrize(("shortest", "runs"), [(0.0, 1), (0.008, 1), (0.1, 13), (2.0, 250)])
def test_mean_power_is_joules_over_seconds_of_a_stretch_that_is_long_enough(
    shortest: float, runs: int
) -> None:
    fake = Fake(watts=42.0, shortest=shortest)
    count = 0

    def work() -> None:
        nonlocal count
        count += 1
        fake.work(0.0080001)

    assert mean_power(work, Meter((fake,)), CPU, fake.clock) == pytest.approx(42.0)
    assert count == runs


def test_a_coarse_counter_is_off_by_at_most_one_tick() -> None:
    class Coarse(Fake):
        def joules(self) -> float:
            return self.watts * math.floor(self.now / 0.1) * 0.1

    fake = Coarse(watts=300.0, shortest=Nvml.shortest)
    fake.now = 0.0999  # the first tick comes at once
    assert mean_power(fake.work, Meter((fake,)), CPU, fake.clock) == pytest.approx(300.0, rel=0.1 / 2)


def test_parts_are_added_and_one_estimate_makes_all_an_estimate() -> None:
    gpu = Fake(300.0, shortest=2.0)
    cpu = Fake(50.0, shortest=0.1, measured=False)
    both = Meter((gpu, cpu))
    assert both.joules() == pytest.approx(200 + 350 * 7)
    assert both.shortest == 2.0
    assert both.source == "estimated"
    assert Meter((gpu,)).source == "measured"


def test_a_counter_that_stands_still_measures_nothing() -> None:
    fake = Fake(watts=0.0)
    assert mean_power(fake.work, Meter((fake,)), CPU, fake.clock) is None


# ---------------------------------------------------------------------------------------------- the counters


def zone(root: Path, name: str, kind: str, count: int, limit: int = 999) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for file, content in (("name", kind), ("energy_uj", count), ("max_energy_range_uj", limit)):
        (folder / file).write_text(f"{content}\n")
    return folder


def test_rapl_adds_up_packages_and_nothing_inside_or_around_them(tmp_path: Path) -> None:
    packages = [zone(tmp_path, f"intel-rapl:{i}", f"package-{i}", 100, 10**9) for i in range(2)]
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core", 0),  # part of package 0
        zone(tmp_path, "intel-rapl:2", "psys", 0),  # the whole machine, packages included
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0),  # package 0 by another way
    ]
    rapl = Rapl(tmp_path)
    for folder, count in [(packages[0], 3_000_100), (packages[1], 500_100), *((o, 777) for o in others)]:
        (folder / "energy_uj").write_text(str(count))
    assert rapl.joules() == pytest.approx(3.5)
    assert rapl.joules() == pytest.approx(3.5)  # nothing new
    assert rapl.measured


def test_rapl_starts_anew_at_its_limit(tmp_path: Path) -> None:
    """A counter of the values 0 … 999, read at 990, 5, 5, 4: it took 15, 0, and 999 steps."""
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 990)
    rapl = Rapl(tmp_path)
    seen = []
    for count in (5, 5, 4):
        (folder / "energy_uj").write_text(str(count))
        seen.append(round(rapl.joules() * 1e6))
    assert seen == [15, 15, 15 + 999]


@pytest.mark.parametrize("there", ["nothing", "no package", "unreadable"])
def test_where_processors_cannot_be_read_they_are_estimated(
    there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there == "no package":
        zone(tmp_path, "intel-rapl:0", "psys", 0)
    if there == "unreadable":  # as root: a folder in its place, since root may read any file
        folder = zone(tmp_path, "intel-rapl:0", "package-0", 0)
        (folder / "energy_uj").unlink()
        (folder / "energy_uj").mkdir()
    with pytest.raises(OSError):
        Rapl(tmp_path)
    monkeypatch.setattr(meters, "Rapl", lambda: Rapl(tmp_path))
    monkeypatch.setattr(meters, "thermal_design_power", lambda name: 65.0)
    meter = find_meter(CPU)
    assert meter is not None and meter.source == "estimated"
    assert "65 W at full load" in str(meter)


def test_the_estimate_charges_for_threads_that_this_process_keeps_busy() -> None:
    fake = SimpleNamespace(seconds=10.0)
    estimate = Estimate(watts=80.0, threads=4, clock=lambda: fake.seconds)
    before = estimate.joules()
    fake.seconds += 6.0  # three threads for two seconds
    assert estimate.joules() - before == pytest.approx(80.0 * 3 / 4 * 2)
    assert not estimate.measured


class FakeNvml:
    """One GPU; its counter holds millijoules."""

    class NVMLError(Exception):
        pass

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.millijoules, self.asked = fails, 5_000_000, ""

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.asked = uuid
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        assert handle == "handle"
        if self.fails:
            raise self.NVMLError("Not Supported")
        return self.millijoules


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's device 0, which NVML may count otherwise: the two agree on its UUID only."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-ab"))


def test_nvml_counts_millijoules_of_the_device_of_that_uuid(gpu: None) -> None:
    nvml = FakeNvml()
    counter = Nvml(CUDA, nvml)
    before = counter.joules()
    nvml.millijoules += 2_500
    assert counter.joules() - before == pytest.approx(2.5)
    assert nvml.asked == "GPU-12-ab"


def test_a_gpu_without_a_counter_leaves_energy_unknown(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processors alone would be far too little, and look like an answer."""
    with pytest.raises(RuntimeError, match="Not Supported"):
        Nvml(CUDA, FakeNvml(fails=True))
    monkeypatch.setattr(meters, "thermal_design_power", lambda name: 65.0)
    monkeypatch.setattr(meters, "Nvml", lambda device: Nvml(device, FakeNvml(fails=True)))
    assert find_meter(CUDA) is None
    monkeypatch.setattr(meters, "Nvml", lambda device: Nvml(device, FakeNvml()))
    found = find_meter(CUDA)
    assert found is not None and str(found).startswith("GPU measured (NVML), processors ")


# --------------------------------------------------------------------------------------------- the processor


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], float | None]:
    """codecarbon with a table of a few processors."""
    folder = tmp_path / "data" / "hardware"
    folder.mkdir(parents=True)
    known = "Intel Xeon E5-2690 v4,135\nAMD Ryzen 7 5700U,15\nAMD Ryzen 7,99\n6140,1\nOdd One,27.29.5\n"
    (folder / "cpu_power.csv").write_text(f"Name,TDP\n{known}")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(meters, "find_spec", lambda name: spec)
    monkeypatch.setattr(meters.os, "cpu_count", lambda: 6)
    return thermal_design_power.__wrapped__


@pytest.mark.parametrize(
    ("name", "watts"),
    [
        ("Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz", 135.0),
        ("AMD Ryzen 7 5700U with Radeon Graphics", 15.0),  # the longer of two known names
        ("AMD Ryzen 7 5800X 8-Core Processor", 99.0),
        ("Intel(R) Xeon(R) Gold 6140 CPU @ 2.30GHz", 24.0),  # a number alone says nothing
        ("Odd One", 24.0),
        ("AMD EPYC", 24.0),
        ("", 24.0),
    ],
)
def test_thermal_design_power(name: str, watts: float, table: Callable[[str], float | None]) -> None:
    assert table(name) == watts


def test_codecarbons_own_table_is_found() -> None:
    pytest.importorskip("codecarbon")
    assert thermal_design_power("AMD EPYC 7763 64-Core Processor") == 280.0


def test_the_processor_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(
        "processor\t: 0\nmodel name\t: A CPU @ 1GHz\n\nprocessor\t: 1\nmodel name\t: A CPU @ 1GHz\n"
    )
    monkeypatch.setattr(meters, "CPUINFO", file)
    assert processor_name() == "A CPU @ 1GHz"
    file.unlink()
    assert isinstance(processor_name(), str)


def test_without_codecarbon_there_is_no_estimate_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "Rapl", lambda: Rapl(tmp_path))
    monkeypatch.setattr(meters, "find_spec", lambda name: None)
    thermal_design_power.cache_clear()
    try:
        assert find_meter(CPU) is None
    finally:
        thermal_design_power.cache_clear()


def test_looking_for_a_meter_imports_prints_and_writes_nothing(tmp_path: Path) -> None:
    program = """
import socket, sys, torch
def refuse(*_):
    raise AssertionError("used the network")
socket.socket.connect = refuse
from adapt.compare.meters import find_meter
found = find_meter(torch.device("cpu"))
assert found is None or found.joules() >= 0
assert not {"codecarbon", "pandas", "psutil"} & set(sys.modules)
"""
    root = Path(meters.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
