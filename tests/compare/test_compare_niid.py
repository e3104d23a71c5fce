"""The benchmark's two labels a client are those of NIID-Bench, and its command line is checked."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import niid_bench
from fedkeras.config import Config
from fedkeras.data import ArraySource, partition

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("seed", [0, 42])
def test_shards_is_the_label_quantity_skew(seed):
    """Client N has label N and one more that is drawn; a label is divided evenly; with ten clients all is held."""
    labels = np.arange(1000) % 10
    source = ArraySource("made up", (np.zeros((1000, 1)), labels), (np.zeros((0, 1)), labels[:0]), list("0123456789"))
    made = partition(source, Config(partitioner="shards", num_partitions=10, labels_per_client=2, seed=seed))
    counts = np.stack([np.bincount(labels[part], minlength=10) for part in made.parts])
    assert made.left_out == 0 and ((counts > 0).sum(axis=1) == 2).all() and (counts.diagonal() > 0).all()
    for column in counts.T:
        held = column[column > 0]
        assert held.max() - held.min() <= 1


def test_settings_and_strategies_have_published_figures():
    assert all(set(figures) == set(niid_bench.SETTINGS) for figures in niid_bench.PUBLISHED.values())
    config = Config.from_flags([*niid_bench.FIXED, *niid_bench.SETTINGS["labels"]])
    assert (config.learning_rate, config.batch_size, config.proximal_mu, config.num_partitions) == (0.01, 64, 0.01, 10)


def test_an_unknown_setting_is_refused():
    command = [sys.executable, "-m", "benchmarks.niid_bench", "--settings", "iid,odd"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "there are iid, dirichlet, labels" in done.stderr
