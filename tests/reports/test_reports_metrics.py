"""--metrics-port: what Prometheus reads by HTTP while a run goes on, held against the run's own history."""

import math
import socket
import sys
import urllib.request
from dataclasses import replace
from types import SimpleNamespace

import pytest
from test_reports_recorder import outcome

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports import metrics_exporter, read_rows
from fedkeras.reports.metrics_exporter import RunMetrics

prometheus_client = pytest.importorskip("prometheus_client")


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def registry():
    return prometheus_client.CollectorRegistry()


def scraped(port):
    """{(name, labels): value} of everything at /metrics, read by Prometheus' own parser."""
    from prometheus_client.parser import text_string_to_metric_families as families

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.headers.get_content_type() == "text/plain"
        text = answer.read().decode()
    return {
        (each.name.removeprefix("fedkeras_"), *each.labels.values()): each.value
        for family in families(text)
        for each in family.samples
    }


def test_a_run_is_scraped_while_it_goes_on(tmp_path, monkeypatch, free_port):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)
    found = []

    def app(message, context):
        cid, kind = context.node_config["partition-id"], message.metadata.message_type
        if cid == 0 and kind == "train" and message.content["config"]["server-round"] == 2:
            found.append(scraped(free_port))
        if cid == 1 and kind == "train":
            raise TimeoutError("asleep")
        return client.app(message, context)

    config = Config(num_server_rounds=2, checkpoint_every=0, batch_size=100, rest_after=0, metrics_port=free_port)
    rows = read_rows(server.in_process(config, app, tmp_path).history_path)
    [seen] = found
    first = {(row["phase"], row["client"]): row for row in rows if row["round"] == 1}
    assert seen["rounds_total",] == seen["round",] == seen["round_seconds_count",] == 1
    assert seen["rounds_planned",] == 2 and seen["clients_expected",] == seen["clients_connected",] == 3
    for source, key in {
        "central": ("evaluate", "server"),
        "clients": ("evaluate", "all"),
        "training": ("train", "all"),
    }.items():
        for name in ("loss", "accuracy"):
            assert seen[name, source] == first[key][name]
    for way in ("up", "down"):
        assert (
            seen["bytes_total", way] == sum(first[phase, "all"][f"bytes_{way}"] for phase in ("train", "evaluate")) > 0
        )
    assert seen["client_failures_total", "1"] == 1 and ("client_failures_total", "0") not in seen
    assert seen["phase_clients", "asked"] == 3 and seen["phase_clients", "answered"] == 0
    assert 0 < seen["round_part_seconds_total", "training"] < seen["round_seconds_sum",]
    with pytest.raises(OSError):  # nobody listens any more
        scraped(free_port)


def test_figures_of_a_round_by_hand(registry):
    metrics = RunMetrics(registry, Config(num_server_rounds=3), "run")
    metrics.on_round_end(outcome(0))
    assert registry.get_sample_value("fedkeras_rounds_total") == 0  # the model before any training
    assert registry.get_sample_value("fedkeras_accuracy", {"source": "central"}) == 0.1
    metrics.on_round_end(outcome(1, failures={2: "late", 5000: "late"}, auc=0.25))
    metrics.on_round_end(outcome(2, failures={2: "late", 6000: "late"}, auc=math.nan))
    assert registry.get_sample_value("fedkeras_round_seconds_sum") == 2.5
    assert registry.get_sample_value("fedkeras_round_part_seconds_total", {"part": "waiting"}) == 0.75
    assert registry.get_sample_value("fedkeras_client_failures_total", {"client": "2"}) == 2
    assert registry.get_sample_value("fedkeras_client_failures_total", {"client": "other"}) == 2
    assert registry.get_sample_value("fedkeras_loss", {"source": "training"}) == 2.5
    assert math.isnan(registry.get_sample_value("fedkeras_model_metric", {"metric": "auc", "source": "clients"}))


def test_labels_stay_few_whatever_clients_report(registry):
    metrics = RunMetrics(registry, Config(), "run")
    result = outcome(1)
    result.rows[-1] |= {f"m{number}": 1.0 for number in range(500)}
    result.failures = dict.fromkeys(range(3000), "late")
    metrics.on_round_end(result)
    samples = [each for family in registry.collect() for each in family.samples]
    assert len([each for each in samples if each.name == "fedkeras_model_metric"]) == metrics_exporter.MOST_METRICS
    failures = [each.value for each in samples if each.name == "fedkeras_client_failures_total"]
    assert len(failures) == metrics_exporter.MOST_CLIENTS + 1 and sum(failures) == 3000


def test_who_is_connected_is_looked_at_as_a_phase_begins(registry):
    metrics = RunMetrics(registry, Config(), "run")
    there = {11: 0, 12: 1}
    metrics.on_run_begin(SimpleNamespace(start=SimpleNamespace(round=7), grid=SimpleNamespace(cids=lambda: there)))
    metrics.on_phase_begin(8, "train", {0}, {1})
    assert registry.get_sample_value("fedkeras_clients_connected") == 2
    assert registry.get_sample_value("fedkeras_round") == 7
    metrics.on_client_failure(0, "late")
    counts = {
        state: registry.get_sample_value("fedkeras_phase_clients", {"state": state})
        for state in ("asked", "failed", "suspended")
    }
    assert counts == {"asked": 1, "failed": 1, "suspended": 1}


def test_a_port_in_use_and_a_missing_package_are_a_line_each(free_port, monkeypatch):
    config = Config(metrics_port=free_port)
    metrics_exporter.check(config)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        with pytest.raises(
            UserError, match=rf"^cannot listen on 127.0.0.1:{free_port}: .* choose another --metrics-port$"
        ):
            metrics_exporter.check(config)
    with pytest.raises(UserError, match=r"192.0.2.1 is no address of this machine; --metrics-host"):
        metrics_exporter.check(replace(config, metrics_host="192.0.2.1"))
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UserError, match=r"^--metrics-port needs the extra: pip install 'fedkeras\[metrics\]'$"):
        metrics_exporter.check(config)
    metrics_exporter.check(Config())


def test_a_connection_that_says_nothing_holds_nobody_up_nor_the_end(free_port):
    config = Config(metrics_port=free_port)
    with metrics_exporter.exporting(config, "run") as [metrics], socket.create_connection(("127.0.0.1", free_port)):
        metrics.on_round_end(outcome(1))
        assert scraped(free_port)["rounds_total",] == 1
    with metrics_exporter.exporting(Config(), "run") as callbacks:
        assert callbacks == []
