"""A client that has another data set than the server trains nothing, and both say why."""

import numpy as np
import pytest

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.errors import RunFailed
from fedkeras.runtime.in_process import InProcessGrid


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (range(30), "30 training examples here and 20 there"),
        (reversed(range(20)), "as many examples, but with other labels or owners, or in another order"),
    ],
)
def test_both_sides_say_which_data_differ(tmp_path, monkeypatch, labels, said):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)  # this process has begun with others
    for folder, y in (("server", np.arange(20)), ("client", np.array(list(labels)))):
        (tmp_path / folder).mkdir()
        x, y = np.zeros((len(y), 28, 28), np.uint8), y.astype(np.uint8) % 10
        np.savez(
            tmp_path / folder / "mnist.npz", x_train=x, y_train=y, x_test=x[:10], y_test=np.arange(10, dtype=np.uint8)
        )
    config = Config(dataset="mnist", data_dir=str(tmp_path / "server"), num_partitions=2)
    replies = []

    def watched(message, context):
        replies.append(client.app(message, context))
        return replies[-1]

    grid = InProcessGrid(watched, 2, config.for_clients(), {"data-dir": str(tmp_path / "client")})
    line = (
        f"--dataset mnist is another here, from {tmp_path / 'client'}, than at the server: {said}; give this client's"
    )
    with pytest.raises(RunFailed, match="no client can give the initial weights") as failed:
        server.train(grid, config, tmp_path / "runs")
    assert line in str(failed.value)
    assert len(replies) == 2 and all(reply.error.reason.startswith(line) for reply in replies)
