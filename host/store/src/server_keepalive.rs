/// Settings of a session on PostgreSQL with which the server finds out within 20 s that Belfry's end of the connection is gone.
///
/// With the defaults of the system it takes hours behind a network that drops everything. Until then each lost session keeps
/// one of the server's `max_connections`, and a few outages later no new connection is possible. Servers on systems without
/// one of these settings ignore it.
pub(crate) const SERVER_KEEPALIVE: [(&str, &str); 4] = [
    // While the session is idle: probes after 10 s without traffic, 5 s apart; the session ends when two were not answered.
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "2"),
    // While an answer is being sent: milliseconds until what was sent must be acknowledged.
    ("tcp_user_timeout", "20000"),
];
