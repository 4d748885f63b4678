"""A hundred clients that show nobody their examples agree on a start in two rounds, under Flower.

    pip install "flwr[simulation]"    # in an environment of its own
    python examples/federated.py

Each client has ten moments of a vehicle of its own, on a slippery road. Of these it sends k² + k numbers a
round (`adapt.adapter.together`); what it gets is the z that all have come to. This is not private by itself.
Needs torch, this library and flwr, and no network; nothing is reported to those who make Flower or Ray.
"""

import os
from collections.abc import Sequence

os.environ["FLWR_TELEMETRY_ENABLED"] = os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before they are imported

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

import adapt
from adapt.adapter.together import Statistics
from adapt.inner import GaussNewton
from tasks import FunctionTasks, VehicleDynamics

ADAPTER = "mlp_vehicle_dynamics"
CLIENTS, MOMENTS, HELD_OUT, ROUNDS = 100, 10, 40, 2
VEHICLES = FunctionTasks(VehicleDynamics(), MOMENTS, HELD_OUT)
#: Numbers of vehicles, on the most slippery roads of a thousand: every other one is a client.
SLIPPERY = sorted(range(10 * CLIENTS), key=lambda i: VEHICLES.episode(i).meta.parameters["friction"])
FLEET, OTHERS = SLIPPERY[: 2 * CLIENTS : 2], SLIPPERY[1 : 2 * CLIENTS : 2]

client, server = ClientApp(), ServerApp()


@client.train()
def summarise(message: Message, context: Context) -> Message:
    """A client: what its moments say of the common z, and no moment."""
    own = VEHICLES.episode(FLEET[int(context.node_config["partition-id"])])
    z = message.content["start"].to_torch_state_dict()["z"]
    found = adapt.load(ADAPTER).statistics(own.support_x, own.support_y, at=z)
    return Message(packed(found), reply_to=message)


def packed(found: Statistics) -> RecordDict:
    """As records of Flower, but for z, which the server knows."""
    sums = ArrayRecord({"curvature": found.curvature, "gradient": found.gradient})
    counts = {"value": found.value, "examples": found.examples, "outputs": found.outputs}
    return RecordDict(
        {"sums": sums, "counts": MetricRecord(counts), "of": ConfigRecord({"adapter": found.adapter})}
    )


def unpacked(content: RecordDict, at: torch.Tensor) -> Statistics:
    """What a client packed, at the z it was asked at. `fit_statistics` checks it: it comes from others."""
    sums = content["sums"].to_torch_state_dict()
    return Statistics(at=at, **sums, **content["counts"], **content["of"])


@server.main()
def agree(grid: Grid, context: Context) -> None:
    """The server: ask all, add up, step, and say what the step is worth to those who were not asked."""
    adapter = adapt.load(ADAPTER)
    z = torch.zeros(adapter.state.k)
    report("shipped start", adapter, z)
    for turn in range(1, ROUNDS + 1):
        replies = ask(grid, RecordDict({"start": ArrayRecord({"z": z})}))
        z = adapter.fit_statistics([unpacked(content, z) for content in replies]).z
        report(f"after round {turn}", adapter, z)
    numbers = sum(it.numel() for it in replies[0]["sums"].to_torch_state_dict().values())
    records = sum(record.count_bytes() for record in replies[0].values())
    print(f"a client sent {numbers} numbers a round, {4 * numbers} bytes; {records} as records of Flower")


def ask(grid: Grid, content: RecordDict) -> Sequence[RecordDict]:
    """Send to every client; what all of them reply.

    Raises:
        RuntimeError: a client could not.
    """
    replies = list(grid.send_and_receive(Message(content, node, "train") for node in grid.get_node_ids()))
    for reply in replies:
        if reply.has_error():
            raise RuntimeError(f"client {reply.metadata.src_node_id}: {reply.error.reason}")
    return [reply.content for reply in replies]


def report(name: str, adapter: adapt.FewShotAdapter, z: torch.Tensor) -> None:
    """Print the squared error on the other vehicles from a start z, without and with moments of their own."""
    state = adapter.state
    start = adapter.replace(state=state._replace(origin=state.origin + state.basis @ z))
    alone = error(start.replace(solver=GaussNewton(steps=0)))
    print(f"{name:14} {alone:.4f}, with {MOMENTS} moments of their own {error(start):.4f}", flush=True)


def error(adapter: adapt.FewShotAdapter) -> float:
    """Mean squared error on the other vehicles."""
    found = []
    for one in map(VEHICLES.episode, OTHERS):
        task = adapter.fit(one.support_x, one.support_y)
        found.append((task.logits(one.query_x) - one.query_y).square().mean())
    return float(torch.stack(found).mean())


if __name__ == "__main__":
    print(f"squared error on {len(OTHERS)} other vehicles")
    run_simulation(server, client, CLIENTS, backend_config={"init_args": {"include_dashboard": False}})
