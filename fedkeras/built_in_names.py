"""The names of what is built in, for whoever must tell them from names of code or of files, and loads neither.

Each is what its registry holds: the data sets of `data.catalogue` and `data.keras_sets`, the models of `models.zoo`,
the mods of `mods.chain`, the values that `--mode` takes of `workflows.base`, the optimizers of `keras.optimizers`.
"""

DATA_SETS = (
    "digits", "mnist", "femnist", "motionsense", "synthetic", "synthetic:",
    "keras:mnist", "keras:fashion_mnist", "keras:cifar10", "keras:cifar100",
)  # fmt: skip
"""A name that ends in a colon is followed by options, which are numbers."""

MODELS = (
    "digits_cnn", "mnist_cnn", "mnist_2nn", "mlp", "table_mlp", "image_cnn", "logistic_regression", "femnist_cnn",
    "leaf_cnn", "motionsense_dense", "motionsense_cnn", "lenet", "autoencoder",
)  # fmt: skip

MODS = (
    "alie", "backdoor", "compress", "control-variates", "ditto", "dp", "dp-sgd", "fine-tuning", "ipm", "label-flip",
    "local-layers", "min-max", "noise", "secure-aggregation", "sign-flip", "stragglers",
)  # fmt: skip

WORKFLOWS = ("federated", "collect", "fedbuff")

OPTIMIZERS = {
    "adadelta": 0.001, "adafactor": 0.001, "adagrad": 0.001, "adam": 0.001, "adamax": 0.001, "adamw": 0.001,
    "ftrl": 0.001, "lamb": 0.001, "lion": 0.001, "muon": 0.001, "nadam": 0.001, "rmsprop": 0.001,
    "schedulefreeadamw": 0.0025, "sgd": 0.01,
}  # fmt: skip
"""Name -> Keras' own learning rate of it."""


def is_one_of(name: str, built_in: tuple[str, ...]) -> bool:
    """Whether `name` is among these, options behind it included."""
    return name in built_in or any(own.endswith(":") and name.startswith(own) for own in built_in)
