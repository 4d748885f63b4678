"""Which requests are let in: by the name that they address the server by, and by the page that sends them.

A web page that somebody has open in a browser can send requests to servers of the same machine and network.
What it cannot do is lie about itself. If the name of its own site is made to point here (DNS rebinding), this
name is in ``Host``; in all other cases its site is in ``Origin``. An address has no owner who could point it
elsewhere, so whoever uses one means this server.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["LOCAL", "Door", "door_for"]

#: Addresses and names of this machine for itself.
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Door:
    """Lets requests in.

    Args:
        names: that they may address the server by, in small letters.
        addresses: whether any address will do as well.
    """

    names: frozenset[str]
    addresses: bool

    def refusal(self, method: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and reason, or None."""
        host = headers.get("host", "")
        if not self._means_us(_hostname(f"//{host}")):
            return 400, (
                f"this server is not called {host[:100]!r}: use its address, or start it with --name and that"
            )
        if method in ("GET", "HEAD"):
            return None
        origin = headers.get("origin")
        named = origin is not None and _hostname(origin) in self.names - {*LOCAL}  # a proxy between the two
        if origin is not None and not named and origin.partition("://")[2].lower() != host.lower():
            return 403, "a page of another site sends this: use the page of this server, or a program"
        return None

    def _means_us(self, name: str | None) -> bool:
        return name is not None and (name in self.names or (self.addresses and _is_address(name)))


def door_for(host: str, names: Iterable[str] = ()) -> Door:
    """For a server that listens on ``host``.

    Args:
        names: besides that by which it is reached.
    """
    own = {name.lower() for name in names}
    if host.lower() in LOCAL:
        return Door(frozenset({*LOCAL, *own}), addresses=False)
    return Door(frozenset({*LOCAL, *own, host.lower(), socket.gethostname().lower()}), addresses=True)


def _hostname(url: str) -> str | None:
    """The name in an address, in small letters; None if it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
        return None if parts.username is not None or parts.path not in ("", "/") else parts.hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
