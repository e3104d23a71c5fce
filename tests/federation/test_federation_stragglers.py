"""Simulated stragglers: partial work counts or is left out, by hand; the same clients straggle either way."""

import numpy as np
import pytest
from bare_runs import run_of
from toy_federation import ToyClients, content, floats

from fedkeras.callbacks import Callbacks
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation import registry
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.grids import federation_grid
from fedkeras.federation.records import record, views
from fedkeras.mods.chain import make_mods
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.rounds.server import RoundsWorkflow

CLIENTS, EPOCHS = 10, 4


def run(mods, rounds=1, **fields):
    """(final weight, {(round, cid): epochs that the message named}, results) of clients that add epochs * (cid + 1)."""
    asked, results = {}, []

    def train(cid, server_round, weights, config):
        epochs = config.get("local-epochs", EPOCHS)
        asked[server_round, cid] = config.get("local-epochs")
        moved = {name: array + np.float32(epochs * (cid + 1)) for name, array in weights.items()}
        return content(moved, cid + 1, loss=0.0)

    config = Config(
        num_partitions=CLIENTS, num_server_rounds=rounds, local_epochs=EPOCHS, seed=5, rest_after=0, **fields
    )
    grid = federation_grid(InProcessGrid(ToyClients(train), CLIENTS, config.to_run_config()))
    clients = ClientManager(grid, config, Callbacks([]))
    chain = make_mods(mods)
    chain.check(config)
    own = {"clients": clients, "mods": chain}
    context = run_of(grid, config, registry.load("fedavg"), [*chain.callbacks(), results.append], **own)
    context.callbacks.on_run_begin(context)
    final = RoundsWorkflow().train(context, record(floats(w=[0])))
    return views(final)["w"][0], asked, results


def stragglers(asked, server_round=1):
    return {cid: epochs for (number, cid), epochs in asked.items() if number == server_round and epochs is not None}


def mean(epochs_of):
    """FedAvg of what the clients {cid: epochs} add, client N with N + 1 examples."""
    return sum((cid + 1) ** 2 * epochs for cid, epochs in epochs_of.items()) / sum(cid + 1 for cid in epochs_of)


def test_partial_work_counts_as_it_is():
    final, asked, results = run("stragglers:share=0.5")
    partial = stragglers(asked)
    assert len(partial) == 5 and len(asked) == CLIENTS and not results[0].failures
    assert all(1 <= epochs <= EPOCHS for epochs in partial.values())
    assert final == pytest.approx(mean({cid: partial.get(cid, EPOCHS) for cid in range(CLIENTS)}))


def test_dropped_stragglers_are_the_same_clients_and_the_others_make_the_round():
    partial = stragglers(run("stragglers:share=0.5")[1])
    final, asked, results = run("stragglers:share=0.5,drop=true")
    assert {cid for _, cid in asked} == set(range(CLIENTS)) - set(partial) and not stragglers(asked)
    assert final == pytest.approx(mean({cid: EPOCHS for _, cid in asked}))
    assert results[0].failures == {
        cid: f"is a simulated straggler: {epochs} of 4 epochs when the round ended, and is dropped"
        for cid, epochs in partial.items()
    }
    assert (results[0].asked, results[0].answered) == (10, 5)


def test_nobody_straggles_at_share_zero_and_everybody_at_one():
    assert not stragglers(run("stragglers:share=0")[1])
    assert len(stragglers(run("stragglers:share=1")[1])) == CLIENTS


def test_who_and_how_far_changes_from_round_to_round_and_is_even():
    _, asked, _ = run("stragglers:share=0.9", rounds=60, fraction_evaluate=0.0)
    epochs = [number for number in asked.values() if number is not None]
    assert len(epochs) == 540
    counts = np.bincount(epochs, minlength=EPOCHS + 1)
    assert counts[0] == 0 and counts[1:].min() > 105, "135 each, give or take three deviations of 10"
    spared = np.bincount([cid for (_, cid), number in asked.items() if number is None], minlength=CLIENTS)
    assert spared.min() >= 1 and spared.max() <= 14, "each client is the one in ten now and then"


@pytest.mark.parametrize(
    ("mods", "fields", "said"),
    [
        ("stragglers:share=1.5", {}, "share must be from 0 to 1, not 1.5"),
        ("stragglers:drop=2", {}, "drop must be true or false, not 2"),
        ("stragglers:drop=true", {"rest_after": 3}, "needs --rest-after 0"),
        ("stragglers:share=1,drop=true", {"rest_after": 0}, "leaves nobody in a round"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(mods, fields, said):
    with pytest.raises(UserError, match=said):
        make_mods(mods).check(Config(**fields))
