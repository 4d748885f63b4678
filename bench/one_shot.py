"""One shot: what views of the only example of a class are worth, to the head and to z.

``python -m bench.one_shot [names] [--quick] [--train]``. 5-way tasks with one example a class: characters of
alphabets that were in no training (Omniglot), things (CIFAR-FS) and road signs (GTSRB, 10-way). Every domain
has two adapters, meta-trained on five examples of a class, and on one with four views of it. What is used is
chosen on validation tasks; test tasks are looked at once. Adapters are kept in ``outputs/bench/one_shot``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from adapt.adapter import Context, FewShotAdapter, Forward, Method, Predictor, Support
from adapt.adapter.method import Adapt, Role, Watch
from adapt.backbones import load_backbone
from adapt.compare import Comparison
from adapt.inner import GaussNewton
from adapt.memory import keep_freed_memory
from adapt.meta import MetaTraining
from adapt.spaces import film
from bench.lib.choosing import HEAD, NESTED, adapter_of, compared
from bench.lib.domains import Domain, available, domain
from bench.lib.record import Row, folder_of, options, report
from bench.vision import tasks_of
from tasks import Distribution, WithViews, views_of

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/compare", "adapt/forward", "adapt/heads", "adapt/inner",
    "adapt/meta", "adapt/pretrained", "adapt/spaces", "bench/lib/choosing.py", "bench/lib/domains.py",
    "bench/lib/domain_tasks.py", "tasks/views.py", "tasks/transforms.py", "tasks/distribution.py",
)  # fmt: skip
VIEWS = 4
SETTINGS = MetaTraining(
    k=8, basis="displacements", basis_tasks=24, nested=NESTED, steps=40, tasks_per_step=4, chunk=1,
    gradient="first_order", validate_every=20, validation_tasks=20,
)  # fmt: skip
#: Test tasks; a third as many are validation tasks.
TASKS = {"Omniglot": 300, "CIFAR-FS": 300, "GTSRB": 60}
#: The rule without views, which the others are compared with.
PLAIN = "head"


@dataclass(frozen=True)
class Viewed:
    """``method`` on a support with views of each example beside it."""

    method: Method
    views: int = VIEWS
    role: Role = "rival"
    max_tasks: int | None = None
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        adapt = self.method.prepare(context)

        def on_views(support: Support, watch: Watch) -> Predictor:
            more = support._replace(
                x=views_of(support.x, self.views), y=support.y.repeat_interleave(1 + self.views)
            )
            return adapt(more, watch)

        return on_views


@dataclass(frozen=True)
class Of:
    """``method`` with another adapter than the comparison's."""

    method: Method
    adapter: FewShotAdapter
    role: Role = "rival"
    max_tasks: int | None = None
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        return self.method.prepare(context._replace(adapter=self.adapter))


def conv4(data: str, backbone: str, quick: bool) -> Domain:
    """Of a shipped network, on tasks of its own data."""
    queries = 2 if quick else 10
    network = load_backbone(backbone)[0]
    train, validation, test = (tasks_of(data, part, 5, 5, queries) for part in range(3))
    space, about = film(network, skip=1), f"5-way 1-shot: {data}"
    return Domain(data, network, space, train, validation, test, "shipped", about)


DOMAINS: Mapping[str, Callable[[bool], Domain]] = {
    "Omniglot": partial(conv4, "Omniglot", "conv4_omniglot"),
    "CIFAR-FS": partial(conv4, "CIFAR-FS", "conv4_cifar_fs"),
    "GTSRB": lambda quick: replace(domain("mobilenetv2", quick=quick), name="GTSRB"),
}


def one_shot(tasks: Distribution | WithViews) -> WithViews:
    """With one example of a class, and views of it."""
    assert isinstance(tasks, Distribution)
    return WithViews(replace(tasks, shots=1), VIEWS)


def methods_of(five: FewShotAdapter, one: FewShotAdapter) -> dict[str, Method]:
    """All that is chosen from; the comparison's own adapter is ``five``."""
    head, moved = Forward(GaussNewton(steps=0), HEAD), Forward(GaussNewton(), HEAD)
    return {
        PLAIN: replace(head, role="head"),
        "head, views": Viewed(head),
        "z, views": Viewed(moved),
        "head, trained at one shot": Of(head, one),
        "head, views, trained at one shot": Of(Viewed(head), one),
        "z, views, trained at one shot": Of(Viewed(moved), one),
    }


def run(name: str, *, quick: bool, train: bool, cache: Path, device: torch.device) -> Iterator[Row]:
    """One domain, from training to rows."""
    folder, chosen = cache / name.replace("/", "_"), DOMAINS[name](quick)
    once = replace(chosen, train=one_shot(chosen.train), validation=one_shot(chosen.validation))
    five = adapter_of(chosen, SETTINGS, folder / "five", quick=quick)
    one = adapter_of(once, SETTINGS, folder / "one", quick=quick)
    if train:
        return
    methods, found, number = methods_of(five, one), {}, 2 if quick else TASKS[name]
    for part, tasks, n in (("validation", chosen.validation, -(-number // 3)), ("test", chosen.test, number)):
        assert isinstance(tasks, Distribution)
        found[part] = compared(
            folder / f"{part}.json",
            methods,
            replace(tasks, shots=1),
            five,
            experiment=f"one shot, {name}",
            shown=f"{name}: {part} tasks",
            number=n,
            device=device,
        )
    yield from rows(name, found["validation"], found["test"])


def rows(name: str, validation: Comparison, test: Comparison) -> Iterator[Row]:
    """Accuracy of every rule and its difference to the head without views, and which one was chosen."""
    best = max(validation.methods.values(), key=lambda method: method.mean_score.mean).name
    for method in test.methods.values():
        case = f"{name}: {method.name}"
        seen = 100 * validation.methods[method.name].mean_score.mean
        note = f"{seen:.2f} on validation tasks" + (", chosen" if method.name == best else "")
        yield Row.of(case, "eval/accuracy", method.mean_score.times(100), "%", note=note)
        if method.name != PLAIN:
            difference = test.difference(method, test.methods[PLAIN]).times(100)
            yield Row.of(case, "compare/accuracy_vs_head", difference, "points")


def main() -> None:
    parser = options(__doc__, names=f"of {', '.join(DOMAINS)}; default: all", train="meta-train only")
    arguments = parser.parse_args()
    keep_freed_memory()
    cache, found = folder_of("one_shot", arguments), list[Row]()
    for name in arguments.names or (["GTSRB"] if arguments.quick else DOMAINS):
        if name == "GTSRB" and (reason := available("mobilenetv2", quick=arguments.quick)):
            print(f"left out: {reason}")
            continue
        device = torch.device("cpu")
        found += run(name, quick=arguments.quick, train=arguments.train, cache=cache, device=device)
    if not arguments.train:
        report("one_shot", found, arguments)


if __name__ == "__main__":
    main()
