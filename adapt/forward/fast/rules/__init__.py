"""Derivatives of torch's operators, as linear maps of one tangent; grouped as torch's documentation is.

A rule computes the value once and gives ``push``, the derivative there (Griewank and Walther 2008,
*Evaluating Derivatives*, section 3.1); the engine applies it to every tangent. A new rule is one function in
one of these modules, and one row in the table of ``tests/operators.py``.
"""

from adapt.forward.fast.rules import (  # noqa: F401 (each fills the table of rules)
    arithmetic,
    attention,
    elementwise,
    linear,
    losses,
    metadata,
    normalization,
    pooling,
    products,
)

from adapt.forward.fast.rules import inplace  # isort: skip  # noqa: F401 (made from the rules above)
