"""Where a model is cut in three for split learning, as `--split-at` says it, without importing Keras.

`FIRST,SECOND` names two layers, each the last of its part: M1 ends with FIRST, M2 ends with SECOND, M3 is the rest. A
layer is named as in `model.summary()`, or by its index in `model.layers` (-1: the last). Keras numbers the layers that
a process makes (`conv2d_3`), so only an index or a name that the model's author gave means the same everywhere.
"""

from fedkeras.errors import UserError

DEFAULT_CUTS: dict[str, str] = {
    "digits_cnn": "2,4",
    "mnist_cnn": "1,5",
    "mnist_2nn": "1,2",
    "femnist_cnn": "2,5",
    "leaf_cnn": "1,5",
    "motionsense_dense": "1,2",
    "motionsense_cnn": "1,7",
    "lenet": "1,6",
    "autoencoder": "1,3",
}
"""Built-in model -> where it is cut unless told. The client keeps the convolutions up to the first pool, where the
activations get smaller, or the first dense layer; and the last dense layer. `mlp` has two layers with weights only."""


def cut_points(model_name: str, split_at: str = "") -> tuple[str, str]:
    """The two layers of `split_at`, `FIRST,SECOND`; unset: the model's default. Raises UserError."""
    if model_name == "mlp":
        raise UserError("--model mlp has two layers with weights; split learning needs three: take mnist_2nn")
    text = split_at or DEFAULT_CUTS.get(model_name, "")
    if not text:
        raise UserError(
            f"--model {model_name} has no default cut; give --split-at FIRST,SECOND: the last layer of the client's "
            "first part and the last layer of the server's, by name or by index in model.layers"
        )
    points = [point.strip() for point in text.split(",")]
    if len(points) != 2 or not all(points):
        raise UserError(f"--split-at is '{split_at}'; it takes two layers with a comma between, such as 1,5")
    return points[0], points[1]
