"""The names of the built-in models, without importing Keras: a server that needs no model stays light."""

DEFAULT_MODELS: dict[str, str] = {
    "digits": "digits_cnn",
    "mnist": "mnist_cnn",
    "femnist": "femnist_cnn",
    "motionsense": "motionsense_cnn",
}
"""Data set -> the model it is trained with when none is named."""

BUILT_IN: dict[str, str] = {
    "digits_cnn": "fedkeras.models.digits:digits_cnn",
    "mnist_cnn": "fedkeras.models.mnist:mnist_cnn",
    "mnist_2nn": "fedkeras.models.mnist:mnist_2nn",
    "mlp": "fedkeras.models.mnist:mlp",
    "femnist_cnn": "fedkeras.models.femnist:femnist_cnn",
    "leaf_cnn": "fedkeras.models.femnist:leaf_cnn",
    "motionsense_dense": "fedkeras.models.motionsense:motionsense_dense",
    "motionsense_cnn": "fedkeras.models.motionsense:motionsense_cnn",
    "lenet": "fedkeras.models.lenet:lenet",
    "autoencoder": "fedkeras.models.autoencoder:autoencoder",
}
"""Model -> `package.module:function`, called as any user's function is."""
