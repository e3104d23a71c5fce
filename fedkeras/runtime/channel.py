"""gRPC's settings, the same reasons on both sides."""

KEEPALIVE_SECONDS = 20
"""An idle stream is pinged this often; a peer that does not answer within KEEPALIVE_TIMEOUT_SECONDS is gone."""

KEEPALIVE_TIMEOUT_SECONDS = 20


def channel_options(max_frame_bytes: int) -> list[tuple[str, int]]:
    """Options for a client's channel."""
    return [
        ("grpc.max_send_message_length", max_frame_bytes),
        ("grpc.max_receive_message_length", max_frame_bytes),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),  # else gRPC stops pinging an idle stream after two
        ("grpc.enable_http_proxy", 0),  # a proxy in the environment is for the web, not for the server on this network
    ]


def server_options(max_frame_bytes: int) -> list[tuple[str, int]]:
    """Options for the server; without the last three it ends a pinging client with "too_many_pings" after 40 s."""
    return [
        *channel_options(max_frame_bytes),
        ("grpc.so_reuseport", 0),  # else two servers share one port, and each gets some of the clients
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 500),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 500),
        ("grpc.http2.max_ping_strikes", 0),
    ]
