"""`python -m fedkeras compare`: the same training pooled, local, federated and split, side by side.

arms.py names the ways to train, settings.py what is compared. An arm with one seed is an arm run (arm_run.py, with the
result that it leaves). baselines.py has those without federation trained, by processes of baseline_worker.py, the only
module here that trains; federated.py has the others trained by `server.py --spawn`; comparison_state.py goes through
them all. table.py, words.py, pictures.py and page.py present the results, and need nothing else.
"""
