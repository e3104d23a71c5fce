"""Ways to train: a folder each, with what the server does, what a client does, and what they say to each other.

    base                Workflow, RunContext, and which one a configuration names
    flag_checks         flags that do not go together, or would change nothing
    preparation         what is checked and loaded before a run has a folder, and a client anything to do
    run_setup           from a configuration to a run: all of it put together
    traffic             what a round is expected to move
    beside_training     what else reaches the server of clients' data, for the report
    round_loop          rounds with retries, and a phase of a round: shared by rounds and split
    local_trainer       a client's model and examples: shared by rounds and collect
    checkpointer        the callback that keeps what a run needs to go on
    soundness           the callback that warns of a loss or a variance that cannot be
    early_stopping      the callback that ends rounds without a better loss, and keeps the best model
    interruption        the callback of Ctrl-C and SIGTERM
    beginning           when a run has begun, what goes wrong makes it a failed one
    participation       the callback that tells clients which had no part in the run

    rounds              federated rounds: clients train the whole model, a strategy combines what comes back
    split               U-shaped split learning
    collect             every client trains once; the server gathers models, logs and tables
    evaluate            nobody trains: the model of another run is tested again
    fedbuff             asynchronous rounds: nobody waits for a slow client

The five folders never import each other.
"""
