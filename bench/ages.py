"""Which results are of code that has changed since: ``python -m bench.ages`` prints a line for each.

It is no error: a result is as good as the code it is of. But one of many commits ago should be measured anew
before something is concluded from it.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from bench.lib.age import age, depends, git
from bench.lib.paths import ROOT


def lines(root: Path = ROOT) -> Iterator[str]:
    """One for each result that is not of today's code; a single one if git cannot say."""
    shallow = git("rev-parse", "--is-shallow-repository", root=root)
    if shallow != "false":
        why = "this is no checkout of git" if shallow is None else "the history of this checkout is shallow"
        yield f"ages of results: unknown, {why}"
        return
    for path in sorted((root / "bench" / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if "commit" not in result:
            continue  # the single runs behind a result
        found = age(result["commit"], depends(result["name"], root), root)
        where = f"{path.stem}: measured {result['date']} at {(result['commit'] or 'no commit')[:8]}"
        if found is None:
            yield f"{where}, which is not in the history"
        elif found:
            yield f"{where}; commits since then to what it measures: {found}"


def main() -> None:
    for line in lines():
        print(line)


if __name__ == "__main__":
    main()
