"""A run's figures for Prometheus, by HTTP: `--metrics-port 9090`, and a server of Prometheus asks for /metrics there.

Names and units are Prometheus' own convention (seconds, `_total` for what only grows); docs/operations.md lists them.
What labels can hold is bounded: sources and parts are ours, clients and metrics are counted.
"""

import contextlib
import importlib.util
import logging
import math
import socket
import sys
import threading
from collections.abc import Collection, Iterator
from numbers import Real
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from fedkeras.address import is_loopback, require_free, shown
from fedkeras.callbacks import Callback, FinishedRound, Row
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports.headline import SOURCES, metric_names
from fedkeras.reports.history import BYTES, PARTS
from fedkeras.reports.run import data_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from fedkeras.workflows.base import RunContext

log = logging.getLogger(__name__)

MOST_CLIENTS = 1000
"""Clients that have a time series each; the failures of the others are counted together, as those of `other`."""
MOST_METRICS = 100
STATES = ("asked", "answered", "failed", "suspended", "left_out")
BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Seconds of a round."""
PATIENCE_SECONDS = 5.0
"""How long a connection may say nothing; a scrape is a matter of milliseconds."""


def check(config: Config) -> None:
    """Raise UserError where the package is missing, or nothing can listen there. Before anything waits for a client."""
    if not config.metrics_port:
        return
    # None stands in sys.modules for what must not be imported, and find_spec does not like it
    if sys.modules.get("prometheus_client", ...) is None or importlib.util.find_spec("prometheus_client") is None:
        raise UserError("--metrics-port needs the extra: pip install 'fedkeras[metrics]'")
    require_free(config.metrics_host, config.metrics_port, "metrics-")


@contextlib.contextmanager
def exporting(config: Config, run_name: str) -> Iterator[list[Callback]]:
    """Answer Prometheus meanwhile, if that is wanted; gives the callbacks to hang on the run. Raises UserError."""
    if not config.metrics_port:
        yield []
        return
    with MetricsExporter(config, run_name) as exporter:
        print(exporter, flush=True)
        yield [exporter.metrics]


class RunMetrics(Callback):
    """What happens in a run as metrics of `registry`. Needs prometheus-client."""

    def __init__(self, registry: "CollectorRegistry", config: Config, run_name: str) -> None:
        from prometheus_client import Counter, Gauge, Histogram, Info, ProcessCollector

        own = {"namespace": "fedkeras", "registry": registry}
        about = {
            "run": run_name,
            "dataset": data_of(config.to_run_config()),
            "strategy": config.strategy,
            "seed": str(config.seed),
        }
        Info("run", "Which run this is.", **own).info(about)
        Gauge("rounds_planned", "Rounds that the run is to have.", **own).set(config.num_server_rounds)
        self._round = Gauge("round", "The last round that is over; 0 before the first.", **own)
        self._rounds = Counter("rounds", "Rounds that were finished by this process.", **own)
        self._seconds = Histogram("round_seconds", "Wall time of a round.", buckets=BUCKETS, **own)
        self._parts = Counter("round_part_seconds", "Wall time of rounds by what it went to.", ["part"], **own)
        self._connected = Gauge("clients_connected", "Clients that were connected when last looked.", **own)
        Gauge("clients_expected", "Clients that the run has (num-partitions).", **own).set(config.num_partitions)
        self._phase = Gauge("phase_clients", "Clients in the phase under way, by state.", ["state"], **own)
        self._failures = Counter("client_failures", "Rounds in which a client failed.", ["client"], **own)
        self._bytes = Counter(
            "bytes", "Bytes of arrays from (up) and to (down) the clients that answered.", ["direction"], **own
        )
        self._loss = Gauge("loss", "Loss of the last round, by whose it is.", ["source"], **own)
        self._accuracy = Gauge("accuracy", "Accuracy of the last round, by whose it is.", ["source"], **own)
        self._metric = Gauge("model_metric", "A model's other metrics in the last round.", ["metric", "source"], **own)
        ProcessCollector(registry=registry)
        for part in PARTS:
            self._parts.labels(part)
        for direction in BYTES:
            self._bytes.labels(direction.removeprefix("bytes_"))
        self._run: RunContext | None = None
        self._metrics: set[str] = set()

    def on_run_begin(self, run: "RunContext") -> None:
        """Training begins, or goes on after a checkpoint."""
        self._run = run
        self._round.set(run.start.round if run.start else 0)

    def on_clients(self, connected: Collection[int], needed: int) -> None:
        """These are connected."""
        self._connected.set(len(connected))

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Collection[int], suspended: Collection[int]
    ) -> None:
        """A phase begins: who is asked is counted anew."""
        if self._run is not None:
            self._connected.set(len(self._run.grid.cids()))
        for state, count in zip(STATES, (len(cohort), 0, 0, len(suspended), 0), strict=True):
            self._phase.labels(state).set(count)

    def on_client_result(self, cid: int, row: Row) -> None:
        """A good answer."""
        self._phase.labels("answered").inc()

    def on_client_failure(self, cid: int, reason: str) -> None:
        """None."""
        self._phase.labels("failed").inc()

    def on_client_left_out(self, cid: int, reason: str) -> None:
        """It was late, or others were faster."""
        self._phase.labels("left_out").inc()

    def on_round_end(self, result: FinishedRound) -> bool:
        """The round's figures. It never ends the run."""
        self._round.set(result.round)
        if result.round:  # 0 is the model before any training
            self._rounds.inc()
            self._seconds.observe(result.seconds)
        for part, seconds in result.timing.items():
            self._parts.labels(part).inc(seconds)
        for cid in result.failures:
            self._failures.labels(str(cid) if cid < MOST_CLIENTS else "other").inc()
        for row in result.rows:
            if row["client"] == "all":
                for name in BYTES:
                    self._bytes.labels(name.removeprefix("bytes_")).inc(row.get(name, 0))
        for source, (phase, client) in SOURCES.items():
            for row in result.rows:
                if (row["phase"], row["client"]) == (phase, client):
                    self._set_figures(source, row)
        return False

    def _set_figures(self, source: str, row: Row) -> None:
        for name in metric_names([row]):
            value = float(row[name]) if isinstance(row[name], Real) else math.nan
            if name in ("loss", "accuracy"):
                (self._loss if name == "loss" else self._accuracy).labels(source).set(value)
            elif name in self._metrics or len(self._metrics) < MOST_METRICS:
                self._metrics.add(name)
                self._metric.labels(name, source).set(value)


class MetricsExporter:
    """Answers HTTP at --metrics-host and --metrics-port while it is used as a context manager.

    `metrics` is the callback to hang on the run.
    """

    def __init__(self, config: Config, run_name: str) -> None:
        """Raises UserError if nothing can listen there."""
        check(config)
        from prometheus_client import CollectorRegistry, make_wsgi_app

        registry = CollectorRegistry()
        self.metrics = RunMetrics(registry, config, run_name)
        self._host, self._port = config.metrics_host, config.metrics_port
        kind = _IPv6Server if ":" in self._host else _Server
        try:
            self._server = make_server(self._host, self._port, make_wsgi_app(registry), kind, _Handler)
        except OSError as error:  # somebody took it since it was looked at
            where = shown(self._host, self._port)
            raise UserError(f"cannot listen on {where} (--metrics-port): {error.strerror or error}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    def __enter__(self) -> "MetricsExporter":
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __str__(self) -> str:
        """Where it is, for a person and for Prometheus."""
        others = "" if is_loopback(self._host) else ", for whoever can reach it"
        return f"metrics for Prometheus: http://{shown(self._host, self._port)}/metrics{others}"


class _Server(ThreadingMixIn, WSGIServer):
    """A thread a connection: one that says nothing holds nobody else up."""

    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        """As wsgiref's, but for asking the network what this machine is called, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = map(str, self.server_address[:2])
        self.setup_environ()


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    """Says nothing on the terminal, and waits for nobody long."""

    timeout = PATIENCE_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)
