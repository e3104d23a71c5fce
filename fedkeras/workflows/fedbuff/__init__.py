"""Asynchronous rounds after FedBuff: no client waits for another, and K updates make a new version of the global model.

    server      the way to train: its flags, and its run
    versions    the loop: work is given out, updates come in, K of them make a version
    clocks      who has finished next: by arrival, or by a simulated clock
    buffer      updates that wait for a new version, and what each counts for
    progress    what a checkpoint must hold, so that a run can go on
    report      the report's section: staleness, updates of each client

Clients answer as in federated rounds and need not know of it, so there is neither a client nor a protocol here.
"""
