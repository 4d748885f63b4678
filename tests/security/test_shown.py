"""What others wrote is shown to people, and does nothing there: on pages of Markdown, and on a terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import adapt
from adapt import FewShotAdapter
from adapt.compare.markdown import comparison_markdown
from adapt.tracking.record import comparison_operations
from tasks.audit.report import Finding, Report
from tasks.readers.shown import harmless, inline, plain
from tests.unit.test_compare_report import comparison, forward, head

EVIL = "<script>alert(1)</script>\n# big [x](javascript:y) ![z](http://t)|`\x1b]0;t\x07\u202e"
ACTS = ("<script", "<img", "](", "\x1b", "\x07", "\u202e")


def check(page: str) -> None:
    assert "&lt;script>" in page and not [found for found in ACTS if found in page]
    assert not [line for line in page.splitlines() if line.startswith("# big")]


def test_a_card_of_an_adapter(adapter: FewShotAdapter, support: Any, tmp_path: Path) -> None:
    data = {"name": EVIL, "description": EVIL, EVIL: EVIL, "known_issues": [EVIL], "commercial": False}
    info = {"title": EVIL, "licence": f"{EVIL}\nlicense: free", EVIL: EVIL, "more": {EVIL: [EVIL]}}
    x, y = support
    labels = [f"{EVIL}{label}" for label in y]
    adapter.replace(info={**info, "data_card": data}).fit(x, labels).save_pretrained(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    check(page)
    assert sum(line.startswith("license:") for line in page.splitlines()) == 1
    assert page.splitlines().count("---") == 2, "what begins the page is whole"
    loaded = adapt.load(tmp_path, adapter.backbone)
    assert loaded.classes_.tolist() == sorted({*labels}), "only what is shown"


def test_an_audit() -> None:
    card = {key: EVIL for key in ("description", "origin", "licence", "terms", "personal_data")}
    found = Finding("duplicates", "error", EVIL, 1, EVIL)
    numbers = {"classes": 1}
    report = Report(
        EVIL, "0", {**card, "known_issues": [EVIL]}, "texts", {EVIL: numbers}, (), (), 1, 1, (found,)
    )
    check(report.markdown())


def test_a_comparison() -> None:
    result = comparison(head(), forward(0.1))
    result = replace(result, experiment=EVIL, task={**result.task, "source": EVIL, EVIL: EVIL})
    check(comparison_markdown(result))


def test_a_description_in_mlflow(tmp_path: Path) -> None:
    found = comparison_operations(
        comparison(head(), forward(0.1)), files=[], note=EVIL, title=EVIL, tags={}, config={}, datasets=[]
    )
    notes = [o["tags"]["mlflow.note.content"] for o in found if "mlflow.note.content" in o.get("tags", {})]
    assert notes == [harmless(EVIL)] and not [text for text in ACTS if text in notes[0]]


def test_words_stay_as_they_are() -> None:
    for text in ("head_logistic", "method=[head,forward]", "p < 0.05", "a*b", "90 % ± 1", "x[0]", "é"):
        assert inline(text) == harmless(text) == plain(text) == text


def test_a_terminal_hides_nothing(capsys: Any) -> None:
    from rich.table import Table

    from adapt.app.commands.arguments import say_taken
    from adapt.app.progress import console

    taken = ["name='a\x1b[2K\x1b[1Ab'", "seed=1\rseed=2", "x=\x9b31m", "[red]x[/nothing]"]
    table = Table(title="[/b]")
    table.add_column("[link=file:///x]y[/link]")
    table.add_row("\x1b[2K")
    say_taken("going on with", taken)
    console.print(table)
    said = capsys.readouterr().out
    assert "[red]x[/nothing]" in said and "[/b]" in said and "[link=file:///x]" in said
    assert not {"\x1b", "\r", "\x9b"} & set(said) and "\N{REPLACEMENT CHARACTER}[2K" in said
