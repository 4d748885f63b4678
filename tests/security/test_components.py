"""What a configuration can build: nothing that takes the name of code, imports it, spawns, or writes."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hydra")

import adapt
import tasks
from adapt.app.build import build, check
from adapt.app.components import COMPONENTS
from adapt.errors import AdaptError
from tests.processes import run

#: Calls that run code, or start a program. What is written is files of a source's own cache and reports.
RUNS = {
    "__import__", "compile", "eval", "exec", "execv", "fork", "import_module", "popen", "Popen", "run_module",
    "run_path", "spawn_main", "startfile", "system", "unpickle", "posix_spawn",
}  # fmt: skip
#: Functions of ours that import a library: always one that is named in the code.
IMPORTERS = {"require"}
OURS, LIBRARIES = ("adapt.", "tasks."), "adapt.backbones.libraries."


def reachable(component: Callable[..., Any]) -> Iterator[tuple[str, ast.AST]]:
    """The code of a component, and that of everything of ours that it mentions, and so on."""
    waiting, seen = [component], set[Any]()
    while waiting:
        part = inspect.unwrap(waiting.pop())
        if part in seen or not getattr(part, "__module__", "").startswith(OURS):
            continue
        seen.add(part)
        module = sys.modules[part.__module__]
        tree = ast.parse(textwrap.dedent(inspect.getsource(part)))
        yield f"{part.__module__}.{part.__qualname__}", tree
        for node in ast.walk(tree):
            name = node.id if isinstance(node, ast.Name) else None
            found = getattr(module, name, None) if name else None
            if inspect.isclass(found) or inspect.isfunction(found):
                waiting.append(found)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OURS):
                source = importlib.import_module(node.module or "")
                waiting += [f for a in node.names if callable(f := getattr(source, a.name, None))]


def called(node: ast.Call) -> str:
    function = node.func
    if not isinstance(function, ast.Attribute):
        return getattr(function, "id", "")
    return "" if function.attr in ("compile", "eval") else function.attr  # of an expression, of a network


@pytest.mark.parametrize("name", COMPONENTS)
def test_no_component_leads_to_code_by_name(name: str) -> None:
    for where, tree in reachable(COMPONENTS[name]):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            what = called(node)
            assert what not in RUNS or where.startswith(LIBRARIES), f"{where} calls {what}"
            if what in IMPORTERS and isinstance(node.func, ast.Name) and not where.startswith(LIBRARIES):
                ours = isinstance(node.args[0], ast.Constant) or "PACKAGES[" in ast.unparse(node.args[0])
                assert ours, f"{where} imports what it is told"


def names_of_code() -> None:
    """Give the canary's name to every setting of every component: nothing imports or runs it."""
    import inspect
    import sys
    from pathlib import Path

    from adapt.app.build import build
    from adapt.app.components import COMPONENTS

    Path("canary.py").write_text("open('sang', 'w').write('')\ndef run(*a, **k): pass\n", encoding="utf-8")
    audited = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class"}
    started = []
    sys.addaudithook(lambda event, args: started.append((event, args)) if event in audited else None)
    tried = 0
    for name, component in COMPONENTS.items():
        parameters = inspect.signature(component).parameters
        needed = {n: "canary.run" for n, p in parameters.items() if p.default is p.empty and p.kind in (1, 3)}
        for parameter in parameters:
            for value in ("canary.run", ["canary.run"]):
                tried += 1
                try:
                    build({"_target_": name, **needed, parameter: value}, "part")
                except Exception:
                    continue
    assert tried > 400 and not started, (tried, started)
    assert "canary" not in sys.modules and not Path("sang").exists()
    assert [path.name for path in Path().iterdir() if path.name != "__pycache__"] == ["canary.py"]


def test_names_of_code_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    code = textwrap.dedent(inspect.getsource(names_of_code)) + "\nnames_of_code()\n"
    done = run(["-c", code], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "target",
    [
        "tasks.audit.named.make_source",
        "tasks.audit.audit",
        "tasks.audit.__main__.main",
        "tasks.interop.from_hugging_face",
        "tasks.from_arrays",
        "tasks.readers.texts",
        "tasks.Card",
        "adapt.backbones.libraries.require",
        "adapt.backbones.require",
        "adapt.backbones.save_backbone",
        "adapt.adapter.export_peft",
        "adapt.adapter.load",
        "adapt.tracking.track",
        "adapt.tracking.prepare_store",
        "adapt.tracking.git.git_state",
        "adapt.app.main.main",
        "adapt.app.sweeps.callback.SweepSummary",
        "adapt.meta.meta_train",
        "adapt.compare.compare",
        "adapt.heads.HEADS.pop",
        "adapt.inner.Trace",
        " adapt.heads.Logistic",
        "adapt.heads.Logistic.fit",
        "adapt..heads.Logistic",
    ],
)
def test_what_is_no_component_is_refused(target: str) -> None:
    with pytest.raises(AdaptError, match=r"is not allowed: targets come from adapt"):
        check({"_target_": target}, "part")


def test_a_component_may_be_named_where_it_is_defined() -> None:
    assert build({"_target_": "adapt.heads.logistic.Logistic"}, "part") == adapt.heads.Logistic()
    assert isinstance(build({"_target_": "tasks.images.digits.Digits", "size": 8}, "part"), tasks.Digits)


def test_a_format_that_a_library_unpickles_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(tasks.TaskError, match="unpickle"):
        tasks.hugging_face("pandas", example="a", label="b")
