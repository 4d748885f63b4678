"""Forward mode: push k tangents through a function in one pass, and gradients made from them."""

from adapt.forward.pushforward import ENGINES, Engine, directions, pushforward
from adapt.forward.shared import shared

__all__ = ["ENGINES", "Engine", "directions", "pushforward", "shared"]
