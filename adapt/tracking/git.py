"""Which commit a run was started from."""

import subprocess
from pathlib import Path

__all__ = ["git_state"]


def git_state(folder: Path | None = None) -> tuple[str, bool] | None:
    """``(sha, dirty)`` of the checkout around ``folder`` (default: the working directory).

    Dirty means changed or untracked files. None outside a checkout, before its first commit, and without git.
    """
    sha = _git("rev-parse", "--verify", "HEAD", folder=folder)
    status = _git("status", "--porcelain", folder=folder)
    return None if sha is None or status is None else (sha, bool(status))


def _git(*arguments: str, folder: Path | None) -> str | None:
    # Without optional locks a concurrent git command of the user is never in the way.
    command = ["git", "--no-optional-locks", *arguments]
    try:
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
