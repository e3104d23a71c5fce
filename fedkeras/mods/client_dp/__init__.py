"""Client-level differential privacy: what is published tells hardly anything about whether a client took part.

mod         the mod itself: options, what it refuses, the client's half, the cohort
noisy_mean  the server's half: a strategy around the run's own, which sees the noisy mean alone
clipping    the bound of one client's update, fixed or adaptive
accountant  epsilon by rounds, and the noise that a budget needs (dp-accounting)
ledger      what was spent, written before a round's model is used
section     the report's section
"""
