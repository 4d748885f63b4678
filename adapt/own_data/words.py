"""What readers say, for somebody who types options and has no config."""

from __future__ import annotations

import re

__all__ = ["in_options"]

#: What readers say in the keys of a config or as arguments, and what it is here: the first that fits a place.
#: An empty one is nothing that can be set here.
_WORDS = (
    (r", or set task\.source\.encoding=(\S+)", r", or say so: --encoding \1 (encoding='\1' in Python)"),
    (r"task\.source\.encoding=", "encoding="),
    (r", or set task\.source\.quotes=false if [^:;]*", ""),
    (r" \(task\.source\.merge_case=true makes them one\)", ""),
    (
        r"check which column task\.source\.label_column names",
        "name another column of labels (--target, target= in Python)",
    ),
    (r" of at least 1 different texts", ""),
    (r"task\.source: text_column=(.*?), label_column=(.*?) and split_column=\S+", r"text \1 and target \2"),
    (r", or set delimiter", ""),
    (r"set decimal='(.)'", r"say so: --decimal \1 (decimal='\1' in Python)"),
    (r"set kind=classes", "add --as classes (kind='classes' in Python)"),
    (r"use kind=classes", "add --as classes (kind='classes' in Python)"),
    (
        r"list the column in categorical if it names something, else leave the zeros out, or list the column "
        r"in categorical or ignore",
        "leave the zeros out, or name the column with --categorical or --ignore (lists in Python)",
    ),
    (
        r"list (?:the column|it) in categorical or ignore",
        "name the column with --categorical or --ignore (lists in Python)",
    ),
    (r"list (?:the column|it) in (categorical|ignore)", r"name the column with --\1 (a list in Python)"),
)
#: Of these nothing can be set any more where a model reads more data: it reads them as the first.
_LATER = ((r", or say so: --\w+ \S+ \([^)]*\)", ""), (r", or name the column with --[^,;]*", ""))


def in_options(message: str, later: bool = False) -> str:
    """A message of a reader, with the options of ``adapt fit`` for the keys of a config.

    Args:
        later: of more data, that are read as those that were learned from; nothing can be set.

    >>> in_options("save the file as UTF-8, or set task.source.encoding=latin-1")
    "save the file as UTF-8, or say so: --encoding latin-1 (encoding='latin-1' in Python)"
    """
    for pattern, words in (*_WORDS, *(_LATER if later else ())):
        message = re.sub(pattern, words, message)
    return message
