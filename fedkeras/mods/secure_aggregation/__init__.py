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
"""
