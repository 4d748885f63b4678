"""Which commit a run was started from, asked so that nothing of the checkout is run.

The configuration of a repository can name programs, and whoever unpacks one has not read it. Git is asked
with those settings overruled, and gets of the environment what it needs.
"""

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["ask_git", "git_state"]

#: Whatever could start a program in a question about the state of a checkout, overruled.
SETTINGS = {
    "core.fsmonitor": "false",  # a program that is asked what has changed
    "core.hooksPath": os.devnull,
    "core.pager": "cat",
    "core.sshCommand": "false",
    "safe.bareRepository": "explicit",  # a folder that merely looks like a repository is none
}
#: Where git and the user's own settings are; nothing that points git elsewhere.
INHERITED = ("PATH", "HOME", "XDG_CONFIG_HOME", "USERPROFILE", "SYSTEMROOT", "TMPDIR", "TEMP")
ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "none",  # a clone that lacks objects would fetch them, by a program if it says so
    "GIT_NO_LAZY_FETCH": "1",  # the same, in recent versions
    "GIT_OPTIONAL_LOCKS": "0",  # a git command of the user that runs just now is never in the way
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


def git_state(folder: Path | None = None) -> tuple[str, bool] | None:
    """``(sha, dirty)`` of the checkout around ``folder`` (default: the working directory).

    Dirty means changed or untracked files, and submodules at another commit. Files that a filter of git
    translates (LFS) are compared as they lie there, since the filter is a program that the checkout may have
    named: after they were touched, they count as changed. None outside a checkout, before its first commit,
    and without git.
    """
    sha = ask_git("rev-parse", "--verify", "HEAD", folder=folder)
    filters = _without_filters(folder) if sha is not None else None
    if sha is None or filters is None:
        return None
    # In submodules git would start itself, without what is overruled here: their files are not looked at.
    status = ask_git("status", "--porcelain", "--ignore-submodules=dirty", folder=folder, settings=filters)
    return None if status is None else (sha, bool(status))


def _without_filters(folder: Path | None) -> dict[str, str] | None:
    """Settings that keep git from translating touched files by programs; None if there are none."""
    keys = ask_git("config", "--list", "--null", "--name-only", folder=folder)
    if keys is None:
        return None
    filters = {key.rpartition(".")[0] for key in keys.split("\0") if key.startswith("filter.")}
    if any("=" in name for name in filters):  # no such name can be given on the command line
        return None
    return {
        f"{name}.{key}": value
        for name in sorted(filters)
        for key, value in (("clean", ""), ("process", ""), ("required", "false"))
    }


def ask_git(*arguments: str, folder: Path | None, settings: dict[str, str] | None = None) -> str | None:
    """What git says in ``folder``, whose configuration ``SETTINGS`` and ``settings`` overrule; None if it
    fails, takes too long, or is not there."""
    program = _program()
    if program is None:
        return None
    overruled = SETTINGS | (settings or {})
    given = [part for key, value in overruled.items() for part in ("-c", f"{key}={value}")]
    try:
        found = subprocess.run(
            [program, "--no-pager", *given, *arguments],
            cwd=folder,
            env={name: os.environ[name] for name in INHERITED if name in os.environ} | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _program() -> str | None:
    """Git itself: no file of this name in the folder that is asked about, which an entry of PATH that is not
    absolute would find."""
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = shutil.which("git", path=os.pathsep.join(place for place in places if Path(place).is_absolute()))
    return found if found is not None and Path(found).is_absolute() else None
