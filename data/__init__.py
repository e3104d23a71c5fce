"""Where examples come from, how they are divided among clients and scaled: one file per source.

    source         what a source is; ArraySource, one of arrays
    digits mnist femnist motionsense synthetic npz keras_sets    the sources there are
    writers        images by writer, each once
    catalogue      from --dataset to a source
    partition      who holds what
    hold_out       which of its own examples a client tests on
    normalise statistics labels    scaling, the statistics for it, class numbers
    columns        columns that belong together by name
    clients        what a process loads: a client's part, the test set, all counts
    cache          parsed files, kept
    plot           the label distribution as a picture
    readers        file formats

Importing it is cheap; pandas and Flower Datasets are loaded when a source or partitioner needs them.
"""

from fedkeras.data.catalogue import built_in_name, open_source
from fedkeras.data.clients import Description, describe, load_client, load_test
from fedkeras.data.partition import Partition, partition
from fedkeras.data.source import ArraySource, ClientExamples, Examples, Source

__all__ = [
    "ArraySource",
    "ClientExamples",
    "Description",
    "Examples",
    "Partition",
    "Source",
    "built_in_name",
    "describe",
    "load_client",
    "load_test",
    "open_source",
    "partition",
]
