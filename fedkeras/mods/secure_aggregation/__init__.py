"""Secure aggregation: the server learns the sum of the clients' vectors, who is in it, and nothing else of them.

Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth: Practical Secure Aggregation for
Privacy-Preserving Machine Learning, CCS 2017 (eprint 2017/281); Bell, Bonawitz, Gascón, Lepoint, Raykova: Secure
Single-Server Aggregation with (Poly)Logarithmic Overhead, CCS 2020 (eprint 2020/704). docs/privacy.md says what is
assumed. The protocol itself sends and reads nothing; it is made of

    terms           what both sides agree on before an attempt: cohort, graph, threshold, encoding
    parameters      how many neighbours and shares the stated drop-outs and colluders need
    graph           who is whose neighbour
    encoding        real numbers or integers as integers modulo 2^32, and the sum back
    keys            key agreement, derived keys, sealed messages between clients
    masks           the mask generator
    sharing         a secret in shares
    client_session  a client's steps in one attempt
    server_session  the server's
    failures        why a client refuses, and why an attempt ends without a sum

Around it is the mod, `--mods secure-aggregation`:

    mod             options, and when an attempt begins
    conditions      of which runs a secure sum can be had, and what is refused
    wire            the messages of an attempt, and what stands in them
    plan            what an attempt is to be like, and what has come of it
    attempt         the server's half: phase after phase
    participant     the client's half, and what it keeps from message to message
    update          a client's update as one vector, and the mean as arrays
    figures         examples, loss, accuracy inside the sum
    summed_mean     a strategy around the run's own, which is handed the mean alone
    journal         what became of each attempt, in the run's folder
    openings        of whom the sums of a round were opened, on the disk before they are
    section         the report's section
"""
