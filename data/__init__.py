"""Where examples come from, how they are divided among clients and scaled: one file per source.

Importing it is cheap; pandas and Flower Datasets are loaded when a source or partitioner needs them.
"""

from fedkeras.data.catalogue import open_source
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
    "describe",
    "load_client",
    "load_test",
    "open_source",
    "partition",
]
