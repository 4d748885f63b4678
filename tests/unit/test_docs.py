"""Examples in the documents and in docstrings do what they say."""

from __future__ import annotations

import copy
import doctest
import importlib
import json
import re
import sys
import threading
import types
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import adapt.baselines
import adapt.heads
import adapt.inner
import tasks
from adapt.app import build
from adapt.app.components import COMPONENTS
from adapt.backbones import Conv4
from tests.conformance import head_tables, task_tables, test_heads, test_methods, test_sources
from tests.helpers import randomised, tensors_in

ROOT = Path(__file__).resolve().parents[2]
ADDING = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
EXAMPLE = "adding_a_method"  # the module that the blocks of that page are run as

#: Files with examples, found by reading: nothing is imported before its test runs.
MODULES = sorted(
    path
    for package in ("adapt", "tasks")
    for path in (ROOT / package).rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)
#: Examples that say themselves that they are not to be run, by module, and why that is right.
SKIPPED = {
    "adapt": 2,  # x and y are the reader's own; fit is run in the example of FewShotAdapter
    # These read files that need not be at hand; test_tasks_omniglot and others run the same where they are.
    "tasks.images.cifar": 3,
    "tasks.images.gtsrb": 1,
    "tasks.images.gtsrb_light": 1,
    "tasks.images.omniglot": 1,
    "tasks.images.omniglot_drawers": 1,
    "tasks.images.pneumonia": 1,
    "tasks.tables.german_credit": 1,
    "tasks.text.reviews": 1,
}


# ------------------------------------------------------------------------------------------ docstrings


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_examples_in_docstrings(path: Path) -> None:
    name = module_name(path)
    module = importlib.import_module(name)
    found = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    written = len(re.findall(r"^\s*>>> ", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert sum(len(test.examples) for test in found) == written, "an example is in no docstring"
    examples = [example for test in found for example in test.examples]
    assert sum(doctest.SKIP in example.options for example in examples) == SKIPPED.get(name, 0)
    report: list[str] = []
    runner = doctest.DocTestRunner()
    for test in found:
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


# ------------------------------------------------------------------------------------- adding a method


def blocks(language: str, text: str = ADDING) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def page() -> Any:
    """What the Python blocks of the page define, run in order as one module."""
    module = types.ModuleType(EXAMPLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, EXAMPLE, module)
        for block in blocks("python"):
            exec(compile(block, "docs/adding-a-method.md", "exec"), module.__dict__)
        for head, reference in module.REFERENCES.items():
            patch.setitem(head_tables.REFERENCES, head, reference)
        for package, kind in (
            ("adapt.heads", module.NearestMedian),
            ("adapt.inner", module.Steepest),
            ("adapt.baselines", module.NearestExample),
            ("tasks", module.Stripes),
        ):
            patch.setitem(COMPONENTS, f"{package}.{kind.__name__}", kind)
        yield module


def test_page_has_the_blocks_that_are_tested_here() -> None:
    assert len(blocks("python")) == 5
    assert len(blocks("yaml")) == 4


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.splitlines()[0])
def test_configs_of_the_page_fit_their_classes(block: str, page: Any) -> None:
    assert block.startswith("# ")
    build.check(yaml.safe_load(block), "docs")


HEAD_TESTS = {
    name: getattr(test_heads, name)
    for name in vars(test_heads)
    if re.match(r"test_(head|leave_one_out)_", name)
}


@pytest.mark.parametrize("name", HEAD_TESTS)
def test_head_of_the_page_is_conformant(name: str, page: Any) -> None:
    """Every conformance test of heads, in all its cases, on the row that the page adds."""
    test = HEAD_TESTS[name]
    row = head_tables.HeadRow(page.NearestMedian())
    cases: list[dict[str, Any]] = [{"row": row}]
    for mark in test.pytestmark:
        argument, values = mark.args
        if argument != "row":
            cases = [{**case, argument: value} for case in cases for value in values]
    for case in cases:
        test(**case)


def test_head_of_the_page_can_be_used(page: Any) -> None:
    adapter = adapt.load("conv4_glyphs_film").replace(head=page.NearestMedian())
    source = page.Stripes()
    rows = [*source.classes("support").values()]
    x = source.load(np.concatenate([rows[0][:5], rows[8][:5]]))
    task = adapter.fit(x, ["level"] * 5 + ["upright"] * 5)
    assert task.score(x, ["level"] * 5 + ["upright"] * 5) > 0.5


def test_source_of_the_page_is_conformant(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(task_tables.SOURCES, "stripes", lambda: page.Stripes(size=16))
    test_sources.test_source_keeps_its_contract("stripes")


def test_method_of_the_page_is_conformant(page: Any, source: tasks.ArraySource) -> None:
    method = page.NearestExample()
    test_methods.test_method_adapts_to_the_support_alone_and_keeps_its_promises(method, source)
    test_methods.test_method_predicts_each_query_alone(method, source)
    test_methods.test_method_adapts_to_a_single_shot(method, source)


# ----------------------------------------------------------------------------------------- other pages


def run_page(name: str, given: dict[str, Any], without: str | None = None) -> dict[str, Any]:
    """Run the Python blocks of a page in order, with ``given`` for what it leaves to the reader; those that
    hold ``without`` are of something that is not here."""
    for block in blocks("python", (ROOT / "docs" / name).read_text(encoding="utf-8")):
        if without is not None and without in block:
            continue
        exec(compile(block, f"docs/{name}", "exec"), given)
    return given


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory to write to; the number of threads is put back."""
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    torch.set_num_threads(threads)


def test_downstream(scratch: Path) -> None:
    source = tasks.Digits()
    rows = [*source.classes("support").values()]
    x, y = source.load(np.concatenate([rows[0][:5], rows[1][:5]])), ["zero"] * 5 + ["one"] * 5
    found = run_page("downstream.md", {"x": x, "y": y, "x_new": x, "y_new": y})
    assert found["task"].classes_.tolist() == ["one", "zero"]
    assert {path.name for path in (scratch / "my_task").iterdir()} == {
        "README.md",
        "adapter_config.json",
        tensors_in(scratch / "my_task").name,
    }


def test_experiments(scratch: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    given = {"my_network": network, "load_my_network": lambda width: copy.deepcopy(network)}
    found = run_page("experiments.md", given)
    x = np.random.default_rng(0).random((20, 1, 32, 32), dtype=np.float32)
    np.savez(scratch / "letters.npz", x=x, y=np.arange(20) % 2)
    source = found["letters"](str(scratch / "letters.npz"))
    episode = tasks.Distribution(source, 2, 3, 2, "support", "query").episode(0)
    task = found["adapter"].fit(episode.support_x, episode.support_y)
    assert task.predict(episode.query_x).shape == (4,)
    assert found["backbone"]()[1].input_shape == source.shape
    assert (scratch / "my_backbone" / "backbone.json").is_file()


def test_posterior(scratch: Path) -> None:
    episode = tasks.FunctionTasks(tasks.VehicleDynamics(), 40, 10, "test").episode(0)
    x, y, rest = episode.support_x, episode.support_y, episode.query_x
    given = {
        **{"x": x[:10], "y": y[:10], "new": rest, "pool": rest},
        **{"parts": [(x[10:20], y[10:20]), (x[20:30], y[20:30])], "later_x": x[30:], "later_y": y[30:]},
    }
    found = run_page("posterior.md", given)
    assert found["std"].shape == (10, 3) and len(set(found["rows"].tolist())) == 3
    assert found["doubt"].shape == (10,) and 0 <= found["surprise"].p_value <= 1
    joint = found["adapter"].fit(x[10:30], y[10:30])
    assert found["together"].z.numpy() == pytest.approx(joint.z.numpy(), abs=1e-4)


@pytest.mark.slow
def test_edge(scratch: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    source = tasks.Digits()
    rows = [*source.classes("support").values()]
    x, y = source.load(np.concatenate([rows[0][:5], rows[1][:5]])), ["zero"] * 5 + ["one"] * 5
    rest = source.load(np.concatenate([rows[0][5:25], rows[1][5:25]]))
    adapter = adapt.load("conv4_glyphs_film")
    given = {"adapter": adapter, "task": adapter.fit(x, y), "x": x, "y": y, "x_new": rest, "many_x": rest}
    given |= {"pixels": x.numpy(), "unlabelled": rest, "network": randomised(Conv4(width=8))}
    found = run_page("edge.md", given, without='path = "model.onnx"')
    assert found["labels"] == ["one", "zero"] and found["outputs"].shape == (10, 2)
    assert found["small"].score(rest, found["task"].predict(rest)) > 0.9
    assert (scratch / "small.onnx").stat().st_size < (scratch / "signs.onnx").stat().st_size / 4
    read = adapt.load(scratch / "small", given["network"])
    assert read.predict(rest).tolist() == found["small"].predict(rest).tolist()


def test_heads(scratch: Path) -> None:
    found = run_page("heads.md", {"x": torch.rand(4, 1, 32, 32), "y": [0, 1, 0, 1]})
    assert found["task"].adapter.head.power == 0.5


def my_task(number: int) -> tuple[torch.Tensor, list[str]]:
    """Three classes, told apart by two of six columns."""
    generator = torch.Generator().manual_seed(number)
    centers = torch.randn(3, 6, generator=generator) * torch.tensor([1, 1, 0.0, 0, 0, 0])
    rows = torch.arange(30) % 3
    x = centers[rows] + torch.randn(30, 6, generator=generator) * torch.tensor([0.2, 0.2, 1, 1, 1, 1])
    return x, [f"class {row}" for row in rows.tolist()]


def test_pure_python(scratch: Path) -> None:
    text = (ROOT / "docs" / "pure-python.md").read_text(encoding="utf-8")
    lines = [line for line in blocks("python", text)[0].splitlines() if line.strip()]
    assert len(lines) <= 25
    assert sum(line.startswith(("import ", "from ")) for line in lines) <= 4
    x, y = my_task(100)
    found = run_page("pure-python.md", {"my_task": my_task, "x": x[:15], "y": y[:15]})
    server = found["server"]
    try:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.server_port}", json.dumps(x.tolist()).encode()
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            answered = json.loads(reply.read())
        thread.join()
    finally:
        server.server_close()
    assert answered == found["task"].predict(x).tolist()
    assert np.mean(np.array(answered) == np.array(y)) > 0.6
    assert found["search"].best_params_["l2"] in (0.001, 0.01, 0.1)
