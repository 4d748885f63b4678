"""The version of the library, recorded in every artifact it writes."""

__version__ = "0.1.0"
