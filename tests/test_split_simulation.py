"""Split learning in Flower's simulation with real Ray, where no process keeps a client from message to message."""

import numpy as np
import pytest
from test_flower_simulation import ROOT, figures, python, run_folder

from fedkeras import models


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["shared", "sequential", "splitfed"])
def test_a_simulation_gives_what_grpc_gives(tmp_path, mode):
    flags = ["--split", mode, "--num-server-rounds", 2, "--batch-size", 64]
    found = []
    for name, command in {
        "ray": ["-m", "fedkeras", "simulate"],
        "grpc": [ROOT / "server.py", "--port", 0, "--spawn", 3],
    }.items():
        (tmp_path / name).mkdir()
        done = python(tmp_path / name, *command, *flags)
        assert done.returncode == 0, done.stdout + done.stderr
        run = run_folder(tmp_path / name)
        found.append((models.get_weights(models.load(run / "model.keras")), figures(run)))
    (ray, rows), (grpc, others) = found
    assert ray.keys() == grpc.keys()
    for name, array in grpc.items():
        np.testing.assert_allclose(ray[name], array, rtol=0, atol=1e-6, err_msg=name)
    assert [(row["phase"], row["client"], row.get("bytes_up")) for row in rows] == [
        (row["phase"], row["client"], row.get("bytes_up")) for row in others
    ]
