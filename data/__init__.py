"""Where examples come from, how they are divided among clients and scaled: one file per source.

    source         what a source is; ArraySource, one of arrays
    digits mnist femnist motionsense synthetic keras_sets        the sources there are
    npz table_source xy_folder image_folder                      your own: arrays, tables, images
    own_file       what these have in common
    targets        whether the labels of a file are classes or amounts
    writers        images by writer, each once
    catalogue      from --dataset to a source
    form           what a client's own file has in common with the server's
    identity       whether two processes mean the same data set
    partition      who holds what
    hold_out       which of its own examples a client tests on
    scaling        what a source's examples are scaled by
    sample_weights what their losses are multiplied by, where the data say so
    normalise statistics labels    four ways to scale, the statistics for it, class numbers
    columns        columns that belong together by name
    clients        what a process loads: a client's part, the test set, all counts
    parts          the clients' parts as files
    cache          parsed files, kept
    plot           the label distribution as a picture
    readers        file formats

Importing it is cheap; pandas and Flower Datasets are loaded when a source or partitioner needs them.
"""

from fedkeras.data.catalogue import built_in_name, is_file, kind_of, needs_no_files, open_source
from fedkeras.data.clients import (
    Description,
    client_statistics,
    describe,
    label_counts,
    learns_scaling,
    load_client,
    load_test,
    own_normaliser,
    own_rows,
    pooled_normaliser,
    sample_weights_of,
    weights_said,
)
from fedkeras.data.form import DataForm, form_of, told
from fedkeras.data.identity import SourceIdentity, identity_of
from fedkeras.data.partition import Partition, partition
from fedkeras.data.parts import write_parts
from fedkeras.data.scaling import scaled
from fedkeras.data.source import ArraySource, ClientExamples, Examples, Source

__all__ = [
    "ArraySource",
    "ClientExamples",
    "DataForm",
    "Description",
    "Examples",
    "Partition",
    "Source",
    "SourceIdentity",
    "built_in_name",
    "client_statistics",
    "describe",
    "form_of",
    "identity_of",
    "is_file",
    "kind_of",
    "label_counts",
    "learns_scaling",
    "load_client",
    "load_test",
    "needs_no_files",
    "open_source",
    "own_normaliser",
    "own_rows",
    "partition",
    "pooled_normaliser",
    "sample_weights_of",
    "scaled",
    "told",
    "weights_said",
    "write_parts",
]
