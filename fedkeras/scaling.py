"""Whether a model is given scaled examples or raw ones: what `--normaliser default` means for it.

A function of the configuration alone, so server and clients find the same without a word between them.
"""

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor

from fedkeras import data, models
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.models.file_info import SUFFIXES
from fedkeras.models.input_kind import NUMBERS, InputKind, kind_of_file, kind_of_model
from fedkeras.tensorflow_import import import_tensorflow

SAID = {
    "integers": "the model takes whole numbers ({layer})",
    "scaled": "the model scales its examples by itself ({layer})",
    "masked": "the model masks a value of its own ({layer})",
}
"""Why examples are not scaled, by the kind of the model's input."""


@dataclasses.dataclass(frozen=True)
class Scaling:
    """`normaliser` is --normaliser's, or "none" where the model decides; `reason` is "" where it does not."""

    normaliser: str
    reason: str = ""


@functools.lru_cache(maxsize=16)  # a client asks for each message
def resolved(config: Config, build: bool = True, threads: int = 0) -> Config:
    """A copy in which `normaliser` is what the model asks for. Raises UserError; see `scaling_of`."""
    return dataclasses.replace(config, normaliser=scaling_of(config, build, threads).normaliser)


def resolved_by_client(config: Config) -> Config:
    """The same in a process that computes with the threads of a client."""
    return resolved(config, threads=config.threads_per_client)


@functools.lru_cache(maxsize=16)
def scaling_of(config: Config, build: bool = True, threads: int = 0) -> Scaling:
    """How this model wants its examples; of one that cannot be looked at here, as the flag says.

    A file is read as JSON; a function's model is built to be looked at, unless `build` is False. That is TensorFlow's
    first operation, after which its `threads` cannot be changed any more; 0: as they are. Raises UserError where
    --normaliser would make fractions of whole numbers that the model looks up.
    """
    found = _kind(config, build, threads)
    if found.kind == "numbers" or config.normaliser == "none":
        return Scaling(config.normaliser)
    why = SAID[found.kind].format(layer=found.layer)
    if config.normaliser == "default":
        return Scaling("none", f"none, since {why}")
    if found.kind == "integers":
        raise UserError(
            f"--normaliser {config.normaliser} makes fractions of the examples, and {why}; leave --normaliser out"
        )
    return Scaling(config.normaliser, f"{config.normaliser}, as --normaliser says, although {why}")


def _kind(config: Config, build: bool, threads: int) -> InputKind:
    """Of the configured model; of a built-in one, and of one that is not here, numbers."""
    name = config.model
    try:
        if name.endswith(SUFFIXES):
            return kind_of_file(name)
        if ":" in name and build and config.uses_catalogue:
            source = data.open_source(config)
            if threads:
                import_tensorflow()
                from fedkeras.learning import limit_threads

                limit_threads(threads)
            look = functools.partial(_kind_of_function, name, source.input_shape, source.outputs, config.seed)
            # Keras numbers layers by thread: the model that is trained is to have the names it would have without this
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(look).result()
    except Exception:  # noqa: BLE001 - whatever a user's file or function raises: whoever needs the model says it
        return NUMBERS
    return NUMBERS


def _kind_of_function(name: str, input_shape: tuple[int, ...], num_classes: int, seed: int) -> InputKind:
    return kind_of_model(models.build(name, input_shape=input_shape, num_classes=num_classes, seed=seed))
