"""`fedkeras check [flags of server.py]`: everything that the server looks at before it gives a client anything to do.

Nothing is written and nobody is waited for. It ends with status 2 and one line where the server would.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedkeras import data, reports
from fedkeras.address import require_free
from fedkeras.checkout import program
from fedkeras.client_config import join_command
from fedkeras.commands.training_pace import measure_pace
from fedkeras.config import Config
from fedkeras.errors import UserError, complain
from fedkeras.fields import embedded
from fedkeras.flags import parse_flags
from fedkeras.flower import settings
from fedkeras.interactive.guide import command_of
from fedkeras.models import names, trainable_names
from fedkeras.reports.text_table import terminal_width, text_table
from fedkeras.runtime import tls
from fedkeras.runtime.passphrase import access_of_server
from fedkeras.workflows.base import Workflow, workflow_of
from fedkeras.workflows.preparation import Preparation, prepare

if TYPE_CHECKING:
    import keras

PROG = program("check")
MANY = 10
"""Of more clients than this only the smallest, the median and the largest are told."""
WIDTH = 80
"""Columns of what is printed where stdout is no terminal."""


@dataclass(frozen=True)
class CheckFlags:
    """Say what `server.py` with these flags would run, or what is wrong with them; nothing is run."""

    config: Config = embedded(Config)


def main(args: Sequence[str]) -> int:
    """Check and print, and return the exit status: 0 if the server would begin."""
    try:
        config = parse_flags(CheckFlags, list(args), PROG).config
        config.refuse(["resume", "app"], "is not for check: it looks at a new run of this project's own apps")
        workflow = workflow_of(config)
        where = _network(config)
        ready = prepare(workflow, config, threads=config.threads_per_client)
        _say(workflow, ready)
    except UserError as error:
        return complain(PROG, error)
    print(*where, sep="\n")
    print(f"nothing is wrong: {command_of(config)}")
    return 0


def _network(config: Config) -> list[str]:
    """Where the server would listen, how it is protected, how clients join. Raises UserError."""
    settings.check_flags(config)
    reports.check_extras(config)
    protection = tls.server_channel(config.host, access_of_server(config)).protection
    require_free(config.host, config.port)
    address = f"{config.host}:{config.port}"
    return [f"listens on {address}: {protection}", f"clients join with: {join_command(config, address)}"]


def _say(workflow: Workflow, ready: Preparation) -> None:
    """What would run: data and partition, model, where it is cut, what a round moves, how long it takes."""
    config, parts = ready.config, ready.description
    if parts is not None:
        source = parts.source
        shape = " x ".join(map(str, source.input_shape))
        count = f"{len(source.labels)} training examples" if config.deals else "examples"
        print(f"\ndata: {source.name}, {count} of shape {shape}, {_classes(source)}")
        tested = "" if ready.tested else " (not used)"
        print(f"central test set: {parts.central_test_size} examples{tested}\npartition: {parts.partition.scheme}")
        if config.deals:
            _print_sizes(dict(enumerate(zip(parts.train_sizes.tolist(), parts.test_sizes.tolist(), strict=True))))
    elif dealt := ready.dealt():
        train, test = dealt.values()
        print("\ndata: this server's tables, a share for each client")
        _print_sizes({cid: (train[cid], test[cid]) for cid in train})
    elif ready.trains:
        print("\ndata: each client's own, which this machine does not know")
    if (model := ready.build_model()) is not None:
        ready.mods.check_arrays(names(model), trainable_names(model))
        print(f"\nmodel: {ready.model}")
        model.summary(line_length=min(WIDTH, terminal_width() or WIDTH), print_fn=_print_compact)
    for sentence in workflow.preview(config):
        _print_wrapped(sentence)
    for warning in ready.warnings:
        _print_wrapped(f"warning: {warning}")
    if model is not None:
        _print_traffic(workflow, ready, model)
        _print_pace(workflow, ready, model)
    print()


def _classes(source: data.Source) -> str:
    if source.targets is not None:
        return f"{source.outputs} amount{'s' * (source.outputs > 1)} to learn"
    shown = ", ".join(source.classes[:MANY]) + (", ..." if len(source.classes) > MANY else "")
    return f"{len(source.classes)} classes: {shown}"


def _print_sizes(sizes: dict[int, tuple[int, int]]) -> None:
    """A line a client; of many, the smallest, the median and the largest."""
    rows = [(str(cid), str(train), str(test)) for cid, (train, test) in sizes.items()]
    if len(rows) > MANY:
        order = sorted(sizes, key=lambda cid: (sum(sizes[cid]), cid))
        named = {"smallest": order[0], "median": order[len(order) // 2], "largest": order[-1]}
        rows = [(f"{cid} ({name})", *map(str, sizes[cid])) for name, cid in named.items()]
        rows.append((f"all {len(sizes)}", *(str(sum(each)) for each in zip(*sizes.values(), strict=True))))
    print(*text_table([("client", "train", "test"), *rows]), sep="\n")


def _print_compact(text: str) -> None:
    print(text.rstrip())


def _print_wrapped(sentence: str) -> None:
    width = terminal_width()
    print(sentence if width is None else textwrap.fill(sentence, width, subsequent_indent="  "))


def _print_traffic(workflow: Workflow, ready: Preparation, model: "keras.Model") -> None:
    parts = ready.description
    dealt = parts is not None and ready.config.deals
    sizes = None if not dealt else list(zip(parts.train_sizes.tolist(), parts.test_sizes.tolist(), strict=True))
    moved = workflow.traffic(ready.config, model, sizes)
    if moved is not None:
        _print_wrapped(f"a round moves {_megabytes(moved.down)} to the clients and {_megabytes(moved.up)} back")


def _print_pace(workflow: Workflow, ready: Preparation, model: "keras.Model") -> None:
    """Measured with the whole model: what a client of split learning computes is a part of that."""
    if ready.description is None or ready.provision is not None or not ready.config.deals:
        print("seconds: not known here, since the clients' examples are theirs")
        return
    pace = measure_pace(ready.config, model, ready.description.train_sizes)
    if np.isfinite(pace.seconds):
        whole = " if it held the whole model" if workflow.keeps_client_state(ready.config) else ""
        _print_wrapped(
            f"client {pace.cid}, the largest, trains some {pace.seconds:.2g} s a round{whole}: {pace.batches} batches, "
            f"by {pace.measured} that were measured on this machine, graphs and messages aside"
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"
