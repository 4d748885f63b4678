"""The one error users see for bad input: it names what is wrong and what to do."""


class AdaptError(ValueError):
    """Input, configuration or artifact that cannot be used; the message names the fault and the fix."""
