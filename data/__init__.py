"""Where examples come from, how they are divided among clients and scaled: one file per source.

Importing it is cheap; pandas and Flower Datasets are loaded when a source or partitioner needs them.
"""

from data.catalogue import open_source
from data.clients import Description, describe, load_client, load_test
from data.partition import Partition, partition
from data.source import ArraySource, Client, Examples, Source

__all__ = [
    "ArraySource",
    "Client",
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
