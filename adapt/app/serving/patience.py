"""Connections that neither ask nor listen are closed.

uvicorn waits for ever for a request that has been begun, or not even that, and for a client that does not
read its answer. As many of these as there may be connections, and nobody else is answered. The body of a
request has a limit of its own (:mod:`adapt.app.serving.http`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["PATIENCE", "Patient"]

#: Seconds for the head of a request, and for a client to go on reading.
PATIENCE = 10.0


class Patient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """HTTP as uvicorn speaks it, to those who say something."""

    _asked: asyncio.TimerHandle | None = None
    _read: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """There is a connection."""
        super().connection_made(transport)
        self._await_request()

    def on_response_complete(self) -> None:
        """A request was answered; another may come."""
        super().on_response_complete()
        self._await_request()

    def pause_writing(self) -> None:
        """The client has not read what was sent."""
        super().pause_writing()
        self._read = self.loop.call_later(PATIENCE, self.transport.abort)

    def resume_writing(self) -> None:
        """It has."""
        super().resume_writing()
        _cancel(self._read)

    def connection_lost(self, error: Exception | None) -> None:
        """There is none any more."""
        _cancel(self._asked)
        super().connection_lost(error)  # lets who waits to write go on
        _cancel(self._read)

    def _await_request(self) -> None:
        _cancel(self._asked)
        self._asked = self.loop.call_later(PATIENCE, self._give_up, self.cycle)

    def _give_up(self, last: Any) -> None:
        """Close, unless there has been a request since the ``last`` one, or that is still worked on."""
        if self.cycle is last and (last is None or last.response_complete):
            self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
