"""What the card of a fit says: how good, how sure, for whom, at what cost, and what that answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapt.compare.governance import frameworks
from adapt.own_data.cost import InferenceCost
from adapt.own_data.score import Score
from adapt.version import __version__
from tasks.readers.shown import inline, row
from tasks.worse import WORSE

__all__ = ["card_sections"]


def card_sections(about: Mapping[str, Any]) -> str:
    """Markdown, by what is known of a fit; of fits by earlier versions less is, and of what somebody else has
    written perhaps nothing."""
    try:
        return _sections(about)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return "What is known of this fit is not written as this version writes it.\n"


def _sections(about: Mapping[str, Any]) -> str:
    parts = ["## How good it is", "", *_good(about)]
    if about.get("trust"):
        parts += ["", "## How sure it is", "", _sure(about["trust"])]
    if about.get("worse"):
        parts += ["", "## On worse examples", "", f"{_worse(about['worse'])}."]
    if about.get("groups"):
        parts += ["", "## Whom it serves how well", "", *_groups(about["groups"])]
    if doubtful := about.get("labels_that_look_wrong"):
        parts += ["", "## Labels that look wrong", "", *_doubtful(doubtful)]
    if about.get("inference"):
        parts += ["", "## What a prediction costs", "", f"{_cost(about)}."]
    parts += ["", "## Which questions it answers", "", frameworks(_facts(about)), ""]
    return "\n".join(parts)


def _good(about: Mapping[str, Any]) -> Iterator[str]:
    yield f"- {_score(about)}"
    yield f"- learned from {about['examples']:,} examples" + (
        f" of {about['classes']} classes" if about.get("classes") else ""
    )
    yield f"- {inline(about['network'])}; {inline(about['head'])}; method {inline(about['method'])}"
    yield f"- everything took {about['seconds']:.1f} s"


def _score(about: Mapping[str, Any]) -> str:
    return f"{Score(**about['score']).sentence()}, {inline(about['scored_on'])}"


def _sure(trust: Mapping[str, float]) -> str:
    return (
        f"How sure it says it is, and how often it is right, are {100 * trust['trust/ece']:.1f} points apart "
        f"on average (ECE; {100 * trust['trust/ece_expected']:.1f} where probabilities are right); −log p "
        f"{trust['trust/nll']:.3f}, Brier score {trust['trust/brier']:.3f}."
    )


def _worse(found: Mapping[str, Any]) -> str:
    clean, worse = (Score(**found[name]).sentence() for name in ("clean", "worse"))
    return f"{worse}, where as they are it is {clean} (worse are {WORSE})"


def _groups(found: list[dict[str, Any]]) -> Iterator[str]:
    yield row(("by", "group", "of", "score", "worse than all others by"))
    yield row(("---", "---", "---:", "---:", "---:"))
    for by in found:
        for group in by["groups"]:
            gap = (
                "too few"
                if group["gap_low"] is None
                else (f"{group['gap']:.3g} ({group['gap_low']:.3g} to {group['gap_high']:.3g})")
            )
            yield row((by["by"], group["name"], str(group["n"]), f"{group['score']:.3g}", gap))


def _doubtful(found: Mapping[str, str]) -> Iterator[str]:
    for name, said in found.items():
        yield f"- {inline(name)} {inline(said)}"


def _cost(about: Mapping[str, Any]) -> str:
    return InferenceCost(**about["inference"]).sentence()


def _facts(about: Mapping[str, Any]) -> dict[str, str]:
    facts = {
        "tests": f"{about['score']['n']:,} examples, {about['scored_on']}",
        "score": _score(about),
        "limits": "for examples like those of the fit; classes that it does not know are taken for others",
        "pretrained": about["network"],
        "data": f"{about['examples']:,} examples of whoever fitted it",
        "version": f"adaptive-behavior {__version__}",
    }
    if trust := about.get("trust"):
        facts["calibration"] = _sure(trust)
    if about.get("worse"):
        facts["robustness"] = _worse(about["worse"])
    if groups := about.get("groups"):
        worst = [(by["by"], by["groups"][0]) for by in groups]
        facts["groups"] = "; ".join(f"{by}: worst {it['name']} ({it['score']:.3g})" for by, it in worst)
    if about.get("inference"):
        facts["energy"] = _cost(about)
    return facts
