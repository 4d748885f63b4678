"""Asking which commit a run starts from runs nothing that the checkout, or the environment, names."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from adapt.tracking import git_state

if shutil.which("git") is None:
    pytest.skip("git is not installed", allow_module_level=True)


def git(*arguments: str, folder: Path) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    who += ["-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Checkout:
    """One commit of one file, and a program that leaves a proof of having been run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.proof, self.program = folder / "checkout", folder / "PROOF", folder / "program"
        self.program.write_text(f"#!/bin/sh\ntouch '{self.proof}'\nexec cat\n")
        self.program.chmod(0o755)
        self.folder.mkdir()
        git("init", "--quiet", folder=self.folder)
        (self.folder / "file").write_text("1")
        self.commit()

    def commit(self) -> None:
        git("add", ".", folder=self.folder)
        git("commit", "--quiet", "--allow-empty", "--message=a", folder=self.folder)

    def set(self, key: str, value: str = "") -> None:
        git("config", key, value or str(self.program), folder=self.folder)

    def filtered(self, name: str) -> None:
        """Its file passes a filter, and must be looked into: it is as large as before, and newer."""
        (self.folder / ".gitattributes").write_text(f"file filter={name}\n")
        self.commit()
        os.utime(self.folder / "file", (10**9, 10**9))

    @property
    def ran(self) -> bool:
        there = self.proof.exists()
        self.proof.unlink(missing_ok=True)
        return there


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def monitor(at: Checkout) -> None:
    at.set("core.fsmonitor")


def clean(at: Checkout) -> None:
    at.filtered("evil")
    at.set("filter.evil.clean")


def process(at: Checkout) -> None:
    at.filtered("evil")
    at.set("filter.evil.process")


def required(at: Checkout) -> None:
    at.filtered("Evil.one")
    at.set("filter.Evil.one.clean")
    at.set("filter.Evil.one.required", "true")


def equals_sign(at: Checkout) -> None:
    at.filtered("a=b")
    at.set("filter.a=b.clean")


def included(at: Checkout) -> None:
    at.filtered("evil")
    (at.folder / ".git" / "more").write_text(f'[FILTER "evil"]\nclean = {at.program}\n')
    at.set("include.path", "more")


def worktree_config(at: Checkout) -> None:
    at.filtered("evil")
    at.set("extensions.worktreeConfig", "true")
    (at.folder / ".git" / "config.worktree").write_text(f'[filter "evil"]\nclean = {at.program}\n')


def attributes_apart(at: Checkout) -> None:
    clean(at)
    (at.folder / ".gitattributes").rename(at.folder / ".git" / "info" / "attributes")


def hook(at: Checkout) -> None:
    hooks = at.folder / "hooks"
    hooks.mkdir()
    shutil.copy(at.program, hooks / "post-index-change")
    at.set("core.hooksPath", str(hooks))
    os.utime(at.folder / "file", (10**9, 10**9))


def submodule(at: Checkout) -> None:
    inner = Checkout(at.folder / ".git")
    git("submodule", "--quiet", "add", str(inner.folder), "sub", folder=at.folder)
    at.commit()
    git("config", "core.fsmonitor", str(at.program), folder=at.folder / "sub")
    at.set("submodule.sub.ignore", "none")


def lacking_objects(at: Checkout, address: str) -> None:
    """A clone without some objects, which git fetches when it needs one."""
    at.program.write_text(at.program.read_text().replace("exec cat", "exit 1"))
    tree = git("rev-parse", "HEAD^{tree}", folder=at.folder)
    at.set("core.repositoryFormatVersion", "1")
    at.set("extensions.partialClone", "origin")
    at.set("remote.origin.promisor", "true")
    at.set("remote.origin.url", address)
    at.set("remote.origin.uploadpack")
    at.set("core.sshCommand")
    at.set("protocol.ext.allow", "always")
    (at.folder / ".git" / "index").unlink()
    (at.folder / ".git" / "objects" / tree[:2] / tree[2:]).unlink()


def fetched_here(at: Checkout) -> None:
    lacking_objects(at, str(at.folder))


def fetched_by_ssh(at: Checkout) -> None:
    lacking_objects(at, "ssh://localhost/nowhere")


def fetched_by_a_command(at: Checkout) -> None:
    lacking_objects(at, f"ext::{at.program}")


ATTACKS = (
    monitor,
    clean,
    process,
    required,
    equals_sign,
    included,
    worktree_config,
    attributes_apart,
    hook,
    submodule,
    fetched_here,
    fetched_by_ssh,
    fetched_by_a_command,
)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_nothing_that_a_checkout_names_is_run(attack: Callable[[Checkout], None], checkout: Checkout) -> None:
    attack(checkout)
    checkout.proof.unlink(missing_ok=True)  # making it may have run it
    git_state(checkout.folder)
    assert not checkout.ran
    subprocess.run(["git", "status"], cwd=checkout.folder, capture_output=True, timeout=30)
    assert checkout.ran, "git itself would have run it, or this test shows nothing"


@pytest.mark.parametrize("attack", [monitor, clean, process, required, included, submodule])
def test_the_commit_is_known_all_the_same(attack: Callable[[Checkout], None], checkout: Checkout) -> None:
    attack(checkout)
    checkout.commit()
    sha = git("rev-parse", "HEAD", folder=checkout.folder)
    assert git_state(checkout.folder) == (sha, False)
    (checkout.folder / "file").write_text("two")
    assert git_state(checkout.folder) == (sha, True)


def test_variables_lead_nowhere_else(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    theirs = Checkout(other)
    monitor(theirs)
    (other / "git-status").symlink_to(checkout.program)
    (other / "git").symlink_to(checkout.program)
    expected = git_state(checkout.folder)
    hostile = {
        "GIT_DIR": str(theirs.folder / ".git"),
        "GIT_WORK_TREE": str(theirs.folder),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": str(checkout.program),
        "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor'='{checkout.program}'",
        "GIT_EXEC_PATH": str(other),
        "GIT_TRACE": str(checkout.proof),
        "GIT_PAGER": str(checkout.program),
        "PATH": os.pathsep.join(("", ".", "../other", os.environ["PATH"])),
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(checkout.folder)
    shutil.copy(checkout.program, checkout.folder / ".git" / "git")
    assert git_state() == expected == git_state(checkout.folder)
    monkeypatch.chdir(other)
    git_state(checkout.folder)
    assert not checkout.ran and not theirs.ran


def test_a_folder_that_looks_like_a_repository_is_none(tmp_path: Path) -> None:
    """Such a folder can be part of a checkout, or of an archive, and has a configuration."""
    inner = Checkout(tmp_path)
    inner.set("core.bare", "true")
    monitor(inner)
    assert git("rev-parse", "--is-bare-repository", folder=inner.folder / ".git") == "true"
    bare = tmp_path / "pictures"
    shutil.copytree(inner.folder / ".git", bare)
    assert git_state(bare) is None and not inner.ran
