"""Mods: features with a client half and a server half, one class in one file each, chosen by --mods.

    --mods "clip:norm=0.5; mine:MyMod:rate=2"

`base` has the class to extend, `chain` calls several in their order, `releases` is what a mod that protects asks,
`budget_options` what both kinds of differential privacy take, `client_state` what a client keeps between rounds. A mod
of ours is a file here, and a line in `chain.BUILT_IN`:

    attacks       clients that are made malicious, to study which strategies withstand them
    compression   updates and global weights in fewer bytes
    control_variates  the clients' half of SCAFFOLD
    client_dp     differential privacy of clients: bounded updates, a noisy sum, and what that costs
    example_dp    differential privacy of examples on each client: DP-SGD, and what that costs
    secure_aggregation  the server is handed the sum of the clients' updates, and never one of them
    personalisation  clients that end with models of their own: layers that stay, Ditto, fine-tuning
    stragglers    clients that manage fewer epochs: their partial work counts, or they are dropped
"""
