"""What is not trained here is refused by name, of a model and of a file alike, everywhere a model is taken up."""

from pathlib import Path

import keras
import pytest
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.learning import Learner
from fedkeras.models.requirements import require_trainable_file
from fedkeras.provisioning.model_file import open_model_file


def two_inputs() -> keras.Model:
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    return keras.Model({"left": left, "right": right}, layers.Dense(3)(layers.Concatenate()([left, right])))


def two_outputs() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, [layers.Dense(3, name="kind")(inputs), layers.Dense(1, name="age")(inputs)])


def stateful() -> keras.Model:
    rnn = layers.Bidirectional(layers.LSTM(2, stateful=True), name="memory")
    return keras.Sequential([keras.Input(batch_shape=(8, 5, 4)), rnn, layers.Dense(3)])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (two_inputs, r"the model has 2 inputs \(left, right\), and an example is one array here"),
        (two_outputs, r"the model has 2 outputs \(kind, age\), and an example has one target here"),
        (stateful, r"layer '.*(memory|lstm).*' is stateful: .* make it with stateful=False"),
    ],
)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_inputs_outputs_and_state_are_named(tmp_path: Path, make, said: str, suffix: str) -> None:
    model, path = make(), tmp_path / f"m{suffix}"
    model.save(path)
    for take in (
        lambda: Learner(model),
        lambda: models.cut(model, 0, 1),
        lambda: models.build(str(path), input_shape=(4,), num_classes=3),
        lambda: require_trainable_file(path),
        lambda: open_model_file(str(path)),  # before a server hands it out
    ):
        with pytest.raises(UserError, match=said) as caught:
            take()
        assert "\n" not in str(caught.value)


def test_one_of_each_may_have_a_name_and_nothing_to_train_is_refused() -> None:
    inputs = keras.Input((4,), name="x")
    named = keras.Model({"x": inputs}, {"kind": layers.Dense(3, activation="softmax")(inputs)})
    assert Learner(named).takes == (4,)
    with pytest.raises(UserError, match="the model has no weights"):
        Learner(keras.Sequential([keras.Input((4,)), layers.Softmax()]))
