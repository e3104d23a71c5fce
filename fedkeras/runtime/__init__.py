"""How messages travel between the server and its clients; nothing here looks inside them.

own_grid        what both ways have in common: a Flower `Grid` on the server, with a mailbox
mailbox         messages that wait for their replies
client_app      how any ClientApp is called

grpc_grid       over gRPC: the server's end, a `Grid`
service sessions client_connection    its streams, the processes behind them, the messages that wait for each
admission guesses holders             who may do what before it has joined, and who holds which client id
replies budget                        what is taken of a reply, and how much memory all of them may take
shared_payloads                       what many clients are sent, made ready once
connections endpoints peer_log        those of strangers, and what is logged of any, within bounds
node            over gRPC: a client process
client_session server_connection grpc_stream     its stream, lost and found again
holder_key      by which the server knows a client that is started again
sent_log        a client's own record of what it has sent
wire content federation_pb2           how a message is encoded
channel         gRPC's options, the same at both ends
handshake spake2 passphrase           who may join
tls tls_files certificates client_channel tls_probe    what is encrypted, and with whom
spawn pipe      clients started on the server's machine, each with a stream of its own beside the network

warm_supernode  over Flower's SuperLink: a SuperNode, with an executor that stays
executor executor_process             that process, and as it is seen by the one that started it

in_process      within one process
"""
