"""`python server.py --interactive`: asks for what a run needs, shows the command that says the same, and starts it.

server_flags      the flags of server.py, and where its configuration comes from
guide             goes through the questions, forward and back, to the command and the start
questions         which questions there are, in their order
question          one question: what it shows, which answers it takes
choices           numbered answers, by number or by any usual spelling
passphrase_step   the passphrase, typed twice and never shown
checks            what is looked at before an answer is taken: addresses, files, names
model_files       the model files that are offered
prompt            a line from the person at the terminal, with editing and completion
answer_history    earlier answers, from session to session
"""

from fedkeras.interactive.server_flags import ServerFlags, from_flags

__all__ = ["ServerFlags", "from_flags"]
