"""The same seed and threads give the same bits in another process."""

import subprocess
import sys

import pytest

SCRIPT = """
import hashlib, sys
from fedkeras import learning, models
learning.limit_threads(1)
learning.limit_threads(1)
import numpy as np
if sys.argv[1] == "second":  # other automatic names, another state of randomness
    models.build("lenet", input_shape=(28, 28, 1), num_classes=3)
    np.random.rand(7)
model = models.build("femnist_cnn", input_shape=(12, 12, 1), num_classes=5, seed=3)
learner = learning.Learner(model, optimizer="adam", learning_rate=0.01)
learning.limit_threads(1)
rng = np.random.default_rng(0)
x, y = rng.random((50, 12, 12, 1), "float32"), rng.integers(0, 5, 50)
outcome = learner.train(x, y, epochs=2, batch_size=16, rng=np.random.default_rng(1))
try:
    learning.limit_threads(2)
except RuntimeError as error:
    print(error)
digest = hashlib.sha256(repr((outcome, learner.evaluate(x, y))).encode())
for name, array in learner.get_weights().items():
    digest.update(name.encode() + array.tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_two_processes_train_the_same_bits_and_threads_are_settled_once():
    started = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, word], stdout=subprocess.PIPE, text=True)
        for word in ("first", "second")
    ]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in started]
    refusal, digest = outputs[0]
    assert outputs[1] == outputs[0]
    assert "already started in this process with threads: 1; it cannot change to 2" in refusal
    assert len(digest) == 64
