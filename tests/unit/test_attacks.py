"""Queries changed so that they hurt, beside foolbox."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import adapt
from adapt.backbones import call
from adapt.compare.attacks import attacked, dlr
from adapt.errors import AdaptError
from tasks import Digits, Distribution

RADIUS = 8 / 255


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, Tensor, Tensor]:
    """A task of five digits as one module, its queries and their labels."""
    adapter = adapt.load("conv4_glyphs_film")
    tasks = Distribution(Digits(), 5, 5, 10, support_split="support", query_split="query")
    episode = tasks.episode(0)
    task = adapter.fit(episode.support_x, episode.support_y)

    class Whole(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return task.adapter.head.logits(task.head_state, call(adapter.backbone, task.parameters, x))

    return Whole().eval(), episode.query_x, episode.query_y


def test_it_is_as_strong_as_foolbox(network: tuple[nn.Module, Tensor, Tensor]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports what scipy has moved
        import foolbox

    outputs, x, y = network
    attack = foolbox.attacks.LinfPGD(rel_stepsize=2.5 / 20, steps=20, random_start=False)
    wrapped = foolbox.PyTorchModel(outputs, bounds=(0, 1))
    _, _, theirs = attack(wrapped, x, y, epsilons=RADIUS)
    one_start = attacked(outputs, x, y, RADIUS, steps=20, starts=1)
    ours = outputs(one_start).argmax(1) != y
    # The same steps from the same place, and then those of another loss.
    assert bool((ours | ~theirs).all()) and float(ours.double().mean()) > 0.2
    both = outputs(attacked(outputs, x, y, RADIUS, steps=20)).argmax(1) != y
    assert bool((both | ~ours).all())


def test_what_is_changed_stays_near(network: tuple[nn.Module, Tensor, Tensor]) -> None:
    outputs, x, y = network
    found = attacked(outputs, x, y, RADIUS, steps=3)
    assert (
        float((found - x).abs().max()) <= RADIUS + 1e-6 and 0 <= float(found.min()) <= float(found.max()) <= 1
    )
    wrong = outputs(x).argmax(1) != y
    assert torch.equal(found[wrong], x[wrong])  # there is nothing to do
    assert torch.equal(found, attacked(outputs, x, y, RADIUS, steps=3))


def test_the_difference_of_logits_ratio() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0, -2.0]])
    assert float(dlr(logits, torch.tensor([0]))) == pytest.approx(-(3 - 1) / (3 - 0))
    assert float(dlr(logits, torch.tensor([1]))) == pytest.approx(-(1 - 3) / (3 - 0))
    assert float(dlr(10 * logits, torch.tensor([1]))) == pytest.approx(-(1 - 3) / (3 - 0))
    assert float(dlr(logits[:, :2], torch.tensor([1]))) == pytest.approx(2.0)


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(AdaptError, match="radius"):
        attacked(lambda x: x, torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), 0.0)
