"""Federated learning for people who work in Keras, as a Flower application.

`fedkeras.server` and `fedkeras.client` are the two programs, `fedkeras.data` is where examples come from,
`fedkeras.strategies` what a server does with updates. In the repository these four lie at the top, where a reader looks
for them. In this folder, from the top floor down; a floor imports those below it:

    commands        `fedkeras COMMAND`
    sweep           hyperparameters searched for on clients' held-out parts
    study           attacks against defences, by cells of a grid
    audit           attacks on a run, and the lower bounds on epsilon that follow
    interactive     `server.py --interactive`
    compare         the same data pooled, local, federated, split
    workflows       ways to train: rounds, split, collect
    mods            features around the training
    provisioning    the server hands out model and data
    local_training  one client's model trained by itself
    federation      what the server of every way to train needs
    factory         from a configuration to a model that is ready to learn
    scaling         whether a model is given scaled examples or raw ones
    runtime         how messages travel: gRPC, in-process; who may join
    reports         what a run leaves behind
    learning        training one Keras model on one client's arrays
    models          architectures, model files, weights
    flower          Flower's own ground

    config fields flags client_config    settings: their fields, their command lines
    client_terms                         what a client demands of a run
    callbacks                            what hangs on a run
    accountant                           epsilon of noisy sums, and the noise that a budget needs
    named_code                           names that become code, and who may decide about them
    built_in_names strategy_names        what is built in, by name; strategies
    csv_text                             CSV that a spreadsheet takes for no formula
    address cids                         HOST:PORT, and client ids, as a person types them
    tensorflow_import deferred_modules   TensorFlow in each process: one way, and no more of it than is used
    atomic checkout errors gpus lifeline output randomness shapes stratified    what everybody needs
"""

import os

from fedkeras.checkout import make_importable

# gRPC's C++ logs errors that are exceptions or log lines here. It reads this when it is imported, which Flower does;
# Flower sets "error" if the user sets nothing.
if os.environ.get("GRPC_VERBOSITY", "error") == "error":
    os.environ["GRPC_VERBOSITY"] = "none"
make_importable()
