"""Example-level differential privacy: what a client sends tells hardly anything about one of its examples.

Abadi et al., CCS 2016, arXiv:1607.00133; docs/privacy.md says against whom it helps. The gradients are had by an
objective, `fedkeras.learning.dp_sgd`.

    mod                 the mod itself: options, what it refuses, what is said
    private_training    the client's half: names the objective, checks what was done, sends the update and nothing else
    privacy_terms       what is promised, and how much noise and how many noisy sums that allows
    ledger              who was asked how often and what that cost, written before a client is asked
    callbacks           who opens the ledger, and ends the run before a client's budget is exceeded
    epsilon_column      a strategy around the run's own, which reports the worst and the median epsilon of a round
    section             the report's section
"""
