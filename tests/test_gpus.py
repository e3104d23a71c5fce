"""Which GPU a process sees. Without one here, what is set in real processes, with a stand-in for the driver's tool."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedkeras import gpus
from fedkeras.commands import simulation_ray
from fedkeras.compare.baselines import BaselinePool
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.flower.settings import check_run_config
from fedkeras.runtime import spawn

LISTED = """GPU 0: NVIDIA H100 (UUID: GPU-aaaa)
GPU 1: NVIDIA H100 (UUID: GPU-bbbb)
  MIG 3g.40gb     Device  0: (UUID: MIG-b1)
  MIG 3g.40gb     Device  1: (UUID: MIG-b2)
GPU 2: NVIDIA H100 (UUID: GPU-cccc)
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An nvidia-smi that lists two GPUs, first on the PATH."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "GPU 0: A (UUID: GPU-aaaa)"\necho "GPU 1: A (UUID: GPU-bbbb)"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    return tool


def test_the_variable_goes_before_the_drivers_list(driver: Path) -> None:
    assert gpus.visible_gpus() == ("GPU-aaaa", "GPU-bbbb")
    assert gpus.visible_gpus({gpus.VISIBLE: "3, GPU-x"}) == ("3", "GPU-x")
    assert gpus.visible_gpus({gpus.VISIBLE: "0,-1,2"}) == ("0",), "CUDA reads up to the first that is none"
    assert gpus.visible_gpus({gpus.VISIBLE: ""}) == ()
    driver.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert gpus.visible_gpus() == ()


def test_of_a_gpu_in_instances_these_are_seen() -> None:
    assert gpus._listed(LISTED) == ("GPU-aaaa", "MIG-b1", "MIG-b2", "GPU-cccc")


@pytest.mark.parametrize(
    ("processes", "share", "expected"),
    [
        (3, 0.0, [("a",), ("b",), ("a",)]),
        (4, 0.5, [("a",), ("b",), ("a",), ("b",)]),
        (8, 0.25, [("a",), ("b",)] * 4),
        (2, 1.0, [("a",), ("b",)]),
        (1, 2.0, [("a", "b")]),
        (6, 1 / 3, [("a",), ("b",)] * 3),
    ],
)
def test_processes_are_dealt_out_evenly(processes: int, share: float, expected: list) -> None:
    assert gpus.deal(processes, share, ("a", "b")) == expected


@given(st.integers(1, 40), st.sampled_from([0.0, 0.1, 0.125, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0]), st.integers(0, 6))
def test_no_gpu_is_promised_more_than_once(processes: int, share: float, count: int) -> None:
    found = [f"GPU-{number}" for number in range(count)]
    try:
        dealt = gpus.deal(processes, share, found)
    except UserError:
        assert processes * share > count - 1 or share >= 1, "refused though one GPU more than needed is there"
        return
    for gpu in found:
        if share:
            assert sum(gpu in seen for seen in dealt) * min(share, 1.0) <= 1 + 1e-9
    assert all(len(seen) == max(1, int(share)) for seen in dealt if found)


@pytest.mark.parametrize(
    ("processes", "share", "found", "said"),
    [
        (
            5,
            0.5,
            ("a", "b"),
            r"--gpus-per-client 0\.5 has room for 4 processes at once, not for 5, and this machine has 2",
        ),
        (1, 0.5, (), "there is none on this machine"),
        (2, 1.5, ("a", "b", "c"), r"is 1\.5: a part of one, such as 0\.25, or a whole number"),
    ],
)
def test_too_few_are_refused(processes: int, share: float, found: tuple, said: str) -> None:
    with pytest.raises(UserError, match=said):
        gpus.deal(processes, share, found)


def test_each_spawned_process_is_started_with_its_own(driver: Path, capsys: pytest.CaptureFixture) -> None:
    config = Config(spawn=3, num_partitions=6, gpus_per_client=0.5)
    seen, promised = [], []
    with pytest.raises(KeyboardInterrupt), spawn.clients(config, 1, lambda line: None, True) as processes:
        for process in processes:
            own = dict(
                word.split("=", 1)
                for word in Path(f"/proc/{process.pid}/environ").read_text().split("\0")
                if "=" in word
            )
            seen.append(own[gpus.VISIBLE])
            promised.append(own[gpus.NEEDS_GPU])
        raise KeyboardInterrupt
    assert seen == ["GPU-aaaa", "GPU-bbbb", "GPU-aaaa"] and promised == ["0.5"] * 3
    assert capsys.readouterr().out == "3 client processes on 2 GPUs: GPU-aaaa for 2, GPU-bbbb for 1\n"


def test_without_room_nothing_is_started(driver: Path, tmp_path: Path) -> None:
    config = Config(spawn=3, num_partitions=6, gpus_per_client=1.0)
    with pytest.raises(UserError, match="room for 2 processes"), spawn.clients(config, 1, lambda line: None, True):
        pytest.fail("it began")
    with pytest.raises(UserError, match="room for 2 processes"):
        BaselinePool(3, tmp_path, 1.0)
    with pytest.raises(UserError, match=r"--spawn N"), spawn.clients(Config(gpus_per_client=1.0), 1, print, True):
        pytest.fail("it began")


def test_workers_of_a_comparison_have_theirs(driver: Path, tmp_path: Path) -> None:
    pool = BaselinePool(2, tmp_path, 1.0)
    assert [own[gpus.VISIBLE] for own in pool._environments] == ["GPU-aaaa", "GPU-bbbb"]


def test_flowers_own_flag_is_named() -> None:
    with pytest.raises(UserError, match=r"client-resources-num-gpus=0\.25"):
        check_run_config(Config(gpus_per_client=0.25))
    check_run_config(Config())


def test_a_simulation_says_that_gpus_are_not_used(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "not used without --gpus-per-client" in simulation_ray.plan_of("", 0.0, Config()).said
    driver.write_text("#!/bin/sh\nexit 1\n")
    assert "GPU" not in simulation_ray.plan_of("", 0.0, Config()).said


@pytest.mark.slow
def test_a_process_that_was_promised_a_gpu_does_not_train_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """And TensorFlow is told to take no more memory than it uses."""
    code = (
        "import os; from fedkeras.tensorflow_import import import_tensorflow; "
        "print(os.environ['TF_FORCE_GPU_ALLOW_GROWTH']); import_tensorflow()"
    )
    monkeypatch.setenv(gpus.NEEDS_GPU, "0.5")
    monkeypatch.setenv(gpus.VISIBLE, "")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout == "true\n" and ended.returncode == 1
    assert "--gpus-per-client is 0.5, and TensorFlow finds no GPU in this process" in ended.stderr


@pytest.mark.slow
def test_training_stays_on_the_device_that_a_process_is_given() -> None:
    """Two devices made of one processor: nothing of a training is pinned to the first, and the bits are the same."""
    code = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.set_soft_device_placement(False)
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
from fedkeras import models
from fedkeras.learning import Learner
rng = np.random.default_rng(0)
x, y = rng.random((40, 8, 8, 1), np.float32), np.arange(40) % 10
found = []
for device in ("CPU:0", "CPU:1"):
    with tf.device(device):
        model = models.build("digits_cnn", input_shape=(8, 8, 1), num_classes=10, seed=1)
        learner = Learner(model, optimizer="adam", learning_rate=0.01)
        learner.train(*learner.place(x, y), epochs=2, batch_size=16, rng=np.random.default_rng(1))
    assert {v.value.device[-5:] for v in model.variables} == {device}, [v.value.device for v in model.variables]
    found.append(model.get_weights())
assert all(np.array_equal(*pair) for pair in zip(*found))
print("same")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert ended.stdout == "same\n", ended.stderr[-2000:]
