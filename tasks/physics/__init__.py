"""Simulated systems whose constants differ from environment to environment."""

from tasks.physics._environments import Environments

__all__ = ["Environments"]
