"""Is it true? Attacks on a run, and the lower bounds on epsilon that follow, beside what the run claims.

One attack is one file, with a line in attack.py; it is given a subject and returns findings.

    attack               what an attack is, and the table of those there are
    subject              the run that is attacked: settings, released model, the clients' examples
    finding              what an attack found, and whether it contradicts the claim
    bounds               from right guesses, and from rates, to a bound that holds with a stated confidence
    gaussian_estimate    what epsilon looks like, from two normal distributions

    canaries             how many there must be for a claim to be refutable, and their coins
    canary_clients       clients with random updates, sought in what a private run releases
    directions           random directions in the space of the weights
    canary_examples      examples that were planted, sought in what their clients send
    planted              the clients' examples with canaries among them, as a data set
    federation           a run with canaries, in this process
    membership           membership inference by the loss
    inversion            images that a curious server rebuilds from updates

    record               audit.json
    picture              audit.png: the attackers' statistics
    section              the report's section, and the table on the terminal
"""
