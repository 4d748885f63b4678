"""Docstrings as the site shows them: examples as code, and roles of Sphinx as names."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?([^`]+)`")
EXAMPLE = re.compile(r"^(\s*)Example:$", re.MULTILINE)


class Docstrings(Extension):
    """Changes the text of a docstring before it is taken apart."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Of every module, class, function and attribute."""
        if obj.docstring is not None:
            text = EXAMPLE.sub(r"\1Examples:", obj.docstring.value)
            obj.docstring.value = ROLE.sub(r"`\1`", text)
