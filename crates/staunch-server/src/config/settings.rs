//! The table of settings, and the struct that holds their values.

use std::{path::PathBuf, time::Duration};

use super::{
    text::SettingText,
    values::{
        Address, ByteSize, DiskFreeLimit, LogFilter, LogFormat, MemoryLimit, NodeName, Secret,
        Seeds,
    },
};

/// Largest message that may be allowed: with its properties it must fit in one file of the log.
const MESSAGE_SIZE_BYTES_MAX: u64 = 63 << 20;

/// A frame never exceeds this before tuning, so no smaller limit can be agreed on
/// (AMQP 0-9-1, section 4.2.3: frame-min-size).
pub const FRAME_SIZE_BYTES_MIN: u32 = 8192;

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
    amqp: Address = "0.0.0.0:5672";
    /// Where the HTTP API and the user interface listen.
    http: Address = "0.0.0.0:15672";
    /// Where Prometheus scrapes.
    metrics: Address = "0.0.0.0:15692";
    /// Where the other nodes of a cluster connect.
    peer: Address = "0.0.0.0:25672";
    /// The nodes that form the cluster, the same list on every node.
    seed: Seeds = "";
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
    /// User that exists at the first start. `guest` may connect from this machine only.
    default_user: String = "guest";
    /// Password of the default user.
    default_pass: Secret = "guest";
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
    /// Product announced to clients. Some choose their behaviour by it.
    product: String = "RabbitMQ";
    /// Version announced to clients, in the numbering that they know: whose behaviour to expect.
    product_version: String = "4.2.0";
}

impl Config {
    /// What no single setting can know: one (key, message) for each contradiction.
    pub(super) fn contradictions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if !self.seed.0.is_empty() {
            found.push((
                "seed",
                "clustering is not available in this version".to_owned(),
            ));
        }
        if self.frame_max != 0 && self.frame_max < FRAME_SIZE_BYTES_MIN {
            found.push((
                "frame_max",
                format!("must be 0 or at least {FRAME_SIZE_BYTES_MIN}"),
            ));
        }
        if self.heartbeat.subsec_nanos() != 0 || self.heartbeat.as_secs() > u64::from(u16::MAX) {
            let message = format!("must be whole seconds, at most {}", u16::MAX);
            found.push(("heartbeat", message));
        }
        if self.handshake_timeout.is_zero() {
            found.push(("handshake_timeout", "must be longer than 0".to_owned()));
        }
        if self.max_message_size.0 > MESSAGE_SIZE_BYTES_MAX {
            found.push((
                "max_message_size",
                "must be at most 63MiB: a message fits in one log file".to_owned(),
            ));
        }
        if self.default_user.is_empty() {
            found.push(("default_user", "must not be empty".to_owned()));
        }
        if self.data_dir.as_os_str().is_empty() {
            found.push(("data_dir", "must not be empty".to_owned()));
        }
        found
    }
}
