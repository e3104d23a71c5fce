"""How messages travel between the server and its clients; nothing here looks inside them.

Both ways are a Flower `Grid` on the server (own_grid.py), and run any ClientApp (client_app.py):

- over gRPC: `GrpcGrid` (grpc_grid.py) on the server, `serve` (node.py) in a client process. A message is encoded by
  wire.py and content.py; the server's end of a stream is service.py, with admission.py, sessions.py and budget.py; a
  client's end is client_session.py over server_connection.py. Who may join: handshake.py, passphrase.py, and tls*.py
  with certificates.py. spawn.py starts clients on the server's machine.
- within one process: `InProcessGrid` (in_process.py).
"""

import os

# gRPC's C++ logs errors that are exceptions or log lines here. Flower sets "error" if the user sets nothing.
if os.environ.get("GRPC_VERBOSITY", "error") == "error":
    os.environ["GRPC_VERBOSITY"] = "none"
