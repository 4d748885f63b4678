"""The thread that sends a run's journal while the run goes on."""

from __future__ import annotations

import threading
import time

from adapt.tracking import trouble
from adapt.tracking.replay import Player
from adapt.tracking.store import silent

__all__ = ["Sender"]

#: Metrics wait for each other until there are so many operations, or for so many seconds.
BUFFER, BUFFER_SECONDS = 500, 10.0
#: After a failure: first and longest pause before the next attempt; at the end of a run the pause is short.
FIRST_PAUSE, LONGEST_PAUSE, LAST_PAUSE = 1.0, 60.0, 0.5
#: All waiting at the end of a run, in units of the longest wait for progress.
PATIENCE = 4


class Sender:
    """Sends a journal in the background; nothing that happens there reaches the work, or makes it wait.

    Attributes:
        failure: why the last attempt failed, None if it did not.
    """

    def __init__(self, player: Player) -> None:
        self.failure: Exception | None = None
        self._player = player
        self._changed = threading.Condition()
        self._waiting, self._since = 0, 0.0  # operations that wait for more, and since when
        self._appended, self._urgent = 0, True
        self._closing = self._given_up = self._done = False
        self._pause, self._retry = 0.0, 0.0  # after a failure: how long, and until when
        self._progress = 0.0
        self._thread = threading.Thread(target=self._run, name="adapt-tracking", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def notify(self, *, urgent: bool) -> None:
        """Something was appended; ``urgent``: it need not wait for more."""
        with self._changed:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting += 1
            self._appended += 1
            self._urgent |= urgent
            if urgent or self._waiting == 1 or self._waiting == BUFFER:
                self._changed.notify_all()

    def wait_for_id(self, seconds: float) -> str | None:
        """MLflow's id of the run: soon, or None after ``seconds`` or as soon as there is trouble."""
        with self._changed:
            over = self._done or self._given_up
            self._changed.wait_for(lambda: over or self._player.run_id or self.failure or self._done, seconds)
        return self._player.run_id

    def close(self, seconds: float) -> bool:
        """Send what is left, and end; whether everything was sent.

        A server that cannot be reached is given up at once, one that is slow after ``seconds`` without
        progress. The journal is closed, by the thread if a call of MLflow still keeps it.
        """
        with self._changed:
            self._closing, started = True, time.monotonic()
            self._progress = started
            self._changed.notify_all()
            while not self._done:
                now = time.monotonic()
                left = min(self._progress + seconds, started + PATIENCE * seconds) - now
                if left <= 0:
                    break
                self._changed.wait(left)
            self._given_up = not self._player.journal.complete
            self._changed.notify_all()
            if self._done:
                self._thread.join()
            return not self._given_up

    @property
    def done(self) -> bool:
        """Whether the thread has ended, and the journal is the caller's."""
        return self._done

    def _run(self) -> None:
        try:
            with silent():
                while self._turn():
                    pass
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()
                late = self._given_up
            if late:  # nobody waits any more
                self._player.journal.close()

    def _turn(self) -> bool:
        """Wait until something is to be sent, and send one piece; False: it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._given_up or self._due(), self._timeout())
            if self._given_up:
                return False
            if not self._due():
                return True
            # What is appended from here on may be missed; what fails from here on has failed at the end.
            appended, last = self._appended, self._closing
        try:
            more = self._player.step()
        except Exception as error:
            return self._failed(error, last)
        with self._changed:
            self.failure, self._pause, self._progress = None, 0.0, time.monotonic()
            if not more and appended == self._appended:
                self._waiting, self._urgent = 0, False
            self._changed.notify_all()
        return more or not last

    def _due(self) -> bool:
        if self._closing:
            return True
        if self._pause:
            return time.monotonic() >= self._retry
        waited = self._waiting and time.monotonic() - self._since >= BUFFER_SECONDS
        return bool(self._urgent or waited or self._waiting >= BUFFER)

    def _timeout(self) -> float | None:
        """Seconds after which something is due without anybody saying so."""
        if self._closing or not (self._pause or self._waiting):
            return None
        return max(0.0, (self._retry if self._pause else self._since + BUFFER_SECONDS) - time.monotonic())

    def _failed(self, error: Exception, last: bool) -> bool:
        over = last and not trouble.passing(error)
        with self._changed:
            self.failure = error
            self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
            self._retry = time.monotonic() + self._pause
            self._changed.notify_all()
            if last and not over:
                self._changed.wait_for(lambda: self._given_up, LAST_PAUSE)
        if over and not trouble.disconnected(error):
            self._player.abandon(trouble.text(error))
        return not over
