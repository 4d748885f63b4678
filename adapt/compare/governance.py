"""Which questions of frameworks a run or a model answers, and with which figure.

National Institute of Standards and Technology (2023), *Artificial Intelligence Risk Management Framework (AI
RMF 1.0)*, NIST AI 100-1, tables 3 and 4; Regulation (EU) 2024/1689 (*Artificial Intelligence Act*), annex IV.
Subcategories and headings are given in short. What only whoever deploys a model can say is left to them.
"""

from __future__ import annotations

from collections.abc import Mapping

from tasks.readers.shown import row

__all__ = ["DEPLOYER", "frameworks"]

#: What is not ours to say.
DEPLOYER = "for whoever deploys it to say"
NOT_HERE = "not measured here"
#: Subcategory, what it asks for, and the fact that answers it.
NIST = (
    ("MEASURE 2.1", "test sets, metrics and tools are documented", "tests"),
    ("MEASURE 2.3", "performance is measured under conditions like those of use", "score"),
    ("MEASURE 2.4", "behaviour is monitored in production", "monitoring"),
    ("MEASURE 2.5", "valid and reliable; limits of generalisation are documented", "limits"),
    ("MEASURE 2.7", "security and resilience are evaluated", "robustness"),
    ("MEASURE 2.9", "outputs are explained and interpreted in context", "calibration"),
    ("MEASURE 2.10", "privacy risk is examined", "privacy"),
    ("MEASURE 2.11", "fairness and bias are evaluated", "groups"),
    ("MEASURE 2.12", "environmental impact is assessed", "energy"),
    ("MEASURE 2.13", "the measures themselves are evaluated", "measures"),
    ("MANAGE 1.1", "whether it achieves its purpose and should proceed", "gate"),
    ("MANAGE 2.4", "means to supersede or deactivate it", "rollback"),
    ("MANAGE 3.2", "pretrained models are monitored", "pretrained"),
    ("MANAGE 4.1", "plans for monitoring after deployment", "monitoring"),
    ("MANAGE 4.3", "incidents are communicated", "incidents"),
)
EU = (
    ("1. General description: intended purpose", "purpose"),
    ("1. General description: version, and what it runs with", "version"),
    ("2. Development: methods, data and their origin", "data"),
    ("2. Development: validation, metrics of accuracy, robustness and bias", "score"),
    ("2. Development: robustness", "robustness"),
    ("2. Development: cybersecurity", "security"),
    ("3. Monitoring and control: capabilities and limits", "limits"),
    ("3. Monitoring and control: human oversight", "oversight"),
    ("4. Whether the metrics are appropriate", "measures"),
    ("5. Risk management", "risks"),
    ("6. Changes through the lifecycle", "changes"),
    ("9. Monitoring after it is on the market", "monitoring"),
)
#: What holds of everything that is made here.
ALWAYS = {
    "monitoring": "`adapt watch`, `adapt serve --watch`: false alarms at a stated rate (docs/operation.md)",
    "incidents": "a note among the artifacts of the run, tags of the version (docs/operation.md)",
    "rollback": "`adapt rollback`, or by itself on an alarm",
    "gate": "`adapt promote`: the regression gate (docs/models.md)",
    "changes": "versions in MLflow; `adapt history` says which gate stopped what",
    "measures": "intervals count evidence once (docs/statistics.md); where each fails: docs/trust.md",
}


def frameworks(said: Mapping[str, str]) -> str:
    """Two tables in Markdown, by facts: ``tests``, ``score``, ``limits``, ``robustness``, ``calibration``,
    ``privacy``, ``groups``, ``energy``, ``pretrained``, ``data``, ``version``; what is not ``said`` is not
    claimed.

    Example:
        >>> print(frameworks({"score": "97 % right"}).splitlines()[5])
        | MEASURE 2.3 | performance is measured under conditions like those of use | 97 % right |
    """
    known = {**ALWAYS, **{key: text for key, text in said.items() if text}}
    ours = {"purpose", "oversight", "risks"}
    nist = [(name, asks, known.get(key, NOT_HERE)) for name, asks, key in NIST]
    eu = [(name, known.get(key, DEPLOYER if key in ours else NOT_HERE)) for name, key in EU]
    return "\n".join(
        [
            "### NIST AI RMF 1.0",
            "",
            *map(row, [("subcategory", "asks for", "answer"), ("---", "---", "---"), *nist]),
            "",
            "### EU AI Act, annex IV",
            "",
            *map(row, [("heading", "answer"), ("---", "---"), *eu]),
        ]
    )
