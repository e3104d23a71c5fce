"""Every client trains once, or has trained already; the server collects models, logs and tables.

server      the two workflows, and what becomes of all that was collected
model_table what was collected, as lines to print
protocol    the server's scripts: let a client train, follow it, take its results
report      the models' figures, epochs and folds on the run's page
client      a client's answers, and the thread that trains
training    one client's whole training, and the files that it leaves
outbox      results on a client's disk, until the server has confirmed them
"""
