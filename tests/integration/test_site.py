"""The documentation as a site: every link leads somewhere, every package has a page."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
ROOT = Path(__file__).parents[2]


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(site)],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_site_is_built(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Few-shot" in (tmp_path / "index.html").read_text(encoding="utf-8")
    reference = (tmp_path / "reference" / "adapt.html").read_text(encoding="utf-8")
    assert "FewShotAdapter" in reference and "Examples" in reference
    assert (tmp_path / "source" / "adapt" / "drift" / "martingale.py.html").is_file()


def test_a_link_that_leads_nowhere_ends_the_build(tmp_path: Path) -> None:
    """Of a small copy, without the reference."""
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "docs" / "site", tmp_path / "docs" / "site")
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        (tmp_path / name).write_text("# It\n", encoding="utf-8")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    (tmp_path / "code.py").write_text("x = 1\n", encoding="utf-8")
    page = tmp_path / "docs" / "page.md"
    page.write_text("[fine](../code.py) [fine](changelog.md)\n", encoding="utf-8")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 0, done.stderr[-3000:]
    page.write_text("[no file](../cod.py) [no anchor](changelog.md#none)\n", encoding="utf-8")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1 and "cod.py" in done.stderr and "#none" in done.stderr
