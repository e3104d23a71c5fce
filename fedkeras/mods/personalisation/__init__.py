"""Personalisation: each client ends with a model of its own, and is tested with that one.

FedPer, FedRep and FedBN are `--mods local-layers`; `ditto` and `fine-tuning` are mods too. Figures are in
docs/personalisation.md.

    local_layers   some layers stay with each client: FedPer, FedRep, FedBN
    ditto          a model of its own is trained beside the shared one
    fine_tuning    after the rounds each client trains the shared one on
    kept_layers    which arrays of a model these are
    personal_mod   what they have in common on the server: who is tested, what is refused
    wire           what a round's messages say of it, and what a client asks its own handlers
    section        the report's section
"""
