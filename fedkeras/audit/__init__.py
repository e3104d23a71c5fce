"""Is it true? Attacks on a run, and the lower bounds on epsilon that follow, beside what the run claims.

attack          what an attack is, and the table of those there are: one attack, one file, one line
subject         the run that is attacked: settings, released model, the clients' examples
finding         what an attack found, and whether it contradicts the claim
bounds          from right guesses, and from rates, to a bound that holds with a stated confidence
gaussian_estimate    what epsilon looks like, from two normal distributions
federation      a run with canaries, in this process
canary_clients  clients with random updates, sought in what a private run releases
directions      random directions in the space of the weights
membership      membership inference by the loss
inversion       images that a curious server rebuilds from updates
record          audit.json
section         the report's section, and the table on the terminal
"""
