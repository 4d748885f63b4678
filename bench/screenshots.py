"""Pictures of the MLflow UI for ``docs/mlflow.md``: a real store, the real UI, a headless Chromium.

``python -m bench.screenshots [--store FOLDER]`` runs the quickstart with one shot and with five, which takes
minutes, in FOLDER if given, where a store that is there already is used as it stands. It then writes
``docs/figures/mlflow_*.png``. The steps through the UI are functions, so that
``tests/integration/test_mlflow_ui.py`` takes the same ones.
"""

import argparse
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import mlflow
from PIL import Image
from playwright.sync_api import Page, TimeoutError, expect, sync_playwright

from bench.lib.paths import ROOT

FIGURES = ROOT / "docs" / "figures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 180  # the longest wait for the server, and for anything on a page
#: Of the first plot of a page, as Plotly keeps it: x, y and text of every point.
POINTS = """() => {
    const points = document.querySelector(".js-plotly-plot").data[0];
    return points.x.map((x, i) => [x, points.y[i], points.text[i]]);
}"""
#: No usage statistics, and no background jobs, which nothing here starts.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
COLUMNS = ("eval/accuracy", "time/adapt_seconds", "compare/speedup_vs_retrain")
MORE_ROWS = "rows => document.querySelectorAll('.ag-row').length > rows"
#: Columns that MLflow shows by itself.
USUAL = ("Dataset", "Source", "Models")


def chromium() -> str | None:
    """The installed browser, or what the environment variable CHROMIUM names; None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


# ---------------------------------------------------------------------------------- server and browser


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """``mlflow ui`` on the store in ``folder``, on a free port of this machine only; its address.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", "sqlite:///mlflow.db"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            cwd=folder,
            env={**os.environ, **QUIET},
            stdout=log,
            stderr=log,
            start_new_session=True,  # its workers end with it
        )
        try:
            if not _answers(address, server):
                log.seek(0)
                raise RuntimeError(f"mlflow ui does not answer: {log.read().decode()[-2000:]}")
            yield address
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _answers(address: str, server: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


@contextmanager
def opened(width: int, height: int) -> Iterator[Page]:
    """A page of a headless browser that has seen MLflow before: no introduction is in the way.

    Raises:
        RuntimeError: no browser was found.
    """
    if (executable := chromium()) is None:
        raise RuntimeError(f"no browser: install one of {', '.join(BROWSERS)}, or set CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.add_init_script(
                "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
            )
            page.set_default_timeout(1000 * SECONDS)
            expect.set_options(timeout=1000 * SECONDS)
            yield page
        finally:
            browser.close()


# ------------------------------------------------------------------------------------------- the pages


def show_runs(page: Page, address: str, experiment: str, view: str = "TABLE") -> None:
    """The runs of an experiment (its id), as a table or, with ``view="CHART"``, as charts."""
    page.goto(
        f"{address}/#/experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode={view}"
    )
    page.locator(".ag-row").first.wait_for()
    page.get_by_role("button", name="Toggle sidebar").click()  # room for the table


def choose_columns(page: Page, names: Sequence[str]) -> None:
    """Tick metrics and parameters in the menu *Columns*, and untick what is there by itself."""
    page.get_by_role("button", name="Columns").click()
    for name in (*USUAL, *names):
        page.locator(".du-bois-light-tree-title").filter(has_text=re.compile(f"^{name}$")).click()
    page.keyboard.press("Escape")
    page.get_by_role("heading", name="Runs").click()


def unfold(page: Page, *parents: str) -> None:
    """Show the children of runs (their ids): more rows than before. A click into a table that is still being
    made has no effect, and is repeated."""
    deadline = time.monotonic() + SECONDS
    for parent in parents:
        button = page.locator(f"[row-id='{parent}'] button.du-bois-light-btn-icon-only").last
        button.wait_for()
        rows = page.locator(".ag-row").count()
        while True:
            button.click()
            try:
                page.wait_for_function(MORE_ROWS, arg=rows, timeout=20_000)
                break
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise


def cell(page: Page, run: str, column: str) -> str:
    """What the table says of a run (its id)."""
    return page.locator(f"[row-id='{run}'] [col-id*='{column}']").inner_text()


def compare(page: Page, runs: Sequence[str]) -> None:
    """Tick runs (their ids) in the table, and press *Compare*."""
    for run in runs:
        page.locator(f"[row-id='{run}'] .ag-selection-checkbox input").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text(f"Comparing {len(runs)} Runs").wait_for()


def scatter(page: Page, x: str, y: str) -> tuple[list[str], dict[str, tuple[float, float]]]:
    """On the page that compares: one metric against another; what is written at the axes, and where the
    points are, by the name that each shows when it is pointed at."""
    page.get_by_role("tab", name="Scatter Plot").click()
    page.get_by_text("X-axis:").wait_for()
    for index, name in enumerate((x, y)):
        page.get_by_role("combobox").filter(visible=True).nth(index).click()
        page.get_by_role("option", name=name, exact=True).click()
    axes = [page.locator(f".{axis}title").first.text_content() or "" for axis in "xy"]
    drawn = page.evaluate(POINTS)
    return axes, {text.split("</b>")[0].removeprefix("<b>"): (a, b) for a, b, text in drawn}


def bars(page: Page, metrics: Sequence[str], runs: int) -> list[str]:
    """Among the charts: those of some metrics, each with one bar for every run; the numbers on the bars."""
    page.get_by_placeholder("Search metric charts").fill("|".join(f"^{name}$" for name in metrics))
    expect(page.get_by_test_id("experiment-view-compare-runs-card")).to_have_count(len(metrics))
    expect(page.locator(".bartext")).to_have_count(len(metrics) * runs)
    return page.locator(".bartext").all_text_contents()


def show_artifact(page: Page, address: str, experiment: str, run: str, folder: str, name: str) -> None:
    """A picture in a folder of a run's artifacts, as a reader finds it: *Artifacts*, the folder, the file."""
    page.goto(f"{address}/#/experiments/{experiment}/runs/{run}/artifacts?workflowType=machine_learning")
    page.get_by_text(folder, exact=True).click()
    page.get_by_text(name, exact=True).click()
    page.locator(f"img[alt='{folder}/{name}']").wait_for()


# ---------------------------------------------------------------------------------------- the pictures


def save(page: Page, name: str) -> None:
    """What is visible, in few colours: a small file."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(1000)  # what moves has come to rest
    path = FIGURES / f"{name}.png"
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--store", type=Path, help="folder of the runs; default: one that is made and deleted"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.store or Path(scratch) / "adaptive-behavior"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "mlflow.db").exists():
            command = [sys.executable, "-m", "adapt", "experiment=quickstart"]
            for shots in (1, 5):
                subprocess.run([*command, f"task.shots={shots}"], cwd=folder, check=True)
        with served(folder) as address:
            experiment, parents = comparisons(address)
            picture(address, experiment, parents)


def comparisons(address: str, name: str = "quickstart") -> tuple[str, list[str]]:
    """The id of an experiment, and those of its comparisons, the newest first."""
    client = mlflow.MlflowClient(address)
    found = client.get_experiment_by_name(name)
    assert found is not None, f"no experiment {name}"
    runs = client.search_runs([found.experiment_id], "tags.seed LIKE '%'")
    return found.experiment_id, [run.info.run_id for run in runs if "method" not in run.data.tags]


def picture(address: str, experiment: str, parents: Sequence[str]) -> None:
    """Write the three figures."""
    with opened(1330, 760) as page:
        show_runs(page, address, experiment)
        choose_columns(page, (*COLUMNS, "task.shots"))
        unfold(page, *parents)
        for edge in page.locator(".ag-header-cell-resize").filter(visible=True).all():
            edge.dblclick(force=True)  # as wide as what is in it
        page.evaluate(
            "document.querySelectorAll('.ag-header-viewport, .ag-center-cols-viewport')"
            ".forEach(part => part.scrollLeft = 0)"
        )
        save(page, "mlflow_runs")
    with opened(1250, 1070) as page:
        show_runs(page, address, experiment, "CHART")
        unfold(page, parents[0])
        bars(page, ("eval/accuracy", "time/adapt_seconds"), 7)
        save(page, "mlflow_compare")
    with opened(1100, 720) as page:
        show_artifact(page, address, experiment, parents[0], "figures", "accuracy_against_seconds.png")
        page.get_by_role("button", name="Toggle sidebar").click()
        page.get_by_text("Path:").evaluate("line => line.style.visibility = 'hidden'")  # of this machine
        save(page, "mlflow_figure")


if __name__ == "__main__":
    main()
