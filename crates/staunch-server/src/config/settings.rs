//! The table of settings, and the struct that holds their values.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use crate::tls::login::LoginFrom;

use super::{
    access::{
        DefaultQueueType, Limit, Mechanisms, Names, PasswordHashing, ProxyListeners, TlsVerify,
        TlsVersions,
    },
    text::SettingText,
    values::{
        Address, ByteSize, DiskFreeLimit, Listen, LogFilter, LogFormat, MemoryLimit, NodeName,
        Secret, Seeds,
    },
};

/// Largest message that may be allowed: with its properties it must fit in one file of the log.
const MESSAGE_SIZE_BYTES_MAX: u64 = 63 << 20;

/// Nodes that may found a cluster: all of them keep the catalog and vote there.
const SEEDS_MAX: usize = 9;

/// No client has to agree on less (AMQP 0-9-1, frame-min-size).
pub const FRAME_SIZE_BYTES_MIN: u32 = 4096;

/// What the table says about one setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Name in the file; the flag and the environment variable are derived from it.
    pub key: &'static str,
    /// The default, as it would stand in the file (without quotes).
    pub default: &'static str,
    /// Documentation, one element a line.
    pub docs: &'static [&'static str],
    /// What stands for the value in the help text.
    pub value_name: &'static str,
    /// Whether the file may give a list, and the command line the flag several times.
    pub is_list: bool,
    /// Whether the value stands without quotes in the file.
    pub is_bare: bool,
    /// Whether the flag alone means `true`.
    pub is_switch: bool,
    /// Says what is wrong with a text, if anything.
    pub(super) check: fn(&str) -> Result<(), String>,
    /// How a text is shown by `config show`: secrets are masked.
    pub(super) show: fn(&str) -> String,
}

impl Setting {
    /// `--data-dir` without the dashes.
    #[must_use]
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// `STAUNCH_DATA_DIR`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("STAUNCH_{}", self.key.to_ascii_uppercase())
    }

    /// The setting with this key.
    #[must_use]
    pub fn named(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])* $key:ident: $type:ty = $default:literal;)*) => {
        /// The settings of a node, checked.
        #[derive(Clone, Debug)]
        pub struct Config {
            $($(#[doc = $doc])* pub $key: $type,)*
        }

        /// Every setting, in the order of the default file.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            key: stringify!($key),
            default: $default,
            docs: &[$($doc),*],
            value_name: <$type as SettingText>::VALUE_NAME,
            is_list: <$type as SettingText>::IS_LIST,
            is_bare: <$type as SettingText>::IS_BARE,
            is_switch: <$type as SettingText>::IS_SWITCH,
            check: |text| <$type as SettingText>::parse(text).map(drop),
            show: |text| <$type as SettingText>::show(text),
        }),*];

        impl Config {
            /// Reads each setting from the text that `text_of` gives for its key.
            ///
            /// # Panics
            /// If a text does not pass the setting's check.
            pub(super) fn from_texts<'a>(text_of: impl Fn(&'static str) -> &'a str) -> Self {
                Self {
                    $($key: <$type as SettingText>::parse(text_of(stringify!($key)))
                        .expect("texts are checked before they are read"),)*
                }
            }
        }
    };
}

settings! {
    /// Directory of the log and everything else that must survive. One node owns it.
    data_dir: PathBuf = "./staunch-data";
    /// Name of this node, for ever: `name@host`. `auto` is `staunch@` and the host's name.
    node_name: NodeName = "auto";
    /// Where AMQP 0-9-1 clients connect. Port 0 takes a free one.
    amqp: Listen = "0.0.0.0:5672";
    /// Where they connect with TLS. Opened only when `tls_certificate` is given.
    amqps: Listen = "0.0.0.0:5671";
    /// Where the HTTP API listens, without TLS. Users restricted to loopback are so here too.
    http: Listen = "0.0.0.0:15672";
    /// Where Prometheus scrapes `/metrics`, without login.
    metrics: Listen = "0.0.0.0:15692";
    /// Where the other nodes of a cluster connect. Opened only when `seed` is given.
    peer: Address = "0.0.0.0:25672";
    /// The nodes that found the cluster and their peer ports, at most 9: the same list on every
    /// node, this one among them. The first start needs them all. A node that is to join a cluster
    /// names itself and at least one of its nodes.
    seed: Seeds = "";
    /// How long a node may be away before its replicas are made anew on others, if there are any;
    /// 0s: for ever.
    replica_repair_after: Duration = "10m";
    /// Name of the node that leads every queue while it is well (mode `standby`), the same on every
    /// node. Unless it is given, leaders are spread over all nodes (mode `cluster`).
    primary_node: String = "";
    /// This node is a witness: beside two nodes that keep messages it votes who of them leads. It
    /// keeps no messages and serves no clients, and needs little disk and memory. What a node is it
    /// stays; the others need not be told.
    witness: bool = "false";
    /// Name of the cluster, the same on every node.
    cluster_name: String = "staunch";
    /// Certificate of this node for the others, in PEM: see `staunch certs`. Unless it is given,
    /// `peer-tls/node.crt` in the data directory is used with the key and authority beside it.
    peer_certificate: Option<PathBuf> = "";
    /// Private key of that certificate, in PEM.
    peer_key: Option<PathBuf> = "";
    /// Certificate of the cluster's authority, in PEM.
    peer_ca: Option<PathBuf> = "";
    /// Directory made by `staunch certs init`, on the one node that lets others join by token.
    peer_authority: Option<PathBuf> = "";
    /// Nodes talk without TLS and believe whoever reaches the peer port. Without this they do so
    /// only if all of them are on loopback addresses.
    insecure_peers: bool = "false";
    /// Starts although messages that no other node has are damaged: they are lost. Without this a
    /// node says where the damage is and does not start. What other nodes have comes from there in
    /// any case.
    accept_loss: bool = "false";
    /// Memory that messages and connections may take before publishers are blocked: a size, or
    /// a share of what the machine or the control group has, whichever is less.
    memory_limit: MemoryLimit = "50%";
    /// Free space of the data directory's file system below which publishers are blocked.
    /// `auto` is the larger of 256 MiB and two log files.
    disk_free_limit: DiskFreeLimit = "auto";
    /// `text`, `json`, or `auto`: text on a terminal, JSON otherwise.
    log_format: LogFormat = "auto";
    /// `error`, `warn`, `info`, `debug` or `trace`, also by module: `info,staunch_log=debug`.
    log_level: LogFilter = "info";
    /// Certificate of this server and those between it and its authority, in PEM. Certificates
    /// are read again on SIGHUP and when they change; connections that are open stay open.
    tls_certificate: Option<PathBuf> = "";
    /// Private key of the certificate, in PEM.
    tls_key: Option<PathBuf> = "";
    /// Certificates of the authorities that vouch for clients, in PEM.
    tls_ca: Option<PathBuf> = "";
    /// `peer` asks clients for a certificate and verifies it; `none` does not.
    tls_verify: TlsVerify = "none";
    /// With `tls_verify = "peer"`: clients without a certificate are refused.
    tls_fail_if_no_peer_cert: bool = "false";
    /// TLS versions that are spoken.
    tls_versions: TlsVersions = "1.2,1.3";
    /// The part of a client's certificate that is the user's name for EXTERNAL.
    tls_login_from: LoginFrom = "distinguished_name";
    /// Time a client has for its TLS handshake.
    tls_handshake_timeout: Duration = "5s";
    /// How often the files of certificates are looked at.
    tls_reload_interval: Duration = "10s";
    /// Listeners behind a load balancer that tells the client's address (PROXY protocol, version
    /// 1 or 2); connections there without it are refused.
    proxy_protocol: ProxyListeners = "";
    /// User that exists at the first start, unless definitions are loaded.
    default_user: String = "guest";
    /// Password of the default user.
    default_pass: Secret = "guest";
    /// Tags of the default user.
    default_user_tags: Names = "administrator";
    /// Virtual host that exists at the first start, unless definitions are loaded.
    default_vhost: String = "/";
    /// Pattern of names that the default user may declare and delete.
    default_permission_configure: String = ".*";
    /// Pattern of names that the default user may publish and bind to.
    default_permission_write: String = ".*";
    /// Pattern of names that the default user may consume and bind from.
    default_permission_read: String = ".*";
    /// Users that may connect from this machine only; `none` for nobody.
    loopback_users: Names = "guest";
    /// SASL mechanisms offered: PLAIN, AMQPLAIN, EXTERNAL (TLS listener only), ANONYMOUS.
    auth_mechanisms: Mechanisms = "PLAIN,AMQPLAIN";
    /// Who a client is that logs in with ANONYMOUS.
    anonymous_user: String = "guest";
    /// How new passwords are kept: `sha256` and `sha512` as RabbitMQ does, `argon2id` resists
    /// guessing better and cannot be imported by RabbitMQ.
    password_hashing: PasswordHashing = "sha256";
    /// Definitions in RabbitMQ's JSON, applied before the listeners open.
    load_definitions: Option<PathBuf> = "";
    /// Do not apply `load_definitions` again while the file is the one applied last.
    definitions_skip_if_unchanged: bool = "false";
    /// Type of a queue that is declared without one, where the virtual host has no default: `auto`
    /// is `quorum` in a cluster and `classic` on a node that stands alone.
    default_queue_type: DefaultQueueType = "auto";
    /// How often statistics are taken: rates are over such a time.
    collect_statistics_interval: Duration = "5s";
    /// Heartbeat interval proposed to clients; 0 proposes none.
    heartbeat: Duration = "60s";
    /// Largest frame proposed to clients, in bytes; 0 means no limit.
    frame_max: u32 = "131072";
    /// Most channels of a connection; 0 means no limit but the protocol's.
    channel_max: u16 = "2047";
    /// Time a client has from the connect to `connection.open-ok`.
    handshake_timeout: Duration = "10s";
    /// Largest message body accepted.
    max_message_size: ByteSize = "16MiB";
    /// Time a consumer has to settle a delivery before its channel is closed; 0 is for ever.
    consumer_timeout: Duration = "30m";
    /// Most connections of this node.
    connection_max: Limit = "infinity";
    /// Most channels of all connections of this node.
    channel_max_per_node: Limit = "infinity";
    /// Most consumers of a channel.
    consumer_max_per_channel: Limit = "infinity";
    /// Most queues, in all virtual hosts together.
    queue_max: Limit = "infinity";
    /// Most exchanges, in all virtual hosts together.
    exchange_max: Limit = "infinity";
    /// Most virtual hosts.
    vhost_max: Limit = "infinity";
    /// Product announced to clients. Some choose their behaviour by it.
    product: String = "RabbitMQ";
    /// Version announced to clients, in the numbering that they know: whose behaviour to expect.
    product_version: String = "4.2.0";
}

impl Config {
    /// What no single setting can know: one (key, message) for each contradiction.
    pub(super) fn contradictions(&self) -> Vec<(&'static str, String)> {
        let seconds_max = u16::MAX;
        let is_heartbeat = self.heartbeat.subsec_nanos() == 0
            && self.heartbeat.as_secs() <= u64::from(seconds_max);
        let is_frame = self.frame_max == 0 || self.frame_max >= FRAME_SIZE_BYTES_MIN;
        let mut rules = vec![
            (
                "frame_max",
                is_frame,
                format!("must be 0 or at least {FRAME_SIZE_BYTES_MIN}"),
            ),
            (
                "heartbeat",
                is_heartbeat,
                format!("must be whole seconds, at most {seconds_max}"),
            ),
            (
                "handshake_timeout",
                !self.handshake_timeout.is_zero(),
                "must be longer than 0".to_owned(),
            ),
            (
                "max_message_size",
                self.max_message_size.0 <= MESSAGE_SIZE_BYTES_MAX,
                "must be at most 63MiB: a message fits in one log file".to_owned(),
            ),
            (
                "collect_statistics_interval",
                !self.collect_statistics_interval.is_zero(),
                "must be longer than 0".to_owned(),
            ),
            (
                "data_dir",
                !self.data_dir.as_os_str().is_empty(),
                "must not be empty".to_owned(),
            ),
        ];
        rules.extend(self.cluster_rules());
        rules.extend(self.access_rules());
        rules.extend(self.tls_rules());
        let broken = rules.into_iter().filter(|(_, holds, _)| !holds);
        broken.map(|(key, _, message)| (key, message)).collect()
    }

    fn cluster_rules(&self) -> Vec<(&'static str, bool, String)> {
        let seeds = &self.seed.0;
        let names: BTreeSet<_> = seeds.iter().map(|(name, _)| name.as_str()).collect();
        let knows_us = names.contains(self.node_name.as_str());
        let has_certificate = self.peer_certificate.is_some();
        let with_certificate = "goes with peer_certificate: give all three or none";
        vec![
            (
                "seed",
                seeds.len() <= SEEDS_MAX,
                format!(
                    "names {} nodes: at most {SEEDS_MAX} found a cluster",
                    seeds.len()
                ),
            ),
            (
                "seed",
                names.len() == seeds.len(),
                "names a node twice".to_owned(),
            ),
            (
                "seed",
                seeds.is_empty() || knows_us,
                format!("does not name this node, {}", self.node_name),
            ),
            (
                "primary_node",
                self.primary_node.is_empty() || names.contains(self.primary_node.as_str()),
                "is not among the nodes of seed".to_owned(),
            ),
            (
                "witness",
                !self.witness || !seeds.is_empty(),
                "needs seed: a witness is one of several nodes".to_owned(),
            ),
            (
                "primary_node",
                !self.witness || self.primary_node != self.node_name.as_str(),
                "is this node, which is a witness and never leads".to_owned(),
            ),
            (
                "peer_key",
                has_certificate == self.peer_key.is_some(),
                with_certificate.to_owned(),
            ),
            (
                "peer_ca",
                has_certificate == self.peer_ca.is_some(),
                with_certificate.to_owned(),
            ),
            (
                "insecure_peers",
                !(self.insecure_peers && has_certificate),
                "contradicts peer_certificate".to_owned(),
            ),
            (
                "cluster_name",
                !self.cluster_name.is_empty(),
                "must not be empty".to_owned(),
            ),
        ]
    }

    fn access_rules(&self) -> Vec<(&'static str, bool, String)> {
        let filled = |key, text: &str| (key, !text.is_empty(), "must not be empty".to_owned());
        vec![
            filled("default_user", &self.default_user),
            filled("default_vhost", &self.default_vhost),
            filled("anonymous_user", &self.anonymous_user),
            (
                "auth_mechanisms",
                !self.auth_mechanisms.0.is_empty(),
                "must not be empty".to_owned(),
            ),
        ]
    }

    fn tls_rules(&self) -> Vec<(&'static str, bool, String)> {
        let has_certificate = self.tls_certificate.is_some();
        let verifies = self.tls_verify == TlsVerify::Peer;
        let positive =
            |key, time: Duration| (key, !time.is_zero(), "must be longer than 0".to_owned());
        vec![
            (
                "tls_key",
                has_certificate == self.tls_key.is_some(),
                "goes with tls_certificate: give both or neither".to_owned(),
            ),
            (
                "tls_verify",
                !verifies || self.tls_ca.is_some(),
                "peer needs tls_ca".to_owned(),
            ),
            (
                "tls_fail_if_no_peer_cert",
                !self.tls_fail_if_no_peer_cert || verifies,
                "needs tls_verify = \"peer\"".to_owned(),
            ),
            (
                "tls_versions",
                !self.tls_versions.0.is_empty(),
                "must not be empty".to_owned(),
            ),
            positive("tls_handshake_timeout", self.tls_handshake_timeout),
            positive("tls_reload_interval", self.tls_reload_interval),
        ]
    }
}
