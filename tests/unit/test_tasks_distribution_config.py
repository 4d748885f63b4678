"""Tasks as configs say them: sizes, noise, courses, mixtures, validation elsewhere; compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from adapt import AdaptError
from adapt.adapter import Context, Forward, Method
from adapt.app.config import config_folder
from adapt.app.main import main as _  # noqa: F401 (registers the schema)
from adapt.app.stages.compare import describe, pool_from
from adapt.app.stages.session import Parts, distribution
from adapt.baselines import Backprop, Finetune, HeadOnly, Higher, Learn2Learn, Retrain
from adapt.compare import Comparison, compare
from adapt.compare.markdown import comparison_markdown
from adapt.compare.verdict import size_text
from adapt.heads import Logistic, Prototype, Ridge
from adapt.inner import Auto, Descent, GaussNewton
from tasks import (
    ArraySource,
    Choice,
    Conditions,
    Corrupted,
    Corruption,
    Curriculum,
    Digits,
    Distribution,
    FunctionTasks,
    GroupedTasks,
    MetaDataset,
    Mixture,
    NoisyLabels,
    Source,
    TaskError,
    Uniform,
    WithViews,
)
from tasks.elsewhere import on_split
from tests.helpers import make_adapter, make_source, tiny_conv4
from tests.unit.test_tasks_distribution import same


@pytest.fixture(scope="module", autouse=True)
def configs() -> Iterator[None]:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        yield


def composed(*overrides: str) -> DictConfig:
    small = [] if any(o.startswith("task=") for o in overrides) else ["task.source.size=8"]
    return compose("config", [*small, *overrides])


def built(*overrides: str, **more: Any) -> Any:
    return distribution(composed(*overrides), **more)


def node(text: str) -> str:
    return "{_target_:tasks." + text + "}"


UNIFORM = node("Uniform,low:1,high:4")


def test_plain_numbers_build_what_they_always_did() -> None:
    tasks = built("task.shots=3", "seed=7")
    assert tasks == Distribution(tasks.source, 5, 3, 15, "support", "query", seed=7)


def test_sizes_from_a_config() -> None:
    tasks = built(
        f"task.ways={node('Uniform,low:2,high:5')}",
        f"task.shots={node('Choice,values:[1,5],weights:[1,3]')}",
        "task.imbalanced=true",
        "task.outside=4",
    )
    assert (tasks.ways, tasks.shots, tasks.queries) == (Uniform(2, 5), Choice([1, 5], [1, 3]), 15)
    assert tasks.imbalanced and tasks.episode(0).meta.outside_x.shape == (4, 1, 8, 8)
    assert built("task.vectorised=true").vectorised
    assert built("task=variable_digits").sizes == MetaDataset(5, 10, 10, 100, 20)


def test_conditions_from_a_config() -> None:
    digits = ("task=conditions", "~task.source", "+task.source={_target_:tasks.Digits,size:8}")
    pools = ("task.support_split=support", "task.query_split=query", "task.queries=3", "task.unlabelled=4")
    tasks = built(
        *digits, *pools, "task.kinds=[fog,snow]", "task.severities=[2]", "task.classes=['3','7']", "seed=4"
    )
    assert isinstance(tasks, Conditions) and tasks.seed == 4
    assert [str(kind[0]) for kind in tasks.choices] == ["fog 2 (cifar)", "snow 2 (cifar)"]
    assert tasks.episode(0).meta.classes == ("3", "7") and len(tasks.choices[0]) == 1
    described = describe(composed(*digits, *pools, "task.kinds=seen"), tasks)
    assert described["ways"] == 2 and described["unlabelled"] == 4
    assert described["conditions"] == "fog, snow (severities 2 of cifar)"
    with pytest.raises(TaskError, match=r"task\.kinds: 'frost' is left out"):
        built(*digits, *pools, "task.kinds=[frost]")
    with pytest.raises(
        TaskError, match=r"task\.base\.severities=6 is too large: use task\.base\.severities<=5"
    ):
        built("task=corrupted", "task@task.base=conditions", "~task.base.source", "task.base.severities=[6]",
              "+task.base.source={_target_:tasks.Digits}")  # fmt: skip


def test_noise_and_corruption_from_a_config() -> None:
    corruption = node("Corruption,kind:contrast,severity:2")
    noisy = ("task=corrupted", "task@task.base=noisy", "task.base.share=0.2", "task.base.base.source.size=8")
    tasks = built(*noisy, f"task.corruption={corruption}", "task.part=both", "seed=4")
    assert isinstance(tasks, Corrupted) and isinstance(tasks.base, NoisyLabels)
    assert (tasks.corruption, tasks.part) == (Corruption("contrast", 2), "both")
    clean = tasks.base.base
    assert tasks.base.share == 0.2 and isinstance(clean, Distribution) and clean.seed == 4
    assert (tasks.support_split, tasks.query_split) == ("support", "query")
    assert tasks.described == {"label noise": 0.2, "corruption": "contrast 2"}


def test_views_from_a_config() -> None:
    tasks = built(
        "task=views", "task@task.base=glyphs", "task.base.source.max_classes=60", "task.base.shots=1"
    )
    assert isinstance(tasks, WithViews) and (tasks.views, tasks.shots, tasks.source.name) == (4, 1, "glyphs")


def test_other_tasks_made_noisy() -> None:
    tasks = built("task=noisy", "task@task.base=glyphs", "task.base.source.max_classes=60", "task.share=0.4")
    assert isinstance(tasks, NoisyLabels) and (tasks.source.name, tasks.share) == ("glyphs", 0.4)


def test_a_course_from_a_config() -> None:
    stages = ("task=curriculum", "task.stages.0.shots=10", f"task.stages.1000.shots={UNIFORM}")
    course = built(*stages, "task.stages.1000.queries=2")
    assert isinstance(course, Curriculum) and [*course.stages] == [0, 1000]
    first, last = course.stages.values()
    assert (first.shots, last.shots, last.queries) == (10, Uniform(1, 4), 2)
    assert first.source is last.source, "the data is loaded once"
    with pytest.raises(TaskError, match="no split 'validation'"):
        built(*stages, split="validation")
    turned = [
        f"task.stages.{start}.{key}"
        for start in (0, 1000)
        for key in ("support_split=query", "query_split=null")
    ]
    held = distribution(composed(*stages, *turned), split="support")
    assert isinstance(held, Distribution) and (held.shots, held.support_split) == (Uniform(1, 4), "support")


def test_a_mixture_from_a_config() -> None:
    sizes = [
        f"task.components.{name}.{size}" for name in ("glyphs", "digits") for size in ("shots=2", "queries=1")
    ]
    small = ("task=mixture", "task.components.glyphs.source.max_classes=60", *sizes)
    tasks = built(*small, "seed=3")
    assert isinstance(tasks, Mixture) and tasks.weights == {"glyphs": 3, "digits": 1} and tasks.seed == 3
    glyphs, digits = tasks.components.values()
    assert (glyphs.support_split, glyphs.replace, glyphs.seed) == ("test", True, 3)  # type: ignore[attr-defined]
    assert (digits.support_split, digits.query_split) == ("support", "query")
    assert isinstance(tasks.source, Source) and tasks.source.shape == (1, 32, 32)
    assert {e.meta.classes[0].split("/")[0] for e in tasks.episodes(0, 20)} == {"glyphs", "digits"}
    # Retraining finds all that supports of either component come from.
    pool = pool_from(tasks.source, tasks.support_split, torch.device("cpu"))
    for episode in tasks.episodes(0, 6):
        x, y = pool(episode.meta.classes)
        assert len(x) == len(y) >= len(episode.meta.classes)
    held = built(*small, split="validation", seed=9)
    assert isinstance(held, Mixture) and held.seed == 9
    splits = {name: (part.support_split, part.query_split) for name, part in held.components.items()}
    assert splits == {"glyphs": ("validation", None), "digits": ("support", "query")}, "as `validation` says"


def test_choices_can_be_made_on_another_domain() -> None:
    """Train on A, choose on B: only what differs is said."""
    config = composed(
        "task=digits",
        "task.source.size=8",
        "task.validation={source:"
        + node("Digits,size:16")
        + ",support_split:query,query_split:support,shots:2}",
    )
    train, held = distribution(config), distribution(config, split="validation", seed=9)
    assert isinstance(train, Distribution) and isinstance(held, Distribution)
    assert (train.source.shape, train.shots, train.support_split) == ((1, 8, 8), 5, "support")
    assert (held.source.shape, held.shots, held.support_split, held.query_split, held.seed) == (
        (1, 16, 16), 2, "query", "support", 9,
    )  # fmt: skip
    assert held.ways == train.ways


def test_groups_are_tasks_of_their_own() -> None:
    tasks = built("task=gridworld", "task.shots=1", "task.queries=1")
    assert isinstance(tasks, GroupedTasks)
    assert describe(composed("task=gridworld"), tasks)["ways"] == len(tasks.episode(0).meta.classes)  # type: ignore[arg-type]
    with pytest.raises(AdaptError, match=r"task\.outside is not a setting of tasks\.GroupedTasks"):
        built("task=gridworld", "task.outside=1")


def test_a_node_without_a_target_is_what_its_source_is() -> None:
    """As options of one's own may be, and those of before."""
    without = "task={source:" + node("%s") + ",shots:2,queries:3,support_split:%s,ways:null,replace:false}"
    for source, split, kind in (
        ("Digits,size:8", "support", Distribution),
        ("Sinusoid", "train", FunctionTasks),
        ("Gridworld,size:5", "train", GroupedTasks),
    ):
        config = composed("task=digits")
        config.task = {"_target_": "tasks.from_source", "tasks": 1, **_node(without % (source, split))}
        tasks = distribution(config)
        assert isinstance(tasks, kind) and (tasks.shots, tasks.support_split) == (2, split)
        if kind is Distribution:
            assert tasks.ways == 5  # type: ignore[union-attr]
            continue
        with open_dict(config):
            config.task.outside = 1
        with pytest.raises(TaskError, match=r"task\.outside is for examples of classes, but .* draws "):
            distribution(config)


def test_numbers_of_tasks_are_numbers() -> None:
    task = composed("task.tasks='7'", "task.costly_tasks='2'").task
    assert (task.tasks, task.costly_tasks) == (7, 2)
    for value in ("many", "2.5", "null"):
        for key in ("task.tasks", "task.costly_tasks"):
            with pytest.raises(HydraException, match=f"Error merging override {key}={value}"):
                composed(f"{key}={value}")


def test_a_source_is_no_tasks() -> None:
    config = composed("task=digits")
    config.task = {"_target_": "tasks.Digits", "tasks": 1}
    with pytest.raises(AdaptError, match=r"task\._target_=tasks\.Digits makes no tasks"):
        distribution(config)


def _node(override: str) -> dict[str, Any]:
    return OverridesParser.create().parse_override(override).value()  # type: ignore[return-value]


def test_all_classes_are_counted_anew_on_another_split() -> None:
    members = {
        "train": {c: [2 * i, 2 * i + 1] for i, c in enumerate("abcd")},
        "test": {"e": [8, 9], "f": [10, 11]},
    }
    tasks = Distribution(ArraySource(make_source().card, np.zeros((12, 2)), members), None, 1, 1)
    assert (tasks.ways, on_split(tasks, "test", 0).ways, "ways=4" in repr(tasks)) == (4, 2, True)
    assert on_split(replace(tasks, ways=2), "test", 0).ways == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.shots=many"], "task.shots=many should be int or Uniform or Choice"),
        (["task.ways=true"], "task.ways=True should be int"),
        (["task.shots=2.5"], "task.shots=2.5 should be int"),
        ([f"task.shots={node('Digits,size:8')}"], r"task.shots=.* is no whole number"),
        (["task.shots={_target_:os.system,command:ls}"], r"task.shots._target_=os.system is not allowed"),
        (["task.source=letters"], "task.source=letters is not a component"),
        (["task.source=null"], "task.source=None is not a component"),
        (["task=table_file"], "task.source.file has no value yet: set task.source.file="),
        (["task=noisy", "~task.base._target_"], "task.base=.* is not a component: give it a _target_"),
        (["task.seed=3"], "tasks.Distribution has the seed of the run: set seed"),
        (["task=noisy", "task.base.seed=3"], "tasks.Distribution has the seed of the run: set seed"),
        (["task.costly_task=3"], "task.costly_task is not a setting .*: did you mean costly_tasks?"),
        (["task.tasks=0"], "task.tasks=0: at least one task is needed"),
        (["task=noisy", "task.base.ways=11"], r"task\.base\.ways=11 .*: use task\.base\.ways<=10"),
        (
            ["task=noisy", "task.base.shots=1"],
            r"of tasks with task\.base\.shots=1: .* use task\.base\.shots>=2",
        ),
        (
            ["task=noisy", "task@task.base=corrupted", "task.base.base.shots=0"],
            r"^task\.base\.base\.shots=0 is",
        ),
        (["task=corrupted", "task@task.base=noisy", "task.base.share=2"], r"use task\.base\.share<=1"),
        (["task=mixture", "task.components.digits.shots=0"], r"use task\.components\.digits\.shots>=1"),
        (["task=curriculum", "task.stages.1000.queries=0"], r"use task\.stages\.1000\.queries>=1"),
        (["task=noisy", "task@task.base=image_folder"], r"set task\.root"),
        (["task=noisy", "task.shots=3"], "task.shots is not a setting of .*: did you mean base.shots?"),
        (["task=noisy", "task.shar=1"], "task.shar is not a setting of .*: did you mean share?"),
        (["task=noisy", "task.base.source.szie=3"], "task.base.source.szie .*: did you mean size?"),
        (["task.validation={shotz:1}"], "task.validation.shotz is not a setting: did you mean shots?"),
        (["task=sinusoid", f"task.shots={UNIFORM}"], "task.shots=.* should be int"),
        (
            ["task=sinusoid", "task.vectorised=true"],
            "task.vectorised is not a setting of tasks.FunctionTasks",
        ),
        (["task.curriculum=[{start:0,shots:1}]"], "task.curriculum is no setting any more: use task=curr"),
    ],
)
def test_mistakes_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises((AdaptError, TaskError, OmegaConfBaseException), match=message):
        built(*overrides)


# ------------------------------------------------------------------------------------------ comparisons

METHODS: dict[str, Method] = {
    "forward": Forward(GaussNewton()),
    "auto": Forward(Auto((2,))),
    "backprop": Backprop(solver=Descent(steps=1)),
    "learn2learn": Learn2Learn(lr=0.1, steps=1),
    "higher": Higher("sgd", lr=0.1, steps=1),
    "finetune": Finetune(steps=1),
    "retrain": Retrain(epochs=1, batch=8),
    "prototype": HeadOnly(Prototype()),
    "ridge": HeadOnly(Ridge()),
    "logistic": HeadOnly(Logistic()),
}


@pytest.mark.slow  # it imports learn2learn
def test_all_methods_are_compared_on_tasks_that_differ_in_size() -> None:
    source = make_source(per_class=20)
    tasks = NoisyLabels(
        Distribution(source, Uniform(2, 3), Uniform(2, 5), Choice([2, 3]), imbalanced=True, seed=0), 0.1
    )
    assert len({(len(e.meta.classes), len(e.support_y)) for e in tasks.episodes(0, 3)}) == 3
    config = OmegaConf.create({"task": {"tasks": 3}})
    described = describe(config, tasks)
    assert described == {
        "source": "patterns", "ways": "2–3", "shots": "2–5", "queries": "2|3", "tasks": 3, "label noise": 0.1,
    }  # fmt: skip
    backbone = tiny_conv4()
    context = Context(
        backbone, make_adapter(backbone), pool_from(source, "train", torch.device("cpu")), seed=0
    )
    result = compare(
        METHODS, tasks, context, experiment="variable", task=described, tasks=3, device=torch.device("cpu")
    )
    assert all(method.n == 3 for method in result.methods.values())
    again = Comparison.from_dict(json.loads(json.dumps(result.to_dict())))
    assert size_text(again.task) == "2–3-way 2–5-shot"
    page = comparison_markdown(again)
    assert "3 tasks from patterns: 2–3-way 2–5-shot, 2|3 queries per class, seed 0, label noise 0.1." in page


def test_a_distribution_says_what_decides_its_tasks() -> None:
    """As a checkpoint compares it: the same in any process."""
    tasks = Distribution(
        Digits(size=8), 3, Uniform(1, 2), support_split="support", transform=Corruption("contrast")
    )
    assert repr(tasks) == repr(replace(tasks, source=Digits(size=8)))
    assert repr(tasks).startswith(
        "Distribution(source=digits, ways=3, shots=Uniform(low=1, high=2), queries=15, "
    )
    assert "0x" not in repr(Corrupted(replace(tasks, transform=lambda x, g: x)))
    assert same(tasks.episode(1), replace(tasks).episode(1))


def test_a_run_makes_each_source_once() -> None:
    config = composed("task.source.size=32", "task.ways=3")
    parts = Parts(config)
    train, held = distribution(config, parts), distribution(config, parts, split="query", seed=9)
    assert held.source is train.source
    assert distribution(config, Parts(config)).source is not train.source
    elsewhere = composed(
        "task.source.size=32", "task.ways=3", "task.validation={source: {_target_: tasks.Digits, size: 16}}"
    )
    assert distribution(elsewhere, parts, split="query").source is not train.source
    assert parts.network is parts.network
    plain = distribution(config, split="query", seed=9).episode(3)
    assert torch.equal(held.episode(3).support_x, plain.support_x)


def test_a_pool_of_the_split_that_queries_come_from_leaves_them_out() -> None:
    """Otherwise retraining would learn the answers."""
    tasks = built(
        "task=glyphs", "task.source.max_classes=60", "task.ways=3", "task.shots=2", "task.queries=3"
    )
    assert isinstance(tasks, Distribution) and tasks.query_split is None
    pool = pool_from(tasks.source, tasks.support_split, torch.device("cpu"))
    meta = tasks.episode(0).meta
    members = tasks.source.classes(tasks.support_split)
    everything = np.concatenate([members[name] for name in meta.classes])
    assert np.isin(meta.query_indices, everything).all()
    x, y = pool(meta.classes, tuple(meta.query_indices.tolist()))
    left = [np.setdiff1d(members[name], meta.query_indices) for name in meta.classes]
    assert y.tolist() == [label for label, rows in enumerate(left) for row in rows]
    assert torch.equal(x, tasks.source.load(np.concatenate(left)))
    with pytest.raises(AdaptError, match="all are queries"):
        pool(meta.classes, tuple(everything.tolist()))
