"""From the journal into MLflow, in order, each operation once, whatever happens in between."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from adapt.tracking import log, trouble
from adapt.tracking.journal import JOURNAL_TAG, Journal, Operation
from adapt.tracking.store import ARTIFACTS, open_experiment, prepare_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["PROBLEM_TAG", "Player"]

PROBLEM_TAG = "tracking_problem"
#: Operations read at once.
AHEAD = 1000


class Player:
    """Sends a journal piece by piece, and notes in its state how far it has got.

    Every operation may be done twice without harm (MLflow keeps equal points of a metric once), except making
    runs: those are looked for first if a process may have died while it made one.
    """

    def __init__(self, journal: Journal, uri: str | None = None) -> None:
        """``uri`` replaces that of the journal."""
        self.journal = journal
        self._uri = journal.header["uri"] if uri is None else uri
        self._client: MlflowClient | None = None

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run, None until it was made."""
        found: str | None = self.journal.state["runs"].get("")
        return found

    @property
    def refused(self) -> str | None:
        """The first thing that MLflow did not take, and how many more there are; None: it took everything."""
        refused: list[str] = self.journal.state["refused"]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        return f"{refused[0]}{more}" if refused else None

    def step(self) -> bool:
        """Send the next operation, or as many metrics as MLflow takes at once; False: there is nothing left.

        Raises:
            Exception: what kept MLflow from recording it; the next call tries the same again.
        """
        ahead = self.journal.read(self.journal.state["position"], AHEAD)
        if not ahead:
            return False
        client = self._client or self._connect()
        operation, position = _merged(ahead)
        self._do(client, operation)
        self._note(operation, position)
        return True

    def abandon(self, problem: str) -> None:
        """The rest is not sent now: what is over must not look as if it were running, as far as that can be
        said; nothing of this is noted, but that there is a tag to remove."""
        client, ends = self._client, {}
        for operation in self.journal.operations():
            if operation["do"] == "end":
                ends[operation["run"]] = operation
        if client is None:
            return
        for run, run_id in self.journal.state["runs"].items():
            if run in self.journal.state["ended"]:
                continue
            status = ends[""]["status"] if run == "" and "" in ends else "FAILED"
            with suppress(Exception):
                client.set_terminated(run_id, status, ends.get("", {}).get("time"))
        with suppress(Exception):
            client.set_tag(self.journal.state["runs"][""], PROBLEM_TAG, problem)
            self.journal.state["problem"] = True
            self.journal.save()

    def _connect(self) -> MlflowClient:
        from mlflow import MlflowClient

        state, root = self.journal.state, self.journal.root
        uri = prepare_store(root, self._uri)
        client = MlflowClient(tracking_uri=uri)
        artifacts = root / ARTIFACTS if uri.startswith("sqlite:") else None
        experiment = open_experiment(client, self.journal.header["experiment"], artifacts)
        if state.get("uri", self._uri) != self._uri:  # another store knows nothing of what this one was sent
            state.update(position=0, over=False, problem=False, runs={}, ended=[], refused=[], look=True)
        state.update(uri=self._uri, experiment=experiment)
        self._client = client
        return client

    def _do(self, client: MlflowClient, operation: Operation) -> None:
        run, state = operation["run"], self.journal.state
        if operation["do"] in ("open", "child"):
            self._create(client, operation)
            return
        try:
            if operation["do"] == "reopen":
                self._reopen(client)
            if operation["do"] == "end" and run == "":
                self._tag_problem(client)
            log.apply(client, state["runs"][run], operation, self.journal.file)
        except Exception as error:
            if trouble.disconnected(error) or not trouble.refusal(error):
                raise
            state["refused"].append(trouble.text(error))
            if operation["do"] == "end" and run == "":
                self._tag_problem(client)

    def _reopen(self, client: MlflowClient) -> None:
        """The run, or a new one if it was deleted."""
        state = self.journal.state
        found = _there(client, state["runs"].get(""))
        if found is None:
            state["runs"].pop("", None)
            self._create(client, self.journal.header)
        elif state.pop("adopted", False):  # what the journal that is gone had made is found by its tag
            state |= {"journal": found.data.tags.get(JOURNAL_TAG), "look": True}

    def _create(self, client: MlflowClient, operation: Operation) -> None:
        run, state = operation["run"], self.journal.state
        if run in state["runs"]:
            return
        mark = "/".join(filter(None, (state.get("journal") or self.journal.header["journal"], run)))
        tags = {**operation["tags"], JOURNAL_TAG: mark}
        if run:
            tags["mlflow.parentRunId"] = state["runs"][""]
        look = state.get("creating") == run or state.get("look")
        found = self._marked(client, mark) if look else []
        if not found:
            state["creating"] = run
            self.journal.save()
            made = client.create_run(
                state["experiment"], start_time=operation["time"], tags=tags, run_name=operation["name"]
            )
            # MLflow itself asks a server again if an answer was lost: both requests may have made a run.
            server = self._uri is not None and self._uri.startswith("http")
            found = (self._marked(client, mark) if server else []) or [made.info.run_id]
        for superfluous in found[1:]:
            client.delete_run(superfluous)
        state["runs"][run] = found[0]
        state.pop("creating", None)

    def _marked(self, client: MlflowClient, mark: str) -> list[str]:
        """Ids of the runs that were made for ``mark``: at most one, unless a server answered too slowly."""
        experiment = self.journal.state["experiment"]
        found = client.search_runs([experiment], f"tags.`{JOURNAL_TAG}` = '{mark}'")
        return sorted(run.info.run_id for run in found)

    def _tag_problem(self, client: MlflowClient) -> None:
        """Say on the run what is missing, or that nothing is missing any more."""
        state = self.journal.state
        if self.refused is not None:
            client.set_tag(state["runs"][""], PROBLEM_TAG, self.refused)
        elif state["problem"]:
            with suppress(Exception):  # it is gone already if the process died right after this
                client.delete_tag(state["runs"][""], PROBLEM_TAG)
        state["problem"] = self.refused is not None

    def _note(self, operation: Operation, position: int) -> None:
        state, run = self.journal.state, operation["run"]
        match operation["do"]:
            case "end":
                state["ended"] = sorted({*state["ended"], run})
                if run == "":
                    state["status"] = operation["status"]
            case "reopen":
                state["ended"] = [name for name in state["ended"] if name != run]
            case "mark":
                state["marks"] = sorted({*state["marks"], operation["name"]})
        state["over"] = "" in state["ended"]
        state["position"] = position
        self.journal.save()


def _merged(ahead: list[tuple[Operation, int]]) -> tuple[Operation, int]:
    """The first operation; metrics of one run that follow each other become one."""
    first, position = ahead[0]
    if first["do"] != "metrics":
        return first, position
    points = list(first["points"])
    for operation, after in ahead[1:]:
        same = operation["do"] == "metrics" and operation["run"] == first["run"]
        if not same or len(points) + len(operation["points"]) > log.MOST_METRICS:
            break
        points += operation["points"]
        position = after
    return {**first, "points": points}, position


def _there(client: MlflowClient, run_id: str | None) -> Run | None:
    """The run, unless it was deleted."""
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        found = client.get_run(run_id)
    except MlflowException as error:
        if trouble.disconnected(error) or not trouble.refusal(error):
            raise
        return None
    return found if found.info.lifecycle_stage == "active" else None
