"""Every file of conf/experiment runs in miniature, and leaves what it promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import adapt
from adapt.adapter import initial_state
from adapt.app.config import config_folder
from adapt.backbones import load_backbone
from adapt.compare import Comparison
from adapt.files import read_json
from adapt.spaces import film
from adapt.tracking import prepare_store
from tests.command_line import call

mlflow = pytest.importorskip("mlflow")

EXPERIMENTS = sorted(path.stem for path in (config_folder() / "experiment").glob("*.yaml"))

COMPARISON = ("comparison.json", "comparison.md")
#: Drawn as well, by what differs in what there is to draw: other comparisons leave no figures.
ACCURACIES, ERRORS = (
    (*COMPARISON, "comparison.html", f"{metric}_against_seconds.svg", f"{metric}_against_seconds.png")
    for metric in ("accuracy", "mse")
)
ADAPTER = ("adapter/adapter_config.json", "adapter/adapter_model-*.safetensors", "adapter/README.md")
BACKBONE = ("backbone/backbone.json", "backbone/backbone-*.safetensors")
SMALL_OUTER = ("meta.k=2", "meta.steps=1", "meta.tasks_per_step=2", "meta.validation_tasks=1")
SMALL_COMPARISON = (
    "task.ways=2",
    "task.queries=2",
    "method.backprop.solver.steps=1",
    "method.finetune.steps=1",
    "method.retrain.epochs=1",
    "method.retrain.max_tasks=1",
)
SMALL_OWN = (
    *SMALL_COMPARISON,
    "task.shots=2",
    "task.tasks=1",
    "task.costly_tasks=1",
    "method.finetune_all.epochs=1",
)
SMALL_META = (*SMALL_OUTER, "meta.basis_tasks=2", "meta.nested=[1,2]", "task.ways=2", "task.queries=2")
FEW = ("adapter=null", "task.tasks=2")
FEW_PUBLIC = (
    *FEW,
    "task.costly_tasks=1",
    "task.ways=2",
    "task.queries=2",
    "method.backprop.solver.steps=1",
    "method.finetune.steps=1",
)
SMALL_TEXT = (
    "task.ways=2",
    "task.shots=2",
    "task.queries=2",
    "backbone.max_tokens=8",
    "inner.directions=[2]",
    "method.backprop.solver.steps=1",
)
SMALL_TASK = ("task.ways=2", "task.shots=2", "task.queries=2")
SMALL_GLYPHS = ("task.source.max_classes=40", "task.ways=2", "task.shots=2", "task.queries=2")


@dataclass(frozen=True)
class Miniature:
    """What makes an experiment small, what it then leaves below its folder, how many runs (with children) it
    records, what it finds in the folder where it is started, and whether it needs public data."""

    overrides: tuple[str, ...]
    leaves: tuple[str, ...]
    runs: int
    prepare: Callable[[Path], None] = field(default=lambda folder: None)
    public: bool = False


def write_pictures(folder: Path) -> None:
    """Three folders of six pictures, each class of a colour of its own."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("leaf", "sea", "sun")):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 80, (40, 50, 3), np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{number}.png")


def write_texts(folder: Path) -> None:
    """Six sentences about each of three things."""
    lines = ["text,label"]
    for name in ("weather", "music", "travel"):
        lines += [
            f"a {word} sentence about {name},{name}"
            for word in ("short", "long", "odd", "plain", "new", "old")
        ]
    (folder / "texts.csv").write_text("\n".join(lines), encoding="utf-8")


def write_table(folder: Path) -> None:
    """Twenty rows of each of two classes."""
    rng = np.random.default_rng(0)
    rows = [
        (*rng.normal(label, 1, 2).round(3), ("low", "high")[label]) for label in (0, 1) for _ in range(20)
    ]
    lines = ["length,width,size", *(",".join(map(str, row)) for row in rows)]
    (folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")


def write_starts(folder: Path) -> None:
    """Two adapters that start elsewhere than the network that ships."""
    network = load_backbone("timm:tf_efficientnet_lite0", weights="package:efficientnet_lite0", size=32)[0]
    space = film(network)
    for name, factor in (("one", 1.1), ("two", 0.95)):
        state = initial_state(factor * space.initial, space.initial[:, None])
        adapt.FewShotAdapter(network, space, state).save_pretrained(folder / name)


MINIATURES = {
    "digits": Miniature(
        (
            *SMALL_COMPARISON,
            "task.tasks=2",
            "task.costly_tasks=1",
            "hydra.sweeper.params={task.shots:'1,5',seed:'0'}",
        ),
        (
            *(f"{job}/{name}" for job in (0, 1) for name in ACCURACIES if name != "comparison.html"),
            *(f"accuracy_against_shots.{suffix}" for suffix in ("svg", "png")),
            "sweep.md",
            "sweep.json",
        ),
        runs=17,
    ),
    "meta_glyphs": Miniature(
        (
            *SMALL_GLYPHS,
            "meta.k=2",
            "meta.nested=[1,2]",
            "meta.basis_tasks=2",
            "meta.steps=1",
            "meta.tasks_per_step=1",
            "meta.validation_tasks=1",
        ),
        ADAPTER,
        runs=1,
    ),
    "meta_omniglot": Miniature(SMALL_META, ADAPTER, runs=1, public=True),
    "meta_cifar_fs": Miniature(SMALL_META, ADAPTER, runs=1, public=True),
    "meta_conditions": Miniature(
        (*SMALL_OUTER, "meta.basis_tasks=2", "meta.nested=[1,2]", "meta.classifier=2", "task.queries=1"),
        ADAPTER,
        runs=1,
        public=True,
    ),
    "conditions": Miniature(
        (
            "task.tasks=1",
            "task.queries=1",
            *(f"method.{name}.solver.steps=1" for name in ("backprop", "classifier_backprop")),
            *(f"method.{name}.examples=2" for name in ("classifier", "classifier_backprop")),
        ),
        COMPARISON,
        runs=8,
        public=True,
    ),
    "conditions_unlabelled": Miniature(
        (
            "task.tasks=1",
            "task.queries=1",
            "task.shots=0",
            "task.unlabelled=9",
            "method.foa.solver.population=4",
            "method.foa.solver.generations=1",
            *(f"method.{name}.solver.steps=1" for name in ("tent", "eata", "spsa")),
            *(
                f"method.{name}.examples=2"
                for name in ("source", "norms", "tent", "eata", "foa", "spsa", "unlabelled")
            ),
        ),
        COMPARISON,
        runs=10,
        public=True,
    ),
    "meta_gtsrb": Miniature((*SMALL_META, "backbone.size=32"), ADAPTER, runs=1, public=True),
    "meta_vision_domain": Miniature(
        (*SMALL_OUTER, "task=emblems", "task.source.classes=20", "backbone.size=32", *SMALL_TASK),
        ADAPTER,
        runs=1,
    ),
    "meta_reviews": Miniature(
        ("meta.k=2", "meta.steps=1", "meta.validation_tasks=1", "backbone.max_tokens=8"),
        ADAPTER,
        runs=1,
        public=True,
    ),
    "meta_vision_start": Miniature(
        (
            *("meta.starts=[one,two]", "meta.k=2", "meta.validation_tasks=1", "backbone.size=32"),
            "task.components.glyphs.source.max_classes=80",
            "task.components.emblems.source.classes=40",
        ),
        ADAPTER,
        runs=1,
        prepare=write_starts,
        public=True,
    ),
    "meta_sinusoid": Miniature(SMALL_OUTER, ADAPTER, runs=1),
    "meta_families": Miniature((*SMALL_OUTER, "meta.distinct_tasks=4"), ADAPTER, runs=1),
    "meta_breast_cancer": Miniature((*SMALL_OUTER, "task.source.generated=2"), ADAPTER, runs=1),
    "meta_gridworld": Miniature((*SMALL_OUTER, "meta.distinct_tasks=2"), ADAPTER, runs=1),
    "meta_vehicle_dynamics": Miniature((*SMALL_OUTER, "meta.distinct_tasks=2"), ADAPTER, runs=1),
    **{
        f"meta_{system}": Miniature(
            (
                *SMALL_OUTER,
                "meta.steps=0",
                "meta.basis_steps=1",
                "meta.basis_tasks=3",
                "task.source.points=3",
            ),
            ADAPTER,
            runs=1,
        )
        for system in ("lotka_volterra", "selkov", "pendulum", "cart_pole")
    },
    "meta_volatility": Miniature(SMALL_OUTER, ADAPTER, runs=1),
    "omniglot": Miniature(FEW_PUBLIC, COMPARISON, runs=7, public=True),
    "omniglot_from_glyphs": Miniature(FEW_PUBLIC[1:], COMPARISON, runs=7, public=True),
    "cifar_fs": Miniature(FEW_PUBLIC, COMPARISON, runs=7, public=True),
    "gtsrb": Miniature((*FEW_PUBLIC, "backbone.size=32"), COMPARISON, runs=7, public=True),
    **{
        name: Miniature((*FEW, *SMALL_TEXT), COMPARISON, runs=6, public=True)
        for name in ("banking77", "clinc150", "relations")
    },
    "breast_cancer": Miniature((*FEW, "task.source.generated=2"), COMPARISON, runs=6),
    "gridworld": Miniature(FEW, COMPARISON, runs=6),
    "volatility": Miniature(FEW, COMPARISON, runs=3),
    "own_images": Miniature(
        (
            *SMALL_OWN,
            "task.root=pictures",
            "backbone.name=timm:mobilenetv2_035",
            "backbone.weights=random",
            "backbone.size=32",
        ),
        COMPARISON,
        runs=9,
        prepare=write_pictures,
    ),
    "own_text": Miniature((*SMALL_OWN, "task.file=texts.csv"), COMPARISON, runs=9, prepare=write_texts),
    "own_table": Miniature(
        ("task.file=table.csv", "task.source.label=size", "task.tasks=1"),
        ACCURACIES,
        runs=8,
        prepare=write_table,
    ),
    **{
        f"pretrain_{data}": Miniature(
            ("backbone.width=4", "meta.steps=2", "meta.batch=8"), BACKBONE, runs=1, public=True
        )
        for data in ("cifar_fs", "cifar100")
    },
    **{
        f"pretrain_{data}_resnet12": Miniature(
            ("backbone.width=4", "meta.steps=2", "meta.batch=8"), BACKBONE, runs=1, public=True
        )
        for data in ("cifar_fs", "fc100")
    },
    "pretrain_omniglot": Miniature(
        ("backbone.width=4", "meta.steps=2", "meta.batch=8", "task.shots=2", "task.queries=2"),
        BACKBONE,
        runs=1,
        public=True,
    ),
    "pretrain_glyphs": Miniature(
        (*SMALL_GLYPHS, "backbone.width=4", "meta.steps=2", "meta.batch=8"),
        BACKBONE,
        runs=1,
    ),
    "lotka_volterra": Miniature(("task.tasks=2", "method.backprop.solver.steps=1"), COMPARISON, runs=3),
    "quickstart_physics": Miniature(
        (
            "task.tasks=1",
            "task.queries=1",
            "method.backprop.solver.steps=1",
            "method.finetune.steps=1",
            "method.retrain.epochs=1",
        ),
        COMPARISON,
        runs=5,
    ),
    "sinusoid": Miniature(("task.tasks=2",), ERRORS, runs=4),
    "vehicle_dynamics": Miniature(("task.tasks=2",), COMPARISON, runs=4),
    "vehicle_stream": Miniature(
        ("task.tasks=1", "task.shots=10"), ("stream.json", "stream.svg", "stream.png"), runs=1
    ),
    "quickstart": Miniature((*SMALL_COMPARISON, "task.tasks=1"), ACCURACIES, runs=8),
}


#: An audit of the data takes a second, and is the same for all.
GOVERNED = ("quickstart", "digits", "banking77", "vehicle_dynamics", "conditions")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_runs_in_miniature(
    name: str,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert name in MINIATURES, (
        f"conf/experiment/{name}.yaml is never run: add '{name}' to MINIATURES in {Path(__file__).name}, "
        "with overrides that make it finish in seconds, the files it leaves and the runs it records"
    )
    miniature = MINIATURES[name]
    if miniature.public:
        request.getfixturevalue("data")
    monkeypatch.setattr("adapt.app.stages.pretrain.VALIDATION_TASKS", 4)
    miniature.prepare(tmp_path)
    given = {path.name for path in tmp_path.iterdir()}
    run = tmp_path / "run"
    folders = [f"tracking.root={root}", f"hydra.run.dir={run}", f"hydra.sweep.dir={run}"]

    # Measuring power and memory takes longer than all else that a method does here, and is the same for all.
    costs = [] if name == "quickstart" else ["energy=none", "memory=false"]
    costs += [f"figures={any(leaf.endswith('.svg') for leaf in miniature.leaves)}"]
    costs += [f"evaluate.governance={name in GOVERNED}"]
    code = call([f"experiment={name}", *miniature.overrides, *costs, *folders], tmp_path)

    said = capsys.readouterr()
    assert code == 0, said.err
    assert [path for path in miniature.leaves if len([*run.glob(path)]) != 1] == []
    assert {path.name for path in tmp_path.iterdir()} == {*given, "run"}, "wrote outside its folders"
    assert bool([*run.rglob("governance.md")]) == (name in GOVERNED)
    for path in run.rglob("comparison.json"):
        assert Comparison.from_dict(read_json(path)).experiment == name
    if "adapter/adapter_config.json" in miniature.leaves:
        state = adapt.load(run / "adapter").state
        assert (state.k - len(state.router)) // max(1, len(state.router)) == 2
    if "backbone/backbone.json" in miniature.leaves:
        network, info = load_backbone(str(run / "backbone"))
        assert info.arguments["width"] == 4 and not network.training
    assert statuses(root, name) == ["FINISHED"] * miniature.runs


def test_table_names_only_what_exists() -> None:
    assert sorted(MINIATURES) == EXPERIMENTS, "MINIATURES and conf/experiment differ: mend the table"


def statuses(root: Path, name: str) -> list[Any]:
    """Of all runs of the MLflow experiment ``name``, children included."""
    client = mlflow.MlflowClient(tracking_uri=prepare_store(root))
    found = client.get_experiment_by_name(name)
    assert found is not None, f"no MLflow experiment '{name}'"
    return [run.info.status for run in client.search_runs([found.experiment_id])]
