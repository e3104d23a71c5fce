"""`python -m fedkeras compare`: the same training pooled, local, federated and split, side by side.

settings arms       what is compared, and the names of the ways to train
comparison_state    the arm runs (an arm with one seed each): which are finished, and how the others are trained
arm_run             one of them, and the result that it leaves
baselines           those without federation, trained by processes
baseline_worker     such a process: the only module here that trains
federated           the others, trained by `server.py --spawn`
children            processes and their output
progress            what is printed meanwhile
differences         which arm is better, judged by pairs: intervals that hold together
table words page             the results, presented
series charts pictures       what their pictures draw; on the page, and as .png files
"""
