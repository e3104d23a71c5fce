"""Model files that no Keras writes: each is refused in one line, before it is read, built or run."""

import json
import time
import zipfile
from pathlib import Path

import crafted_files
import h5py
import keras
import numpy as np
import pytest
from crafted_files import CONFIGURATIONS, CONTAINERS, GROWN, dense, keras_file, sequential, weights
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.models import file_info
from fedkeras.models.architecture import config_difference, config_of
from fedkeras.models.file_check import check_file
from fedkeras.models.file_child import check_in_child, faults_of
from fedkeras.models.parameter_budget import parameter_budget
from fedkeras.models.trusted_code import code_in


def test_the_files_are_good_ones_but_for_what_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    keras_file(path, **{"assets/layers/v.txt": b"a\nb"})
    assert check_file(path).numbers == 8 and code_in(path) == []
    assert models.load(path)(np.ones((1, 3), "float32")).numpy().tolist() == [[3, 3]]


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_refused_by_its_headers(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.keras"
    craft, said = CONTAINERS[name]
    craft(path)
    assert path.stat().st_size < 200_000
    began = time.process_time()
    for read in (file_info.read_config, models.load):
        with pytest.raises(UserError, match="cannot read the model file") as refused:
            read(path)
        assert said in str(refused.value) and "\n" not in str(refused.value)
    assert time.process_time() - began < 1


OF_HDF5 = [name for name in CONTAINERS if CONTAINERS[name][1].startswith(("lie in", "link to", "a view"))]


@pytest.mark.parametrize("name", OF_HDF5)
def test_the_installed_keras_refuses_what_leads_out_of_a_file(tmp_path: Path, name: str) -> None:
    """The lower bound of pyproject.toml: an older release puts the other file's bytes into the model."""
    path = tmp_path / "m.keras"
    CONTAINERS[name][0](path)
    with pytest.raises(ValueError):
        keras.saving.load_model(path)


@pytest.mark.parametrize("name", OF_HDF5)
def test_a_legacy_file_is_walked_as_well(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.h5"
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="dense")])
    model.save(path)
    models.load(path)
    keras_path = tmp_path / "x.keras"
    CONTAINERS[name][0](keras_path)
    with zipfile.ZipFile(keras_path) as archive:
        (tmp_path / "w.h5").write_bytes(archive.read("model.weights.h5"))
    with h5py.File(tmp_path / "w.h5", "r+") as crafted, h5py.File(path, "r+") as file:
        crafted.copy(crafted["layers"], file, name="layers", expand_soft=False)
    with pytest.raises(UserError, match="cannot read the model file") as refused:
        models.load(path)
    assert CONTAINERS[name][1] in str(refused.value)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_names_no_code(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.keras"
    config, said = CONFIGURATIONS[name]
    keras_file(path, config)
    assert any(said in need for need in code_in(path)), code_in(path)
    with pytest.raises(UserError, match="it needs"):
        models.load(path)


@pytest.mark.parametrize("name", GROWN)
def test_a_model_gets_no_more_weights_than_its_file_has_numbers_for(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.keras"
    keras_file(path, GROWN[name])
    assert path.stat().st_size < 20_000
    with pytest.raises(UserError, match="more weights than the file holds numbers"):
        models.load(path)


def test_a_model_of_too_many_layers_is_not_begun(tmp_path: Path) -> None:
    keras_file(tmp_path / "m.keras", sequential(sequential(*(dense(name=f"d{number}") for number in range(6000)))))
    with pytest.raises(UserError, match="layers, and no model has so many"):
        models.load(tmp_path / "m.keras")


def test_honest_models_stay_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that make weights in ways of their own; Bidirectional makes half of its own once more."""
    monkeypatch.setattr("fedkeras.models.parameter_budget.SPARE", 0)
    inputs = keras.Input((8, 4))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(inputs)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    x = layers.TimeDistributed(layers.Dense(50))(x)
    x = keras.Sequential([layers.SeparableConv1D(20, 3), layers.BatchNormalization(), layers.Flatten()])(x)
    model = keras.Model(inputs, layers.Dense(100)(x))
    with parameter_budget(model.count_params()):
        keras.saving.deserialize_keras_object(config_of(model))
    with pytest.raises(UserError, match="more weights"), parameter_budget(model.count_params() // 4):
        keras.saving.deserialize_keras_object(config_of(model))
    layers.Dense(10).build((None, 10**4))  # outside, nothing is counted


def test_a_length_that_lies_is_not_believed(tmp_path: Path) -> None:
    """The header says a few bytes, the stream gives 20 MB: no more is read than was said, or than a model's has."""
    path = tmp_path / "m.keras"
    crafted_files._packed("config.json", b"{}" + b" " * 20_000_000)(path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("config.json").file_size
    path.write_bytes(content.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    began = time.process_time()
    with pytest.raises(UserError, match="cannot read the model file"):
        file_info.read_config(path)
    assert time.process_time() - began < 1


def test_a_file_that_is_replaced_is_looked_at_again(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    keras_file(path)
    file_info.read_config(path)
    CONTAINERS["a soft link (#22900)"][0](path)
    with pytest.raises(UserError, match="link to another place"):
        file_info.read_config(path)


def test_files_of_others_are_opened_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = tmp_path / "good.keras", tmp_path / "bad.keras"
    keras_file(good)
    check_in_child(good)
    CONTAINERS["an external link (CVE-2026-1669)"][0](bad)
    with pytest.raises(UserError, match=r"bad\.keras: its '1' is a link to another file"):
        check_in_child(bad)
    monkeypatch.setattr("fedkeras.models.file_child.WALL_SECONDS", 0.05)
    other = tmp_path / "other.keras"
    keras_file(other)
    with pytest.raises(UserError, match="within the memory and the time it may take"):
        check_in_child(other)
    check_in_child(good)  # it is known
    good.write_bytes(bad.read_bytes())
    with pytest.raises(UserError, match="within the memory and the time it may take"):
        check_in_child(good)  # another file by that name is not


def test_many_files_are_looked_at_by_one_process_and_one_that_ends_it_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{name}.keras" for name in ("one", "kills", "two", "bad", "none")]
    for path in files[:4]:
        keras_file(path)
    CONTAINERS["groups in a circle"][0](files[3])
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "sys.addaudithook(lambda event, args: event == 'open' and 'kills' in str(args[0]) and os._exit(9))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = faults_of(files)
    assert [bool(found[path]) for path in files] == [False, True, False, True, True]
    assert "within the memory and the time" in found[files[1]] and "in two places" in found[files[3]]
    assert "there is no model file" in found[files[4]]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_in_that_process_a_model_is_made_within_bounds(tmp_path: Path, suffix: str) -> None:
    keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(10)]).save(
        tmp_path / f"m{suffix}"
    )
    check_in_child(tmp_path / f"m{suffix}", build=True)
    keras_file(tmp_path / "grown.keras", GROWN["a layer of a billion"])
    with pytest.raises(UserError, match="more weights than the file holds numbers"):
        check_in_child(tmp_path / "grown.keras", build=True)


def own() -> keras.Model:
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Conv2D(3, 3, activation="relu")(inputs))
    x = layers.Add()([keras.Sequential([keras.Input((108,)), layers.Dense(5)])(x), layers.Dense(5)(x)])
    return keras.Model(inputs, layers.Softmax()(layers.Dropout(0.1)(x)))


def test_architectures_are_compared_as_json() -> None:
    mine, its = config_of(own()), config_of(own())  # other names, as another process gives them
    assert config_difference(mine, its) is None
    for change, said in [
        (lambda c: c["layers"][1]["config"].update(activation="tanh"), r"layer 2 .*: activation is tanh, not relu"),
        (lambda c: c["layers"][1].update(class_name="Conv1D"), "is a Conv1D, not a Conv2D"),
        (lambda c: c["layers"].pop(), "it has 7 layers, not 8"),
        (lambda c: c["layers"][0]["config"].update(batch_shape=[None, 9, 9, 1]), r"takes \[\[9, 9, 1\]\]"),
        (lambda c: c.update(output_layers=c["input_layers"]), "connected in another way"),
        (lambda c: c["layers"].__setitem__(2, 3), "layer 3 is none"),
        (lambda c: c.update(layers=3), "it has 0 layers, not 8"),
    ]:
        changed = json.loads(json.dumps(its))
        change(changed["config"])
        with pytest.raises(UserError, match=said):
            raise UserError(str(config_difference(mine, changed)))
    for junk in (None, [], {}, {"config": 3}, {"config": {"layers": [[]] * 8}}):
        assert config_difference(mine, junk) is not None


def test_the_weights_of_a_crafted_file_are_not_read_by_their_shape(tmp_path: Path) -> None:
    """The ratio is of what is stored: 100 kB of zeros in gzip are 16 MB, and no more."""

    def large(file: h5py.File) -> None:
        file.create_dataset("z", data=np.zeros(5_000_000, np.float32), chunks=(500_000,), compression="gzip")

    keras_file(tmp_path / "m.keras", content=weights(large))
    with pytest.raises(UserError, match="of its 'z' would become 20000000"):
        check_file(tmp_path / "m.keras")
