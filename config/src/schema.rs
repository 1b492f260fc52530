//! Every key of the file, by table: what the reader knows, and what it knows to be not built yet.
//!
//! This is the one list that unknown keys are judged by and that `docs/configuration.md` is tested against. Types,
//! limits and defaults are where a key is read (`raw/`).

/// A table of the file and its keys.
#[derive(Debug)]
pub(crate) struct Section {
    /// As an operator writes it: `[service.check]`, `[[vip]]`.
    pub(crate) header: &'static str,
    pub(crate) keys: &'static [Key],
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) support: Support,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    Built,
    /// Not built yet: only this value, in TOML, is accepted, because it is what is done anyway. For a table any part of it.
    Only(&'static str),
}

const fn built(name: &'static str) -> Key {
    Key { name, support: Support::Built }
}

const fn only(name: &'static str, value: &'static str) -> Key {
    Key { name, support: Support::Only(value) }
}

pub(crate) static ROOT: Section = Section {
    header: "the top level",
    keys: &[built("contrail"), built("global"), built("admin"), built("bgp"), built("vip"), built("service")],
};

pub(crate) static CONTRAIL: Section = Section {
    header: "[contrail]",
    keys: &[
        built("vip"),
        built("controller_nodes"),
        built("analytics_nodes"),
        built("api_port"),
        built("discovery_port"),
        built("analytics_port"),
    ],
};

pub(crate) static GLOBAL: Section = Section {
    header: "[global]",
    keys: &[
        built("threads"),
        built("max_connections"),
        built("engine"),
        built("drain_timeout"),
        only("state_file", r#""""#),
        built("log"),
    ],
};

pub(crate) static LOG: Section = Section {
    header: "[global.log]",
    keys: &[built("level"), built("format"), built("target"), built("access")],
};

pub(crate) static ADMIN: Section = Section {
    header: "[admin]",
    keys: &[built("socket"), built("listen"), built("user"), built("password_file")],
};

pub(crate) static BGP: Section = Section {
    header: "[bgp]",
    keys: &[
        built("local_as"),
        built("router_id"),
        built("listen"),
        built("hold_time"),
        built("connect_retry"),
        built("peer"),
    ],
};

pub(crate) static PEER: Section = Section {
    header: "[[bgp.peer]]",
    keys: &[
        built("name"),
        built("address"),
        built("remote_as"),
        built("port"),
        built("local_address"),
        built("passive"),
        built("password_file"),
        built("ttl_security"),
        built("multihop"),
        built("families"),
        built("next_hop"),
        built("hold_time"),
        built("bfd"),
        built("role"),
        built("role_strict"),
        built("extended_next_hop"),
        built("fellow"),
        built("announce"),
        built("degraded"),
    ],
};

pub(crate) static BFD: Section = Section {
    header: "[bgp.peer.bfd]",
    keys: &[built("enabled"), built("min_tx"), built("min_rx"), built("multiplier")],
};

const ATTRIBUTES: &[Key] = &[
    built("med"),
    built("local_pref"),
    built("prepend"),
    built("communities"),
    built("large_communities"),
    built("link_bandwidth"),
];

pub(crate) static PEER_ANNOUNCE: Section = Section { header: "[bgp.peer.announce]", keys: ATTRIBUTES };

pub(crate) static PEER_DEGRADED: Section = Section { header: "[bgp.peer.degraded]", keys: ATTRIBUTES };

pub(crate) static VIP: Section = Section {
    header: "[[vip]]",
    keys: &[
        built("address"),
        built("interface"),
        built("announce"),
        built("degraded"),
        built("on_short"),
        built("on_all_down"),
        built("announce_delay"),
        built("flap"),
        built("peers"),
    ],
};

pub(crate) static ANNOUNCE: Section = Section { header: "[vip.announce]", keys: ATTRIBUTES };

pub(crate) static DEGRADED: Section =
    Section { header: "[vip.degraded]", keys: &[built("med"), built("local_pref"), built("prepend")] };

pub(crate) static FLAP: Section =
    Section { header: "[vip.flap]", keys: &[built("half_life"), built("max_delay")] };

pub(crate) static SERVICE: Section = Section {
    header: "[[service]]",
    keys: &[
        built("name"),
        built("vip"),
        built("ports"),
        built("listen"),
        built("required"),
        built("min_healthy"),
        built("balance"),
        built("max_connections"),
        built("client_limits"),
        built("source_address"),
        built("tcp_keepalive"),
        built("linger"),
        built("send_proxy"),
        built("accept_proxy"),
        built("trusted_proxies"),
        built("allow"),
        built("deny"),
        built("timeouts"),
        built("retries"),
        built("tls"),
        built("sni_routes"),
        built("backend_tls"),
        built("check"),
        built("passive"),
        built("slow_start"),
        built("on_down"),
        built("backend"),
    ],
};

pub(crate) static CLIENT_LIMITS: Section =
    Section { header: "[service.client_limits]", keys: &[built("connections"), built("rate")] };

pub(crate) static TLS: Section = Section {
    header: "[service.tls]",
    keys: &[
        built("certificate"),
        built("key"),
        built("key_password_file"),
        built("client_ca"),
        built("client_auth"),
        built("min_version"),
        built("alpn"),
    ],
};

pub(crate) static BACKEND_TLS: Section = Section {
    header: "[service.backend_tls]",
    keys: &[
        built("enabled"),
        built("ca"),
        built("server_name"),
        built("verify"),
        built("certificate"),
        built("key"),
        built("close_notify"),
    ],
};

pub(crate) static TIMEOUTS: Section = Section {
    header: "[service.timeouts]",
    keys: &[
        built("connect"),
        built("client"),
        built("server"),
        built("client_fin"),
        built("server_fin"),
        built("queue"),
    ],
};

pub(crate) static CHECK: Section = Section {
    header: "[service.check]",
    keys: &[
        built("kind"),
        built("interval"),
        built("fast_interval"),
        built("down_interval"),
        built("timeout"),
        built("rise"),
        built("fall"),
        built("port"),
        built("path"),
        built("host"),
        built("method"),
        built("expect_status"),
        built("expect_body"),
        built("send"),
        built("expect"),
    ],
};

pub(crate) static PASSIVE: Section =
    Section { header: "[service.passive]", keys: &[built("enabled"), built("failures"), built("window")] };

pub(crate) static BACKEND: Section = Section {
    header: "[[service.backend]]",
    keys: &[
        built("name"),
        built("address"),
        built("weight"),
        built("max_connections"),
        built("backup"),
        built("disabled"),
    ],
};

/// All of them, in the order of the reference.
pub(crate) static SECTIONS: [&Section; 22] = [
    &ROOT,
    &CONTRAIL,
    &GLOBAL,
    &LOG,
    &ADMIN,
    &BGP,
    &PEER,
    &BFD,
    &PEER_ANNOUNCE,
    &PEER_DEGRADED,
    &VIP,
    &ANNOUNCE,
    &DEGRADED,
    &FLAP,
    &SERVICE,
    &CLIENT_LIMITS,
    &TLS,
    &BACKEND_TLS,
    &TIMEOUTS,
    &CHECK,
    &PASSIVE,
    &BACKEND,
];

#[cfg(test)]
mod tests;
