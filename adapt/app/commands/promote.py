"""``python -m adapt promote NAME``: a version becomes champion, if it passes the regression gate."""

from argparse import Namespace

from omegaconf import DictConfig
from rich.table import Table
from rich.text import Text

from adapt.adapter import FewShotAdapter
from adapt.app.commands.arguments import say_taken
from adapt.app.commands.gate_data import gate_of_data
from adapt.app.commands.gate_tasks import about_tasks, gate_tasks, task_overrides
from adapt.app.commands.versions import composed, opened, parse, parser
from adapt.app.environment import choose_device
from adapt.app.progress import console, progress
from adapt.app.stages.session import Parts
from adapt.backbones import info_of, tokeniser
from adapt.compare.gate import Gate, run_gate
from adapt.compare.gate_page import gate_markdown, gate_rows, gate_sentence
from adapt.errors import AdaptError
from adapt.tracking.registry import CHALLENGER, CHAMPION, Registry, Version, explained

__all__ = ["main"]

#: With fewer tasks of one kind the gate would often refuse what is as good.
TASKS = 600
PAGE = "gate.md"
#: Characters of a tag that names what a version was refused for.
STOPPED = 500


def main(arguments: list[str]) -> None:
    """Run the gate on held tasks, print its table, and move the alias if the version passes.

    Raises:
        AdaptError: the version is refused; no such model or version; tasks that cannot be had.
    """
    given = _parse(arguments)
    config = composed([o for o in given.overrides if not about_tasks([o])], given.config_dir)
    registry = opened(config, given.name)
    with explained(f"model '{given.name}'"):
        challenger = registry.version(given.version or f"@{CHALLENGER}")
        champion = registry.aliased(CHAMPION)
        if champion is None or given.force:
            _check_new(champion, challenger, registry)
            gate_tags = {"gate": "forced", "gate_reason": given.reason} if given.force else {"gate": "first"}
            over = {"gate_champion": champion.number} if champion is not None else {}
            registry.crown(challenger.number, {**gate_tags, **over})
            console.print(f"{given.name}: champion is version {challenger.number}", markup=False)
            return
    _check_new(champion, challenger, registry)
    found = _gate if given.data is None else gate_of_data
    gate, source = found(given, registry, champion, challenger)
    _record(gate, source, registry, champion, challenger)
    _show(gate, source, registry, champion, challenger)
    if not gate.passed:
        raise AdaptError(
            f"version {challenger.number} of '{given.name}' is {gate_sentence(gate)}; the table is in "
            f"{PAGE} of its run, and --force --reason TEXT promotes it all the same"
        )
    with explained(f"model '{given.name}'"):
        registry.crown(challenger.number)
    console.print(
        f"{given.name}: champion is version {challenger.number}, no longer {champion.number}", markup=False
    )


def _parse(arguments: list[str]) -> Namespace:
    what = "Make a version champion, if it is nowhere worse than the present one."
    made = parser("promote", what, "VERSION|KEY=VALUE")
    made.epilog = (
        "VERSION is a number or an alias, by default @challenger. Overrides may also say what tasks to judge "
        "on, as in experiment=quickstart; without them it is the tasks that the version was trained for, in "
        "a split that it was not trained on."
    )
    made.add_argument("--tolerance", type=float, default=0.01, help="how much worse is still accepted: 0.01")
    made.add_argument("--tasks", type=int, default=TASKS, help=f"of each number of shots: {TASKS}")
    made.add_argument("--allow-few-tasks", action="store_true", help=f"let --tasks be less than {TASKS}")
    made.add_argument(
        "--data",
        metavar="DATA",
        help="of versions that `adapt fit` made: labelled examples that neither was fitted to",
    )
    made.add_argument(
        "--group", metavar="COLUMN", action="append", default=[], help="of DATA: judge these groups, too"
    )
    made.add_argument("--shots", help="labelled examples per class, separated by commas: 1,5,10")
    made.add_argument("--force", action="store_true", help="without the gate; needs --reason")
    made.add_argument("--reason", help="why, kept with the version")
    given = parse(made, arguments, version=True)
    if given.force != bool(given.reason):
        raise AdaptError("--force and --reason belong together: say why the gate is passed over")
    if given.group and given.data is None:
        raise AdaptError("--group needs --data DATA: groups are by its columns")
    if given.data is not None:
        given.tasks = TASKS  # how many examples there are is seen when they are read
    if given.tasks < TASKS and not given.allow_few_tasks:
        raise AdaptError(
            f"--tasks {given.tasks}: fewer than {TASKS} show little; add --allow-few-tasks if that is enough"
        )
    try:
        given.shots = None if given.shots is None else [int(number) for number in given.shots.split(",")]
    except ValueError:
        raise AdaptError(f"--shots {given.shots}: write numbers separated by commas, as in 1,5,10") from None
    return given


def _check_new(champion: Version | None, challenger: Version, registry: Registry) -> None:
    if champion is not None and champion.number == challenger.number:
        raise AdaptError(
            f"version {challenger.number} of '{registry.name}' is the champion already: name another, see "
            f"`python -m adapt history {registry.name}`"
        )


def _gate(given: Namespace, registry: Registry, champion: Version, challenger: Version) -> tuple[Gate, str]:
    config = _tasks_config(given, registry, challenger)
    device = choose_device(config.device)
    with explained(f"model '{given.name}'"):
        old, new = (_adapter(registry, version, config).to(device) for version in (champion, challenger))
    if tokeniser(old.backbone) is not None and old.backbone_name != new.backbone_name:
        raise AdaptError(
            f"the champion reads texts as '{old.backbone_name}' does, the challenger as "
            f"'{new.backbone_name}': the gate needs one encoding for both"
        )
    info = info_of(old.backbone)
    network = (old.backbone, info) if info is not None else Parts(config).network
    tasks, source = gate_tasks(config, network, given.shots)
    bar = progress(f"{registry.name}: version {challenger.number} against {champion.number}")
    if given.tasks < TASKS:
        source += f"; fewer than {TASKS} of a kind"
    return run_gate(old, new, tasks, count=given.tasks, tolerance=given.tolerance, progress=bar), source


def _tasks_config(given: Namespace, registry: Registry, challenger: Version) -> DictConfig:
    """What was typed; if that says nothing of tasks, what the challenger's run was started with as well."""
    overrides = list(given.overrides)
    if not about_tasks(overrides):
        with explained(f"run {challenger.run_id}"):
            text = registry.text(challenger, "overrides.txt")
        if text is None:
            raise AdaptError(
                f"version {challenger.number} does not say what tasks it was trained for: give them, as in "
                "experiment=quickstart; or, if `adapt fit` made it, labelled examples that neither was "
                "fitted to, as in --data test.csv"
            )
        recorded = task_overrides(text)
        say_taken(f"tasks as version {challenger.number} recorded them", recorded)
        overrides = [*recorded, *overrides]
    return composed(overrides, given.config_dir)


def _adapter(registry: Registry, version: Version, config: DictConfig) -> FewShotAdapter:
    own = Parts(config).network[0] if version.tags.get("servable") == "false" else None
    adapter = registry.load(version.number, own)
    if not isinstance(adapter, FewShotAdapter):
        raise AdaptError(f"version {version.number} of '{registry.name}' is no adapter")
    return adapter


def _record(gate: Gate, source: str, registry: Registry, champion: Version, challenger: Version) -> None:
    """The table to the challenger's run, the verdict to the version."""
    tags = {
        "gate": "passed" if gate.passed else "refused",
        "gate_champion": champion.number,
        "gate_tasks": str(gate.tasks),
        "gate_tolerance": f"{gate.tolerance:g}",
        "gate_source": source,
        "gate_stopped": ", ".join(map(str, gate.refusals))[:STOPPED],
    }
    with explained(f"model '{registry.name}'"):
        page = gate_markdown(gate, registry.name, champion.number, challenger.number, source)
        registry.write_text(challenger, PAGE, page)
        registry.tag(challenger.number, tags)


def _show(gate: Gate, source: str, registry: Registry, champion: Version, challenger: Version) -> None:
    header, rows = gate_rows(gate)
    title = f"{registry.name}: version {challenger.number} against {champion.number}, {gate.tasks} tasks"
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if 0 < index < len(header) - 1 else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    console.print(f"{gate_sentence(gate)} ({source})", markup=False)
