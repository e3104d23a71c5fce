"""Attacks: clients of a study that were made malicious, to see which strategies withstand them.

    --mods "alie:malicious=0.2" --strategy multikrum

`attack` has what all have in common: who is malicious, by the seed alone, and that nobody takes such a run for an
honest one. `malicious_clients` draws them, `updates` takes a client's update out of its answer and puts a lie in its
place. `poisoning` is for attacks on the examples that a client trains on, `local` for lies that it makes of its update
by itself, `collusion` for those whose clients must know of each other. Each attack is a file that begins with its paper
and its formula:

    label_flip    trained on wrong labels
    backdoor      trained on examples with a trigger, labelled as the attacker wants
    sign_flip     the update turned round
    noise         random numbers on the update
    alie          the mean less a few standard deviations
    ipm           the mean turned round
    min_max       as far from the mean as two honest updates are from each other
"""

ATTACKS = ("alie", "backdoor", "ipm", "label-flip", "min-max", "noise", "sign-flip")
"""Their names in --mods."""
