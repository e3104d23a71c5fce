"""Attacks on purpose: each one a real process against a real server or client, and whether it held.

A module is a kind of attack. Its `ATTACKS` are the names and functions that `python -m benchmarks.attacks` plays.
"""

from benchmarks.case import Case

QUICK = [Case("header recorded", 30)]
