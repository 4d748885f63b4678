"""The thread that sends, what errors mean to it, and the one that samples the machine."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from adapt.errors import AdaptError
from adapt.tracking import sender as sending
from adapt.tracking import trouble
from adapt.tracking.sender import Sender
from adapt.tracking.system import SystemMetrics


class Player:
    """Takes a second list of operations from the first, or raises what it was told to."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.taken: list[int] = []
        self.errors: list[Exception] = []
        self.calls = 0
        self.abandoned: str | None = None
        self.run_id: str | None = None
        self.go_on = threading.Event()
        self.go_on.set()
        self.journal = SimpleNamespace(close=lambda: None)

    def step(self) -> bool:
        self.calls += 1
        self.go_on.wait()
        if self.errors:
            raise self.errors.pop(0) if len(self.errors) > 1 else self.errors[0]
        self.journal.complete = len(self.taken) == len(self.waiting)
        if self.journal.complete:
            return False
        self.taken.append(self.waiting[len(self.taken)])
        self.run_id = "id"
        self.journal.complete = len(self.taken) == len(self.waiting)
        return True

    def abandon(self, problem: str) -> None:
        self.abandoned = problem


@pytest.fixture
def player() -> Player:
    player = Player()
    player.journal.complete = False
    return player


def started(player: Player) -> Sender:
    sender = Sender(player)  # type: ignore[arg-type]
    sender.start()
    return sender


def test_everything_that_was_appended_is_sent_before_close_returns(player: Player) -> None:
    sender = started(player)
    for number in range(100):
        player.waiting.append(number)
        sender.notify(urgent=number % 7 == 0)
    assert sender.close(30.0)
    assert (player.taken, sender.done) == (list(range(100)), True)


def test_metrics_wait_for_more_and_urgent_news_do_not(player: Player) -> None:
    sender = started(player)
    player.waiting.append(0)
    sender.notify(urgent=True)
    assert sender.wait_for_id(30.0) == "id"
    while sender._urgent:
        time.sleep(0.01)
    calls = player.calls
    for number in range(1, 50):
        player.waiting.append(number)
        sender.notify(urgent=False)
    time.sleep(0.1)
    assert player.calls == calls, "nothing is sent yet"
    player.waiting += range(50, 500)
    for _ in range(50, 600):
        sender.notify(urgent=False)
    deadline = time.monotonic() + 30
    while len(player.taken) < 500 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(player.taken) == 500, "so many do not wait for the end"
    assert sender.close(30.0)


def test_the_work_never_waits_for_a_call_that_does_not_return(player: Player) -> None:
    closed = []
    player.journal.close = lambda: closed.append(True)
    player.go_on.clear()
    sender = started(player)
    for number in range(10_000):
        player.waiting.append(number)
        sender.notify(urgent=True)
    assert sender.wait_for_id(0.01) is None
    assert not sender.close(0.05)
    assert (sender.done, closed) == (False, [])
    player.go_on.set()
    deadline = time.monotonic() + 30
    while not sender.done and time.monotonic() < deadline:
        time.sleep(0.01)
    assert closed == [True], "the thread closes what it had still used"
    assert len(player.taken) <= 1, "and sends no more"


def test_a_failure_is_tried_again_and_then_all_is_well(
    player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "FIRST_PAUSE", 0.01)
    player.waiting.append(0)
    player.errors = [OSError("full")]
    sender = started(player)
    assert sender.wait_for_id(30.0) is None, "it does not wait on while there is trouble"
    assert str(sender.failure) == "full"
    player.errors = []
    assert sender.close(30.0)
    assert sender.failure is None


def test_at_the_end_lasting_trouble_is_given_up_at_once_and_passing_trouble_is_waited_for(
    player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "LAST_PAUSE", 0.01)
    player.waiting.append(0)
    player.errors = [OSError("full")]
    sender = started(player)
    assert not sender.close(1e6)
    assert (player.abandoned, sender.done) == ("OSError: full", True)

    other = Player()
    other.journal.complete = False
    other.waiting.append(0)
    busy = sqlite3.OperationalError("database is locked")
    other.errors = [busy]
    sender = started(other)
    threading.Timer(0.2, other.errors.clear).start()
    assert sender.close(30.0)
    assert other.calls > 2


def test_a_pause_grows_to_a_limit(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "FIRST_PAUSE", 1.0)
    monkeypatch.setattr(sending, "LONGEST_PAUSE", 5.0)
    sender = Sender(player)  # type: ignore[arg-type]
    pauses = []
    for _ in range(4):
        assert sender._failed(OSError(), last=False)
        pauses.append(sender._pause)
    assert pauses == [1.0, 2.0, 4.0, 5.0]


class MlflowException(Exception):  # as MLflow's looks from here
    def __init__(self, message: str, error_code: str = "INTERNAL_ERROR") -> None:
        super().__init__(message)
        self.error_code = error_code


def answered(status: int) -> OSError:
    """As requests says that an artifact was not taken."""
    error = OSError(f"{status} error")
    error.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
    return error


class Timeout(Exception):  # as that of requests
    pass


@pytest.mark.parametrize(
    ("error", "refused", "passes"),
    [
        (MlflowException("changed", "INVALID_PARAMETER_VALUE"), True, False),
        (MlflowException("no such run", "RESOURCE_DOES_NOT_EXIST"), True, False),
        (MlflowException("who are you", "UNAUTHENTICATED"), False, False),
        (MlflowException("(sqlite3.OperationalError) database is locked"), False, True),
        (MlflowException("API request failed with error code 503"), False, True),
        (MlflowException("slow down", "REQUEST_LIMIT_EXCEEDED"), False, True),
        (
            MlflowException("API request to x failed with error code 404", "RESOURCE_DOES_NOT_EXIST"),
            False,
            False,
        ),
        (answered(413), True, False),
        (answered(502), False, True),
        (answered(403), False, False),
        (json.JSONDecodeError("a login page", "<html>", 0), False, False),
        (FileNotFoundError("figure.png"), True, False),
        (AdaptError("not an adapter"), True, False),
        (OSError("no space left on device"), False, False),
    ],
    ids=str,
)
def test_what_an_error_means(error: Exception, refused: bool, passes: bool) -> None:
    assert (trouble.refusal(error), trouble.passing(error)) == (refused, passes)
    assert not trouble.disconnected(error)


def test_no_answer_is_seen_through_what_mlflow_makes_of_it() -> None:
    try:
        try:
            raise Timeout("20 s")
        except Timeout:
            raise MlflowException("API request failed") from None
    except MlflowException as error:
        assert trouble.disconnected(error) and trouble.passing(error)
    assert len(trouble.text(MlflowException("x " * 1000))) <= 300


def test_system_metrics_have_the_names_that_the_ui_looks_for_and_stop() -> None:
    pytest.importorskip("psutil")
    pytest.importorskip("mlflow")
    found: list[tuple[dict[str, float], int]] = []
    twice = threading.Event()

    def record(values: Any, step: int) -> None:
        found.append((values, step))
        if len(found) > 1:
            twice.set()

    system = SystemMetrics(record, 0.02)
    system.start()
    assert twice.wait(60)
    system.stop()
    count = len(found)
    expected = {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"}
    expected |= {"system/disk_usage_percentage", "system/network_receive_megabytes"}
    assert all(expected <= set(values) for values, _ in found)
    assert all(0 <= values["system/cpu_utilization_percentage"] <= 100 for values, _ in found)
    steps = [step for _, step in found]
    assert steps == sorted({*steps})
    time.sleep(0.1)
    assert len(found) == count
