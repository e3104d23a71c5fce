"""A run's model tested again: `--evaluate RUN`. Nothing is trained, and nothing in RUN's folder is changed.

    server            the Workflow: hands the model out once, by the run's own way to train
    recorded_model    which model of the run, and its weights
    chosen_clients    the clients that are asked, where not all are
    figures           what came of it as a table

Clients hear nothing of it: they are asked what they are asked after each round. So there is no client here.
"""
