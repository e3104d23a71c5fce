"""Attacks against defences: which strategy withstands what, how much it costs with nobody malicious, where it breaks.

settings      what was asked for, kept in study.json
grid          its cells: a defence under an attack by a fraction of the clients, under a condition
state         which cell runs are finished, and how the missing ones are trained (compare.federated)
table         means by cell, the costs, the breakdown points; study.csv
words         the paragraph: what the figures support, and no more
charts page   heat maps, and the page they stand on
"""
