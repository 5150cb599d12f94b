/// Session settings that let a PostgreSQL server detect within 20 s that Belfry's end of the connection is gone.
///
/// With the system's defaults, this takes hours if the network drops all packets. Until then each lost session occupies
/// one of the server's `max_connections`, and after a few outages no new connection is possible. A server on a system
/// without one of these settings ignores it.
pub(crate) const SERVER_KEEPALIVE: [(&str, &str); 4] = [
    // In an idle session: a probe after 10 s without traffic, then every 5 s; two unanswered probes end the session.
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "2"),
    // While a response is being sent: time limit in milliseconds for the client to acknowledge the data.
    ("tcp_user_timeout", "20000"),
];
