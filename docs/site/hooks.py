"""What the site has besides the pages of docs/: those of the folder above, a reference of every package, and
the files that pages link to.

A page of docs/ links to files beside docs/ as one would in the repository. Here they become pages of their
own, so that a site works where there is no repository, and a link that leads nowhere ends the build.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
#: Pages of the folder above, by what they are called here.
ABOVE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
#: A link to a file beside docs/: its path and an anchor.
OUTSIDE = re.compile(r"(?<=\]\()((?:\.\./)+[\w./-]+)(#[\w-]*)?(?=\))")
#: A link from the folder above, to a file of docs/ or another.
DOWN, BESIDE = (
    re.compile(r"(?<=\]\()docs/"),
    re.compile(r"(?<=\]\()(?![a-z]+:|#|\.\./)(?=[\w-]+[/.]|LICENSE)"),
)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".json": "json", ".sbatch": "bash"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    made = {here: _from_above((ROOT / name).read_text(encoding="utf-8")) for name, here in ABOVE.items()}
    nav = re.findall(r"reference/([\w.]+)\.md", str(config.nav))
    made |= {f"reference/{name}.md": f"# {name}\n\n::: {name}\n" for name in nav}
    pages = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for uri, text in {**pages, **made}.items():
        for target, _ in OUTSIDE.findall(text):
            if (path := _path(target, uri)) not in ABOVE and (content := _source(path)) is not None:
                made[f"source/{path}.md"] = content
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to files beside docs/ as links to their pages."""
    here = page.file.src_uri

    def inside(found: re.Match[str]) -> str:
        path = _path(found[1], here)
        return posixpath.relpath(ABOVE.get(path, f"source/{path}.md"), posixpath.dirname(here) or ".")

    return OUTSIDE.sub(inside, markdown)


def _path(target: str, uri: str) -> str:
    """Where a link of the page ``uri`` leads, from the folder above on."""
    return posixpath.normpath(posixpath.join("docs", posixpath.dirname(uri), target))


def _from_above(text: str) -> str:
    """A page of the folder above, with links as one of docs/ has them."""
    return BESIDE.sub("../", DOWN.sub("../docs/", text)).replace("](../docs/", "](")


def _source(path: str) -> str | None:
    """The page of a file, or of the names in a folder; None where there is neither: the build reports it."""
    where = ROOT / path
    if where.is_dir():
        names = sorted(child.name for child in where.iterdir() if not child.name.startswith((".", "__")))
        return f"# {path}/\n\n" + "\n".join(f"- `{name}`" for name in names)
    if not where.is_file():
        return None
    fence, language = "````", LANGUAGES.get(where.suffix, "text")
    return f"# {path}\n\n{fence}{language}\n{where.read_text(encoding='utf-8')}\n{fence}\n"
