"""gRPC's settings on both sides, each with its reason."""

KEEPALIVE_SECONDS = 10
"""An idle connection is pinged this often."""

KEEPALIVE_TIMEOUT_SECONDS = 20
"""A peer that does not answer a ping within this is gone: a machine that vanishes is noticed within 30 s."""

CONNECT_SECONDS = 5
"""How long a connection may take to be made, TLS and all, before a client tries again."""

IDLE_SECONDS = 10
"""A connection that does not speak HTTP/2, or not TLS where that is spoken, or opens no stream, is closed by the server
after this."""

PING_STRIKES = 10
"""Pings that come too soon one after the other before the server closes the connection."""


def common_options(max_sent_bytes: int, max_received_bytes: int) -> list[tuple[str, int]]:
    """Options for both sides; each bounds one frame."""
    return [
        ("grpc.max_send_message_length", max_sent_bytes),
        ("grpc.max_receive_message_length", max_received_bytes),
        # Nobody here compresses: weights are as random as numbers get. A few bytes that grow to many are an attack.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.per_message_decompression", 0),
        ("grpc.max_metadata_size", 8192),
        ("grpc.absolute_max_metadata_size", 8192),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),  # else a minute, whatever keepalive's is
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),  # else gRPC stops pinging an idle stream after two
    ]


def channel_options(max_sent_bytes: int, max_received_bytes: int) -> list[tuple[str, int]]:
    """Options for a client's channel."""
    return [
        *common_options(max_sent_bytes, max_received_bytes),
        ("grpc.enable_http_proxy", 0),  # a proxy in the environment is for the web, not for the server on this network
        ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, and not one that is just breaking
        ("grpc.min_reconnect_backoff_ms", CONNECT_SECONDS * 1000),  # so gRPC calls the longest time to connect
        ("grpc.enable_retries", 0),  # retried by us, who know what was delivered
    ]


def server_options(max_sent_bytes: int, max_received_bytes: int, max_connections: int) -> list[tuple[str, int]]:
    """Options for the server; without the pings' it ends a pinging client with "too_many_pings" after 40 s.

    `max_connections`: more are closed as soon as they are made, by whomever: descriptors are left for other things.
    """
    return [
        *common_options(max_sent_bytes, max_received_bytes),
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.so_reuseport", 0),  # else two servers share one port, and each gets some of the clients
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 500),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 500),
        ("grpc.http2.max_ping_strikes", PING_STRIKES),
        ("grpc.server_handshake_timeout_ms", IDLE_SECONDS * 1000),
        ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
        ("grpc.max_concurrent_streams", 1),  # a client needs no more
        # Else gRPC lets each client send megabytes ahead of what is read, and 300 clients fill the memory. This much
        # under way is 4 MB/s from a client that is 50 ms away.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 192 << 10),
    ]
