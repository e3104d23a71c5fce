"""What the server does with updates: a page a paper, and a page a value of `--strategy` or `--split`.

    fedavg fedprox      --strategy
    fedmedian trimmed_mean krum multikrum bulyan geometric_median centered_clipping norm_bound     withstand liars
    scaffold fednova                                for clients that differ
    qfedavg, fedavgm, and of fedopt.py fedadam fedyogi fedadagrad
    split_sequential splitfed_v1 splitfed_v2        --split sequential, splitfed, shared

`load("fedmedian")` makes one of them, `load("package.module:Class")` anybody's.
"""

from fedkeras.federation.registry import load, options_of

__all__ = ["load", "options_of"]
