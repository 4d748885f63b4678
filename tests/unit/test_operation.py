"""A model in operation: whatever goes wrong on an alarm, requests are answered; it goes back once."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapt.app.serving import operation
from adapt.app.serving.operation import Operation
from adapt.drift import Monitor
from adapt.errors import AdaptError

ONE = torch.zeros(1, 1)


class Watching:
    """Whose every example is stranger than all before."""

    def __init__(self, answer: Any) -> None:
        if answer == "models:/m/1":
            raise AdaptError("it does not say what is usual")
        self.monitor, self.n = Monitor({"far": [float(i) for i in range(50)]}), 100.0

    def see(self, features: Any, outputs: Any) -> None:
        self.n += 1
        self.monitor.see({"far": self.n})


@pytest.fixture
def champions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The order of champions, of which the last is now; what is loaded is its name."""
    order = ["1", "2", "3"]
    registry = SimpleNamespace(name="m", version=lambda number: SimpleNamespace(number=number))

    def alarmed(model: str, found: Any, watched: Any, on_alarm: str) -> tuple[str, str | None]:
        if on_alarm != "rollback":
            return "Nothing was moved", None
        order.pop()
        return f"The champion is version {order[-1]} again", order[-1]

    monkeypatch.setattr(operation, "loaded", lambda name: name)
    monkeypatch.setattr(operation, "registered", lambda model: (registry, SimpleNamespace(number=order[-1])))
    monkeypatch.setattr(operation, "raise_alarm", alarmed)
    return order


def served(requests: int, make: Callable[[Any], Any] = Watching) -> tuple[Operation, list[Any]]:
    watched = Operation("models:/m@champion", make, "rollback")
    return watched, [watched.see(ONE, ONE) for _ in range(requests)]


def test_it_goes_back_once(champions: list[str]) -> None:
    watched, found = served(60)
    assert [one for one in found if one] == ["models:/m/2"] and champions == ["1", "2"]
    assert watched.state()["alarm"] and watched.state()["done"] == "Nothing was moved"


def test_the_champion_before_is_served_even_if_nothing_says_what_is_usual_of_it(champions: list[str]) -> None:
    champions.pop()
    watched, found = served(60)
    assert [one for one in found if one] == ["models:/m/1"] and champions == ["1"]
    assert watched.answer == "models:/m/1" and watched.state()["evidence"] == {}
    with pytest.raises(AdaptError, match="what is usual"):
        served(1)  # who begins with it is told


@pytest.mark.parametrize("error", [PermissionError("no"), KeyError("x"), AdaptError("MLflow is away")])
def test_what_goes_wrong_keeps_no_request_from_its_answer(
    error: Exception, champions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fails(*_: Any) -> None:
        calls.append(1)
        raise error

    monkeypatch.setattr(operation, "raise_alarm", fails)
    watched, found = served(60)
    assert found == [None] * 60 and len(calls) == 1
    assert "not all could be done" in watched.state()["done"] and watched.answer == "models:/m/3"
