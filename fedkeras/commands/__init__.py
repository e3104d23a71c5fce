"""`fedkeras COMMAND`: a module a command, with `main(args) -> exit status`.

server client               the two programs
check training_pace         what would run, without running it; how long a client trains
simulate simulation_ray demo   Flower's simulation, on whose Ray; the first thing to try
supernode supernode_executor   Flower's SuperNode with an executor that stays
data                        how a data set is divided among clients
runs history report curves  what runs have left behind
compare                     the same data pooled, local, federated, split
study                       attacks against defences
resumable                   what these share: a folder in which they go on
sweep                       hyperparameters, searched
evaluate                    a run's model, tested again
audit                       a run's model, attacked
train aggregate             one part trained by itself; model files that were trained apart, combined
strategy_comparison tested_models   strategies side by side on the same model files; what they are tested on
certs certs_folder          an authority of one's own, and certificates
passphrase                  by which a server and its clients know each other
completion                  for a shell
process_tree guarded        what a command has started, ended with it
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """What it does, for `fedkeras --help`, and the dataclass of its flags, package.module:Class, for completion."""

    what: str
    flags: str


COMMANDS = {
    "server": Command(
        "wait for clients and train with them; in a checkout also python server.py",
        "fedkeras.interactive:ServerFlags",
    ),
    "client": Command(
        "join a server and train on the data here; in a checkout also python client.py",
        "fedkeras.client_config:ClientConfig",
    ),
    "check": Command(
        "check flags, data, model and port as the server does, and say what would run",
        "fedkeras.commands.check:CheckFlags",
    ),
    "demo": Command(
        "a server and three clients on this machine: the first thing to try",
        "fedkeras.commands.demo:DemoFlags",
    ),
    "simulate": Command(
        "`flwr run` with the right surroundings: virtual clients on Ray, one flag each",
        "fedkeras.commands.simulate:SimulateFlags",
    ),
    "supernode": Command(
        "flower-supernode with a process that stays, in place of one for every message",
        "fedkeras.commands.supernode:SuperNodeFlags",
    ),
    "data": Command(
        "how a data set is divided among clients: counts, table, picture",
        "fedkeras.commands.data:DataFlags",
    ),
    "runs": Command(
        "list the runs there are: status, data set, strategy, rounds, best, seconds",
        "fedkeras.commands.runs:RunsFlags",
    ),
    "compare": Command(
        "is federated worth it? the same training pooled, alone, federated and split, in one table",
        "fedkeras.compare.settings:Settings",
    ),
    "study": Command(
        "which defence withstands which attack, what it costs, and where it breaks",
        "fedkeras.study.settings:StudySettings",
    ),
    "sweep": Command(
        "which hyperparameters? searched on the clients' held-out parts, tested centrally once",
        "fedkeras.sweep.settings:SweepSettings",
    ),
    "evaluate": Command(
        "test a run's model again, on its clients' held-out examples and the central test set",
        "fedkeras.commands.evaluate:EvaluateFlags",
    ),
    "audit": Command(
        "attack a run: how large its epsilon is at least, beside what it claims",
        "fedkeras.commands.audit:AuditFlags",
    ),
    "report": Command(
        "a run's report as one HTML page, or several runs side by side",
        "fedkeras.commands.report:ReportFlags",
    ),
    "history": Command(
        "a run's figures as CSV, JSON, Markdown or Flower's lists",
        "fedkeras.commands.history:HistoryFlags",
    ),
    "curves": Command("draw a run's learning curves again", "fedkeras.commands.curves:CurvesFlags"),
    "train": Command(
        "train one part, or one data set, by itself: curves, classification report, model file",
        "fedkeras.commands.train:TrainFlags",
    ),
    "aggregate": Command(
        "combine model files that were trained apart into one",
        "fedkeras.commands.aggregate:AggregateFlags",
    ),
    "certs": Command(
        "an authority of your own, and certificates for a server and its clients",
        "fedkeras.commands.certs:CertsFlags",
    ),
    "passphrase": Command(
        "write a new random passphrase for a server and its clients",
        "fedkeras.commands.passphrase:PassphraseFlags",
    ),
    "completion": Command(
        "print a script that lets bash or zsh complete commands and flags",
        "fedkeras.commands.completion:CompletionFlags",
    ),
}
"""By the names of their modules. Nothing is imported here: what one command needs is not loaded for another."""
