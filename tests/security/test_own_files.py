"""Files of a folder of configs, and of runs, that somebody damaged: one line that names the file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hydra")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapt.app.commands import list as listing
from adapt.app.commands.tune import _called as called
from adapt.app.commands.tune import tune
from adapt.app.compose import compose_run
from adapt.app.stages.state import STATE, SWEEP, State, read_sweep
from adapt.errors import AdaptError
from adapt.files import write_json
from adapt.tracking.journal import JOURNAL, Journal
from adapt.tracking.replay import Player
from adapt.tracking.sync import sync
from adapt.tracking.written import operation_of
from tests.tracked import HEADER

FEW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

#: What a file of configs holds, and what is said of it.
FILES: dict[str, tuple[bytes, str]] = {
    "a bracket that nobody closed": (b"l2: [1", r"is not valid YAML \(line 1: .*\): mend it"),
    "a tab": (b"# A head.\nhead:\n\t- 1\n", r"is not valid YAML \(line 3: .* cannot start any token\)"),
    "a key twice": (b"a: 1\na: 2\n", "is not valid YAML .*duplicate key a"),
    "a tag of Python": (
        b"a: !!python/object/apply:os.getcwd []\n",
        "is not valid YAML .*could not determine",
    ),
    "Latin-1": ("# Köpfe.\n".encode("latin-1"), "is no text in UTF-8 .*: save it as UTF-8"),
    "no text": (bytes(range(128, 256)), "is no text in UTF-8"),
    "a control character": (b"a: \x01\n", "is not valid YAML"),
    "too deep": (b"[" * 5000, "is nested too deeply"),
}


@pytest.mark.parametrize(("content", "said"), FILES.values(), ids=FILES.keys())
def test_a_config_that_cannot_be_read_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "mine.yaml").write_bytes(content)
    with pytest.raises(AdaptError, match=rf"head/mine\.yaml {said}") as refusal:
        compose_run(["head=mine"], tmp_path)
    assert "\n" not in str(refusal.value)


def test_the_file_that_a_command_begins_with_is_one_of_them(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nname: [", encoding="utf-8")
    with pytest.raises(AdaptError, match="line 2"):
        tune(["experiment=mine", "hparams_search=methods"], folder=tmp_path / "s", config_dir=tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are files of Unix")
def test_listing_waits_for_nobody(tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    os.mkfifo(tmp_path / "head" / "pipe.yaml")
    with pytest.raises(AdaptError, match=r"pipe\.yaml cannot be read .*named pipe"):
        listing.main(["head", "--config-dir", str(tmp_path)])


OTHER = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3)
ANYTHING = OTHER | st.lists(OTHER, max_size=2) | st.dictionaries(st.text(max_size=2), OTHER, max_size=2)


@FEW
@given(key=st.sampled_from([*State.__dataclass_fields__, "other"]), value=ANYTHING)
def test_the_state_of_a_run_is_of_its_types_or_refused(key: str, value: Any, tmp_path: Path) -> None:
    write_json(tmp_path / STATE, {"status": "running", "overrides": ["seed=1"], key: value})
    try:
        state = State.read(tmp_path)
    except AdaptError as error:
        assert STATE in str(error)
        return
    assert state is not None and isinstance(state.status, str)
    assert all(isinstance(text, str) for text in state.overrides)
    assert isinstance(state.config, dict | None) and isinstance(state.run_id, str | None)


@pytest.mark.parametrize("key", ["id", "run_id", "swept", "status"])
@pytest.mark.parametrize("value", [7, [7], None, "absent"])
def test_what_is_noted_of_a_sweep_is_checked(key: str, value: Any, tmp_path: Path) -> None:
    whole = {"id": "a", "run_id": "b", "status": "running", "swept": {"seed": "0,1"}}
    write_json(tmp_path / SWEEP, whole)
    assert read_sweep(tmp_path, *whole) == whole
    write_json(
        tmp_path / SWEEP,
        {k: v for k, v in whole.items() if k != key} if value == "absent" else whole | {key: value},
    )
    if (key, value) == ("run_id", None):
        assert read_sweep(tmp_path, *whole)["run_id"] is None
        return
    with pytest.raises(AdaptError, match=rf"{SWEEP} (holds a \w+ for|lacks) '{key}'.*: start anew|damaged"):
        read_sweep(tmp_path, *whole)


@pytest.mark.parametrize("found", [{"overrides": 3}, {"overrides": [3]}, {"config_dir": []}, {}])
def test_what_was_typed_for_a_search_is_checked(found: dict[str, Any], tmp_path: Path) -> None:
    write_json(tmp_path / "tune.json", {"overrides": [], "config_dir": None} | found if found else {})
    with pytest.raises(AdaptError, match=r"tune\.json (holds a|lacks)"):
        tune([], folder=tmp_path)


def test_searches_of_one_name_have_studies_of_their_own(tmp_path: Path) -> None:
    """In a storage that they share; those of earlier versions were called as their folder."""
    one, other = tmp_path / "a" / "search", tmp_path / "b" / "search"
    assert called(one) != called(other)
    write_json(one / "tune.json", {"overrides": [], "config_dir": None, "studies": "search-12345678"})
    assert called(one.rename(tmp_path / "moved")) == "search-12345678"
    write_json(other / "tune.json", {"overrides": [], "config_dir": None})
    assert called(other) == "search"


@FEW
@given(
    do=st.sampled_from(["open", "child", "metrics", "params", "tags", "inputs", "text", "files", "end", "x"]),
    more=st.dictionaries(
        st.sampled_from(["run", "points", "tags", "paths", "status", "time", "name"]), ANYTHING
    ),
)
def test_a_line_of_a_journal_is_whole_or_damaged(do: str, more: dict[str, Any], tmp_path: Path) -> None:
    found = operation_of(json.dumps({"do": do, "run": "", **more}).encode())
    assert isinstance(found["run"], str)
    assert all(isinstance(point, list) for point in found.get("points", ()))
    assert isinstance(found.get("tags", {}), dict) and isinstance(found.get("status", ""), str)


@pytest.mark.parametrize(
    "line", [b"3", b"[]", b'{"do": "end"}', b'{"do": "open", "run": "", "uri": 3}', b"[" * 9999, b"\xff"]
)
def test_a_journal_that_begins_otherwise_is_named(line: bytes, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    Journal.start(tmp_path, HEADER).close()
    (tmp_path / "tracking" / JOURNAL).write_bytes(line + b"\n")
    assert [*sync([tmp_path]).remaining.values()] == [
        f"{tmp_path / 'tracking' / JOURNAL} is damaged: its first line cannot be read"
    ]


@pytest.mark.parametrize(
    "state", [{"position": "9"}, {"position": -1}, {"runs": []}, {"runs": {"": 3}}, {"marks": [[]]}, []]
)
def test_a_state_that_says_nothing_is_taken_for_none(state: Any, tmp_path: Path) -> None:
    journal = Journal.start(tmp_path, HEADER)
    journal.append({"do": "tags", "run": "", "tags": {}})
    journal.close()
    (tmp_path / "tracking" / "state.json").write_text(json.dumps(state), encoding="utf-8")
    again = Journal.found(tmp_path / "tracking")
    assert again is not None and again.state["position"] == 0 and again.state["look"]
    assert Player(again).run_id is None
    again.close()
