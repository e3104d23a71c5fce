"""Bytes of compressed rounds, counted on the socket between a server and a client."""

import shutil

import numpy as np
import pytest
from processes import ROOT, starting, until
from proxy import DOWN, UP, Proxy

from fedkeras.config import Config
from fedkeras.federation.records import record
from fedkeras.flower.identity import SERVER_NODE_ID, act_as
from fedkeras.mods.chain import make_mods
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.strategies.fedavg import FedAvg
from fedkeras.workflows.rounds.server import RoundsWorkflow
from fedkeras.workflows.run_setup import bare_run

SIZE = 1_000_000
SIXTEEN = "compress:up=float16,down=bfloat16"
EIGHT = "compress:up=int8,down=int8"
LARGEST = "compress:topk=0.01,up=float16,down=float16"


def a_round(grid, mods, chain=None):
    """One round of one client; the mods."""
    config = Config(
        num_partitions=1, num_server_rounds=1, fraction_evaluate=0, central_evaluation=False, mods=mods, seed=3
    )
    chain = chain or make_mods(mods)
    chain.choose(config)
    run = bare_run(grid, config, FedAvg(), mods=chain, callbacks=chain.callbacks()).knowing(("w", "b"))
    run.clients.wait()
    start = record({"w": np.linspace(-1, 1, SIZE, dtype="f"), "b": np.zeros(10, "f")})
    RoundsWorkflow().train(run, start)
    return chain


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """{mods: (bytes down, bytes up)} on the socket, of one client's round each."""
    act_as(SERVER_NODE_ID, 1)
    found, config = {}, Config(num_partitions=1, seed=3)
    folder = tmp_path_factory.mktemp("client")
    grids = GrpcGrid("127.0.0.1", 0, 1, config.for_clients())
    with grids as grid, Proxy(grid.address) as proxy, starting(folder) as start:
        start.python(ROOT / "benchmarks" / "compression_client.py", proxy.address, 0)
        for mods in ("", SIXTEEN, EIGHT, LARGEST):
            before = dict(proxy.passed)
            a_round(grid, mods)
            found[mods] = tuple(proxy.passed[way] - before[way] for way in (DOWN, UP))
        grid.stop()
    return found


@pytest.mark.parametrize(
    ("mods", "down", "up"),
    [
        (SIXTEEN, 0.5, 0.5),
        (EIGHT, 0.25, 0.25),
        (LARGEST, 0.5, 0.01),
    ],
)
def test_the_bytes_on_the_socket_are_half_a_quarter_and_a_hundredth(counted, mods, down, up):
    plain, compressed = counted[""], counted[mods]
    assert plain[0] == pytest.approx(4 * SIZE, rel=0.01) and plain[1] == pytest.approx(4 * SIZE, rel=0.01)
    for found, whole, share in zip(compressed, plain, (down, up), strict=True):
        assert found == pytest.approx(share * whole, rel=0.01, abs=5000), "within 1 %, and what messages have besides"


@pytest.mark.slow
def test_a_client_that_was_killed_goes_on_from_what_it_had_not_sent(tmp_path, caplog):
    """The same machine has it; another, or one whose folder is gone, begins without and says so."""
    act_as(SERVER_NODE_ID, 1)
    config = Config(num_partitions=1, seed=3)
    with GrpcGrid("127.0.0.1", 0, 1, config.for_clients(), reconnect_grace=0) as grid, starting(tmp_path) as start:
        chain, lost = None, []
        for _ in range(3):
            client = start.python(ROOT / "benchmarks" / "compression_client.py", grid.address, 0)
            chain = a_round(grid, LARGEST, chain)
            lost.append(chain.mods[0].residuals.lost)
            client.popen.kill()
            until(lambda: not grid.cids(), "the client's end")
            if len(lost) == 2:
                shutil.rmtree(tmp_path / "cache")
    assert lost == [0, 0, 1] and "client 0 has lost what it had not sent yet" in caplog.text
