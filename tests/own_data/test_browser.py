"""The page on a fit, and the page of a served model, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adapt
from bench import screenshots
from tests.served import served

sync_api = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with a name that is markup and one wrong label, a table, and models of both."""
    if screenshots.chromium() is None:
        pytest.skip("no Chromium found")
    root = tmp_path_factory.mktemp("browser")
    rng = np.random.default_rng(0)
    for name in ("lines", "<i>blank</i>".replace("/", "_")):
        (root / "pictures" / name).mkdir(parents=True)
        for n in range(6):
            image = np.full((40, 40), 250 + n, np.uint8)
            if name == "lines" or n == 5:
                image[rng.integers(40, size=8)] = 0
            Image.fromarray(image).save(root / "pictures" / name / f"{n}.png")
    adapt.fit_folder(root / "pictures", backbone="conv4_glyphs").save(root / "of_pictures")
    rows = [
        f"{label},{rng.normal(mean):.2f},{rng.normal():.2f}"
        for mean, label in ((0, "2"), (5, "10"))  # JavaScript has such keys in the order of numbers
        for _ in range(15)
    ]
    (root / "table.csv").write_text("\n".join(["label,x,other", *rows]), encoding="utf-8")
    adapt.fit_table(root / "table.csv", method="head").save(root / "of_table")
    odd = [
        f"{n},{rng.normal():.2f},{rng.normal(mean):.2f}" for mean, n in ((0, 2), (5, 10)) for _ in range(15)
    ]
    (root / "odd.csv").write_text("\n".join(["label,x,__proto__", *odd]), encoding="utf-8")
    adapt.fit_table(root / "odd.csv", method="head").save(root / "of_odd_names")
    return root


@pytest.fixture
def address(folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    with served(request.param, folder) as address:
        yield address


def test_the_page_on_a_fit(folder: Path) -> None:
    with screenshots.opened(1000, 1200) as page:
        problems: list[str] = []
        page.on("console", lambda said: problems.append(said.text))
        page.on("requestfailed", lambda asked: problems.append(asked.url))
        page.goto((folder / "of_pictures" / "report.html").as_uri())
        assert re.fullmatch(r"\d+\.\d % right", page.locator("#score").inner_text())
        assert page.locator("#confusion tr").count() == 3
        doubtful = page.locator("h2", has_text="Labels that look wrong").locator(
            "xpath=following-sibling::div[1]"
        )
        assert "5.png" in doubtful.inner_text() and "<i>blank<_i>" in doubtful.inner_text()
        shown = page.locator(".examples img").evaluate_all("pictures => pictures.map(p => p.naturalWidth)")
        assert shown and min(shown) > 0
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert problems == []


@pytest.mark.parametrize("address", ["of_table"], indirect=True)
def test_a_row_is_predicted_and_corrected(address: str) -> None:
    with screenshots.opened(900, 900) as page:
        problems: list[str] = []
        page.on("console", lambda said: problems.append(said.text))
        page.goto(address)
        page.fill("input[name=x]", "5")
        page.fill("input[name=other]", "0")
        page.click("text=Predict")
        page.wait_for_selector("#result .bar")
        before = page.locator("#result").inner_text()
        assert before.startswith("10 ")
        page.select_option("#label", "2")
        page.click("text=Correct it")
        sync_api.expect(page.locator("#learned")).to_have_text("learned (1)")
        sync_api.expect(page.locator("#result")).not_to_have_text(before, use_inner_text=True)
        assert problems == []
        page.fill("input[name=x]", "much")
        page.click("text=Predict")
        page.wait_for_selector("#error:visible")
        assert "no finite number" in page.locator("#error").inner_text()


@pytest.mark.parametrize("address", ["of_odd_names"], indirect=True)
def test_names_that_mean_something_to_a_script(address: str) -> None:
    """An object has a property ``__proto__`` of its own, and lists what is a number first."""
    with screenshots.opened(900, 900) as page:
        page.goto(address)
        page.fill("input[name=x]", "0")
        for value, label in (("5", "10 "), ("0", "2 ")):
            page.fill("input[name=__proto__]", value)
            page.click("text=Predict")
            sync_api.expect(page.locator("#result div").first).to_contain_text(label)


@pytest.mark.parametrize("address", ["of_pictures"], indirect=True)
def test_a_picture_is_chosen_and_predicted(folder: Path, address: str) -> None:
    with screenshots.opened(900, 900) as page:
        page.goto(address)
        page.wait_for_selector("#drop:visible")
        page.set_input_files("#file", folder / "pictures" / "lines" / "1.png")
        page.click("text=Predict")
        page.wait_for_selector("#result .bar")
        assert page.locator("#result").inner_text().startswith("lines ")
