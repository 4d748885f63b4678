"""Methods that are watched: what they show is what they would be if they stopped there, and it costs them
nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from adapt.adapter import Context, FewShotAdapter, Forward, Method, Predictor, Support, initial_state
from adapt.adapter.method import Unfinished, Watch, no_pool
from adapt.baselines import Backprop, Finetune, HeadOnly, Higher, Learn2Learn
from adapt.forward.estimators import Exact
from adapt.heads import Direct, Logistic, Ridge
from adapt.inner import Descent, GaussNewton, Linearised, SquaredError
from adapt.spaces import full
from tasks import ArraySource, Distribution
from tests.helpers import distance, make_adapter, randomised, tiny_conv4

STEPS = 4
#: By steps.
STEPPING: dict[str, Callable[[int], Method]] = {
    "forward, descent": lambda steps: Forward(Descent("sgd", 0.5, steps, Exact()), Ridge()),
    "forward, Gauss-Newton": lambda steps: Forward(GaussNewton(steps, damping=0.1), Ridge()),
    "backprop": lambda steps: Backprop(Descent("adam", 0.05, steps), Ridge()),
    "backprop, subspace": lambda steps: Backprop(Descent("adam", 0.05, steps), Ridge(), subspace=True),
    "backprop, checkpointed": lambda steps: Backprop(Descent("sgd", 0.5, steps), Ridge(), checkpoint=True),
    "learn2learn": lambda steps: Learn2Learn(0.5, steps, Ridge()),
    "higher": lambda steps: Higher("adam", 0.02, steps, Ridge()),
    "finetune": lambda steps: Finetune(1e-3, steps),
}
METHODS = pytest.mark.parametrize("name", STEPPING)


def problem(source: ArraySource, shots: int = 3) -> tuple[Context, Support, Tensor]:
    tasks = Distribution(source, ways=3, shots=shots, queries=4, support_split="train")
    episode, backbone = tasks.episode(0), tiny_conv4()
    support = Support(episode.support_x, episode.support_y, episode.meta.classes)
    return Context(backbone, make_adapter(backbone), no_pool, 0), support, episode.query_x


def outputs(predictor: Predictor, query: Tensor) -> Tensor:
    with torch.no_grad():
        return predictor(query).clone()


def run(method: Method, task: tuple[Context, Support, Tensor], watch: Watch = lambda _: None) -> Tensor:
    context, support, query = task
    return outputs(method.prepare(context)(support, watch), query)


def looks(method: Method, task: tuple[Context, Support, Tensor]) -> tuple[list[Tensor], Tensor]:
    seen: list[Tensor] = []
    final = run(method, task, lambda predictor: seen.append(outputs(predictor, task[2])))
    return seen, final


@METHODS
def test_a_look_is_the_method_that_stops_there(name: str, source: ArraySource) -> None:
    task = problem(source)
    seen, final = looks(STEPPING[name](STEPS), task)
    if name == "finetune":  # also before the first step, with the fitted head
        assert distance(seen.pop(0), run(HeadOnly(Logistic()), task)) <= 1e-6
    assert len(seen) == STEPS - 1
    for steps, there in enumerate(seen, 1):
        assert distance(there, run(STEPPING[name](steps), task)) <= 1e-5
    moved = [distance(there, final) for there in seen]
    assert min(moved) > 1e-4, "the steps must differ for this test to see anything"


@METHODS
def test_looking_changes_no_bit_of_the_result_and_is_no_work_of_the_method(
    name: str, source: ArraySource
) -> None:
    """Work by the FLOPs outside the looks; predictors do theirs when used, not before."""
    task = problem(source)
    spent = 0

    def watch(predictor: Predictor) -> None:
        nonlocal spent
        before = watched.get_total_flops()  # by the same counter: another one would hook into the modules
        outputs(predictor, task[2])
        spent += watched.get_total_flops() - before

    with FlopCounterMode(display=False) as unwatched:
        final = run(STEPPING[name](STEPS), task)
    with FlopCounterMode(display=False) as watched:
        again = run(STEPPING[name](STEPS), task, watch)
    assert torch.equal(final, again)
    assert spent > 0
    assert watched.get_total_flops() - spent == unwatched.get_total_flops()


@METHODS
@pytest.mark.parametrize(("steps", "shots"), [(1, 3), (STEPS, 1)], ids=["one step", "one shot"])
def test_a_method_that_shows_itself_does_so_on_every_task(
    name: str, steps: int, shots: int, source: ArraySource
) -> None:
    """With a single example of a class most of them keep the start. (A single Gauss–Newton step is no method
    that shows itself.)"""
    seen, final = looks(STEPPING[name](steps), problem(source, shots))
    if name == "forward, Gauss-Newton" and steps == 1:
        assert not seen
        return
    assert seen
    if name != "finetune":
        assert torch.equal(seen[-1], final)


@pytest.mark.parametrize("method", [HeadOnly(Ridge()), Forward(Linearised(2))], ids=["head", "linearised"])
def test_methods_without_steps_in_between_show_nothing(method: Method, source: ArraySource) -> None:
    assert not looks(method, problem(source))[0]


def test_what_is_left_to_do_at_a_look_can_be_timed_apart(source: ArraySource) -> None:
    task, shown = problem(source), []

    def watch(predictor: Predictor) -> None:
        assert isinstance(predictor, Unfinished)
        finished = predictor.finish()
        with FlopCounterMode(display=False) as predicting:
            shown.append(outputs(finished, task[2]))
        shown.append(torch.tensor(predicting.get_total_flops()))
        assert torch.equal(shown[-2], outputs(predictor, task[2]))

    run(Backprop(Descent(steps=2), Ridge()), task, watch)
    with FlopCounterMode(display=False) as once:
        task[0].backbone(task[2])
    assert once.get_total_flops() <= shown[1] < 1.01 * once.get_total_flops(), "the head was fitted again"


def test_looks_of_a_regression() -> None:
    network = randomised(nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)))
    space = full(network)
    state = initial_state(space.initial + 0.1, torch.ones(space.size, 1))
    adapter = FewShotAdapter(network, space, state, head=Direct(), support_head=Direct(), loss=SquaredError())
    x = torch.linspace(-1, 1, 8)[:, None]
    task: Any = (Context(network, adapter, no_pool, 0), Support(x, x.sin(), ()), x)
    seen, _ = looks(Finetune(1e-2, 3), task)
    assert distance(seen[0], run(Backprop(Descent(steps=0), Direct()), task)) <= 1e-6
    for steps in (1, 2):
        assert distance(seen[steps], run(Finetune(1e-2, steps), task)) <= 1e-6
