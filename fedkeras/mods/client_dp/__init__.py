"""Client-level differential privacy: what is published tells hardly anything about whether a client took part.

McMahan, Ramage, Talwar, Zhang, ICLR 2018, arXiv:1710.06963; docs/privacy.md says against whom it helps.

    mod             the mod itself: options, what it refuses, the cohort, the noise
    private_answer  the client's half: its update, clipped, and nothing else
    noisy_mean      the server's half: a strategy around the run's own, which sees the noisy mean alone
    clipping        the bound of one client's update, fixed or adaptive
    ledger          what was spent, written before a round's model is used
    budget          the callback that ends the run before its budget is exceeded
    section         the report's section
"""
