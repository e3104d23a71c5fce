"""U-shaped split learning: clients hold the model's head and tail, their examples and labels; the server its body.

protocol        the messages, and how batches are packed in them
server          a round, in one of three modes that are pages of strategies/
server_model    the body with its optimizer, as messages' contents
split_traffic   what a round is expected to move
split_round     what the modes share: the start of a round, and its means
client_pass     one client's way through a round: which step comes next
report          where the model is cut and what travels, on the run's page
client          what a client answers
split_client    what a client process keeps: model, examples, batches
client_state    what a client remembers from message to message
"""
