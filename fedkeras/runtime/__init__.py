"""How messages travel: over gRPC or within one process."""

import os

# What gRPC's C++ logs is an exception here, or a line of ours. Flower sets "error" if the user sets nothing.
if os.environ.get("GRPC_VERBOSITY", "error") == "error":
    os.environ["GRPC_VERBOSITY"] = "none"
