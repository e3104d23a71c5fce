"""Model files old and new: what comes back, and what is refused in one line."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.models import file_info


def small(outputs=3):
    return keras.Sequential([keras.Input((4,)), layers.Dense(5, activation="relu"), layers.Dense(outputs)])


def build(path, input_shape=(4,), num_classes=3):
    return models.build(str(path), input_shape=input_shape, num_classes=num_classes)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_save_and_load_keep_the_weights_and_the_loss(tmp_path, suffix):
    model = small()
    model.compile(loss="mse")  # which Keras 3 writes to a .h5 file and cannot read back
    models.save(model, tmp_path / f"m{suffix}")
    models.save(model, tmp_path / f"m{suffix}")  # over the first
    loaded = build(tmp_path / f"m{suffix}")
    assert keras.losses.get(loaded.loss) is keras.losses.mean_squared_error
    for name, array in models.get_weights(model).items():
        np.testing.assert_array_equal(models.get_weights(loaded)[name], array)
    assert [path.name for path in tmp_path.iterdir()] == [f"m{suffix}"]


def test_a_loss_object_with_options_survives_and_an_uncompiled_model_has_none(tmp_path):
    model = small()
    models.save(model, tmp_path / "plain.keras")
    assert not build(tmp_path / "plain.keras").compiled
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    models.save(model, tmp_path / "m.keras")
    assert build(tmp_path / "m.keras").loss.from_logits


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.keras"
    path.write_text("old")

    def torn(self, target):
        target.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(keras.Model, "save", torn)
    with pytest.raises(UserError, match=r"^cannot write .*m\.keras: disk full$"):
        models.save(small(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_where_nothing_can_be_written_is_one_line(tmp_path, suffix):
    (tmp_path / f"taken{suffix}").mkdir()
    (tmp_path / f"taken{suffix}" / "file").write_text("mine")
    for path in (tmp_path / "nowhere" / f"m{suffix}", tmp_path / f"taken{suffix}"):
        with pytest.raises(UserError, match=r"^cannot write .*: ") as raised:
            models.save(small(), path)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_file_is_not_run(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2), layers.Dense(3)]).save(path)
    with pytest.raises(UserError, match="cannot read the model file"):
        build(path)


def test_what_is_no_model_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"PK not a zip")
    (tmp_path / "broken.h5").write_bytes(b"not hdf5")
    for path, message in [
        (tmp_path / "none.keras", "there is no model file"),
        (tmp_path / "broken.keras", "cannot read the model file"),
        (tmp_path / "broken.h5", "cannot read the model file"),
    ]:
        with pytest.raises(UserError, match=message) as raised:
            build(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=r"must end in \.keras or \.h5"):
        models.save(small(), tmp_path / "m.pt")


def test_a_file_that_does_not_fit_the_data_says_both_shapes(tmp_path):
    models.save(small(), tmp_path / "m.keras")
    with pytest.raises(UserError, match=r"takes inputs of shape \(4,\); the data's is \(6,\)"):
        build(tmp_path / "m.keras", input_shape=(6,))
    with pytest.raises(UserError, match=r"outputs of shape \(3,\); the data has 10 classes"):
        build(tmp_path / "m.keras", num_classes=10)
    models.save(small(outputs=4), tmp_path / "auto.keras")
    assert build(tmp_path / "auto.keras", num_classes=10).output_shape == (None, 4)  # gives its input back


@pytest.mark.parametrize(
    ("takes", "row", "shape"),
    [
        ((28, 28, 1), (784,), (28, 28, 1)),  # columns may be an image
        ((784,), (28, 28), (784,)),
        ((None, 3), (5, 3), (5, 3)),
        (None, (7,), (7,)),  # the model does not say what it takes
        ((4,), (5,), None),
        ((None, 3), (5, 4), None),
        ((None, 3), (3,), None),
        ((8, 8, 3), (3, 8, 8), None),  # as many numbers, and others in each place
        ((8, 8, 1), (1, 8, 8), (8, 8, 1)),
        ((8, 8, 1), (4, 16), None),
        ((12, 128), (128, 12), None),
    ],
)
def test_whether_rows_of_data_go_into_a_model(takes, row, shape):
    x = np.zeros((2, *row))
    if shape is None:
        with pytest.raises(UserError, match="they do not fit"):
            file_info.input_shape(takes, row)
    else:
        assert file_info.input_shape(takes, row) == shape
    assert file_info.as_input(takes, x).shape == (2, *(shape or row))
    assert file_info.fits(takes or (None,), row) == (shape == row)
