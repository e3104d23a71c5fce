"""Hyperparameters searched on the clients' held-out parts, and never on the central test set.

search_space  what is searched: `learning-rate=log:1e-3..1,batch-size=16/32/64`
settings      what was asked for, kept in sweep.json
training      a trial as a real run; the winner's, which alone is tested centrally
trials        which values are tried next, which trials are pruned, and how a search goes on (Optuna)
"""
