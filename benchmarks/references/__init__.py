"""Experiments of papers and of Flower's baselines, run here, side by side with the published figures.

experiment       what a reference is: settings, published figures, what is read off the curves
driver           the runs of a reference, one folder each, which go on where they stopped
table            ours beside theirs, as text and as JSON
mcmahan niid_bench fedprox_synthetic femnist yin flanders    one reference each
training_loss    rounds whose clients evaluate on what they train on
"""

from benchmarks.case import Case

QUICK = [Case("fedprox-synthetic --quick --out {folder}/runs", 14)]
