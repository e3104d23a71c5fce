"""What a client keeps from one round to the next: residuals, control variates, layers of its own.

The server names what each client goes on from, by a digest, and never sees it; so an answer that was lost, came too
late, or belonged to a round that was repeated or taken back is as if it had never been made, and a run that goes on
after `kill -9` has the same bits. A mod hangs `CommittedStates` on the run, puts what `told(node_id)` says into each
message, and hands each good answer's record to `take`; its client's half makes a `KeptState` of the record that came,
asks it for the arrays (`recall`) and keeps new ones (`keep`).

    memory            where a client keeps arrays, by the digest of their bytes
    kept_state        one message's view of it, on the client
    committed_states  the server's half: which state of each client counts
"""

from fedkeras.mods.client_state.committed_states import CommittedStates
from fedkeras.mods.client_state.kept_state import KeptState

__all__ = ["CommittedStates", "KeptState"]
