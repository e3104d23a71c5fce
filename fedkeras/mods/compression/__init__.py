"""Compression: global weights and updates travel in fewer bytes, and are float32 arrays again before anybody looks.

Alistarh et al., NIPS 2017, arXiv:1610.02132 (rounding by chance); Stich, Cordonnier, Jaggi, NeurIPS 2018,
arXiv:1809.07599 (top-k with memory); docs/compression.md has figures.

    mod                  the mod itself: options, what it refuses, the server's half, bytes counted
    client_half          the client's half: decodes what came, trains, encodes its update
    forms                which array travels in which form
    number_format        one array in 16 or 8 bits a number, and back
    sparsification       the largest numbers of an array and their places
    error_feedback       what is not sent in a round is sent in a later one
    wire                 the records of a compressed message
    section              the report's section

What a client has not sent is kept by `fedkeras.mods.client_state`.
"""
