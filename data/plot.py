"""The label distribution over clients as a picture, drawn by Flower Datasets from our partition."""

from pathlib import Path
from typing import TYPE_CHECKING

from fedkeras.data.clients import Description

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner
    from matplotlib.figure import Figure

FEW = 12  # clients up to which a heatmap has its numbers written in
MANY = 20  # more labels cannot be distinguished by colour, and more clients have no room for their names


def plot_labels(description: Description, path: Path) -> None:
    """Write a PNG: a stacked bar a client, or a heatmap for more than 20 classes.

    Raises OSError where `path` cannot be written.
    """
    figure = draw_labels(description)
    figure.savefig(path, format="png", dpi=120, bbox_inches="tight")


def draw_labels(description: Description) -> "Figure":
    """The picture as a matplotlib figure, for a notebook or a report."""
    from flwr_datasets.visualization import plot_label_distributions
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    clients, classes = description.counts.shape
    heat = classes > MANY
    # a figure of its own, not pyplot's: nothing to close, and no window system is needed
    figure = Figure(figsize=(min(7 + clients / 8, 18), 3 + classes / 6 if heat else 5))
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    plot_label_distributions(
        _as_partitioner(description),
        label_name="label",
        plot_type="heatmap" if heat else "bar",
        axis=axis,
        title=f"{description.source.name}: {description.partition.scheme}",
        legend=True,
        legend_title="Examples" if heat else "Label",
        legend_kwargs=None if heat else {"bbox_to_anchor": (1.0, 0.5), "loc": "center left"},
        plot_kwargs={"annot": clients <= FEW} if heat else None,
        cmap=None if heat else "tab20" if classes > 10 else "tab10",
    )
    axis.set_xlabel("Client")
    axis.tick_params(axis="y", rotation=0)
    if clients > MANY:
        every = -(-clients // MANY)
        offset = 0.5 if heat else 0.0  # a heatmap's cells are centred between whole numbers
        axis.set_xticks([cid + offset for cid in range(0, clients, every)], list(range(0, clients, every)))
    return figure


def _as_partitioner(description: Description) -> "Partitioner":
    """Our parts in the form that Flower Datasets' metrics and plots take."""
    from datasets import ClassLabel, Dataset, Features
    from flwr_datasets.partitioner import Partitioner

    class Ready(Partitioner):
        def load_partition(self, partition_id: int) -> Dataset:
            return self.dataset.select(description.partition.parts[partition_id])

        @property
        def num_partitions(self) -> int:
            return len(description.partition.parts)

    labels = Features({"label": ClassLabel(names=list(description.source.classes))})
    partitioner = Ready()
    partitioner.dataset = Dataset.from_dict({"label": description.source.labels}, features=labels)
    return partitioner
