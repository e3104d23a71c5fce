"""Compression: global weights and updates travel in fewer bytes, and are float32 arrays again before anybody looks.

mod             the mod itself: options, what it refuses, the server's half, bytes counted
client_half     the client's half: decodes what came, trains, encodes its update
forms           which array travels in which form
number_format   one array in 16 or 8 bits a number, and back
sparsification  the largest numbers of an array and their places
error_feedback  what is not sent in a round is sent in a later one
wire            the records of a compressed message
residual_memory       where a client keeps what it has not sent
committed_residuals   the server's half of it: which updates have been used
"""
