"""What happens when a model in operation is asked something else than what it was fitted to: tags and metrics
in MLflow, a note, and on request the champion before it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from adapt.drift import Alarm
from adapt.errors import AdaptError
from adapt.own_data.watching import Watching
from adapt.tracking.registry import CHAMPION, Registry, Version, explained
from tasks.readers.shown import inline, row

__all__ = ["ON_ALARM", "raise_alarm", "sentence"]

#: What may be done.
ON_ALARM = ("note", "rollback")
#: The folder of notes among the artifacts of a run.
NOTES = "incidents"
SIGNALS = {
    "surprise": "labels are no longer those that it expects",
    "unsure": "it is less sure than it was of its own examples",
    "far": "examples are farther from its classes than its own were",
}


#: A version, and the model that it is of; None of a folder.
Registered = tuple[Registry, Version] | None


def raise_alarm(
    model: str, found: Registered, watching: Watching, on_alarm: str, note: str | None = None
) -> tuple[str, str | None]:
    """Write down the alarm of ``watching``, and move the alias back if that is asked for.

    Args:
        model: its name for people.
        found: what is watched, if it is registered.
        on_alarm: one of :data:`ON_ALARM`.
        note: a file for the note; a registered model has it as an artifact of its run as well.

    Returns:
        What was done, in a sentence, and the version that is champion again, if one is.

    Raises:
        AdaptError: MLflow or the file cannot be written.
    """
    alarm = watching.monitor.alarm
    assert alarm is not None
    done, champion = "Nothing was moved", None
    if found is not None:
        registry, version = found
        with explained(model):
            metrics = {f"watch/{name}": value for name, value in watching.monitor.evidence.items()}
            registry.raise_alarm(version, sentence(alarm), metrics, alarm.example)
            if on_alarm == "rollback":
                done, champion = _rolled_back(registry, version, sentence(alarm))
            page = _page(f"{registry.name}, version {version.number}", watching, done)
            registry.write_text(version, f"{NOTES}/{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}.md", page)
    if note is not None:
        try:
            with Path(note).open("a", encoding="utf-8") as file:  # somebody may have written into it
                file.write(_page(model, watching, done))
        except OSError as error:
            raise AdaptError(f"--note {note} cannot be written ({error.strerror}): name another") from None
    return done, champion


def sentence(alarm: Alarm) -> str:
    """What was noticed, in words."""
    return f"{SIGNALS[alarm.signal]}, noticed at example {alarm.example:,}"


def _rolled_back(registry: Registry, version: Version, reason: str) -> tuple[str, str | None]:
    if (now := registry.aliased(CHAMPION)) is None or now.number != version.number:
        return f"Version {version.number} is not the champion, so nothing was moved", None
    before = registry.champions()[-2:][:1]
    if before != [version.number] and "alarm" in registry.version(before[0]).tags:
        return f"Nothing was moved: version {before[0]}, the champion before, has an alarm of its own", None
    try:
        old, new = registry.roll_back(f"alarm: {reason}")
    except AdaptError as error:
        return f"Nothing was moved: {error}", None
    return f"The champion is version {new} again, no longer {old}", new


def _page(model: str, watching: Watching, done: str) -> str:
    monitor, alarm = watching.monitor, watching.monitor.alarm
    assert alarm is not None
    lines = [("signal", "evidence, log10", "what it would say"), ("---", "---:", "---")]
    lines += [(name, f"{value:.2f}", SIGNALS[name]) for name, value in monitor.evidence.items()]
    parts = [
        f"# Alarm: {inline(model)}",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC. After {alarm.example:,} examples: {sentence(alarm)}.",
        f"**{inline(done)}.**",
        "\n".join(map(row, lines)),
        f"An alarm is at an evidence of {monitor.limit:.2f}: without a change, at most "
        f"{100 * monitor.false_alarms:g} % of all streams ever get there, however long they are.",
        "## What to do",
        "1. Look at the latest examples: is it the camera, a form, a language, another group of people? What "
        "can be undone at the source is undone there.",
        "2. Label some of them, and measure: `adapt evaluate MODEL LATEST`. An alarm says that something has "
        "changed, not that predictions are worse.",
        "3. If they are worse: `adapt fit` on examples of before and now, `adapt promote`, and note here "
        "what it was.",
    ]
    return "\n\n".join(parts) + "\n"
