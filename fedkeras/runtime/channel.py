"""gRPC's settings on both sides, each with its reason."""

KEEPALIVE_SECONDS = 10
"""An idle connection is pinged this often."""

KEEPALIVE_TIMEOUT_SECONDS = 20
"""A peer that does not answer a ping within this is gone: a machine that vanishes is noticed within 30 s."""

CONNECT_SECONDS = 5
"""How long a connection may take to be made, TLS and all, before a client tries again."""

IDLE_SECONDS = 30
"""A connection that opens no stream is closed by the server after this."""


def common_options(max_frame_bytes: int) -> list[tuple[str, int]]:
    """Options for both sides; `max_frame_bytes` bounds one frame."""
    return [
        ("grpc.max_send_message_length", max_frame_bytes),
        ("grpc.max_receive_message_length", max_frame_bytes),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),  # else a minute, whatever keepalive's is
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),  # else gRPC stops pinging an idle stream after two
    ]


def channel_options(max_frame_bytes: int) -> list[tuple[str, int]]:
    """Options for a client's channel."""
    return [
        *common_options(max_frame_bytes),
        ("grpc.enable_http_proxy", 0),  # a proxy in the environment is for the web, not for the server on this network
        ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, and not one that is just breaking
        ("grpc.min_reconnect_backoff_ms", CONNECT_SECONDS * 1000),  # so gRPC calls the longest time to connect
        ("grpc.enable_retries", 0),  # retried by us, who know what was delivered
    ]


def server_options(max_frame_bytes: int) -> list[tuple[str, int]]:
    """Options for the server; without the pings' it ends a pinging client with "too_many_pings" after 40 s."""
    return [
        *common_options(max_frame_bytes),
        ("grpc.so_reuseport", 0),  # else two servers share one port, and each gets some of the clients
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 500),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 500),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.server_handshake_timeout_ms", IDLE_SECONDS * 1000),
        ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
        ("grpc.max_concurrent_streams", 4),  # a client needs one
        ("grpc.max_metadata_size", 8192),
        # Else gRPC lets each client send megabytes ahead of what is read, and 300 clients fill the memory. This much
        # under way is 5 MB/s from a client that is 50 ms away.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 256 << 10),
    ]
