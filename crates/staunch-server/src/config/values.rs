//! The types of settings that are more than a number or a text.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs as _},
    path::Path,
};

use tracing_subscriber::EnvFilter;

use super::text::{SettingText, split_unit};

const MIB: u64 = 1 << 20;

/// Least free disk space before publishers are blocked (contract C21).
const DISK_FREE_SIZE_BYTES_MIN: u64 = 256 * MIB;

/// What a machine is taken to have when it does not say.
const MEMORY_SIZE_BYTES_FALLBACK: u64 = 1024 * MIB;

/// A host and port to listen on or connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Port; 0 to listen on a free one.
    pub port: u16,
}

impl Address {
    /// The socket addresses behind the name.
    ///
    /// # Errors
    /// When the name cannot be resolved.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl SettingText for Address {
    const VALUE_NAME: &'static str = "ADDR";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not HOST:PORT, for example 0.0.0.0:5672 or [::]:5672");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(host) => host,
            None if host.contains([':', '[', ']', '/', ' ']) || host.is_empty() => {
                return Err(wrong());
            }
            None => host,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// Where to listen, if at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// There.
    At(Address),
}

impl Listen {
    /// The socket addresses to listen on.
    ///
    /// # Errors
    /// When the name cannot be resolved.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Off => Ok(Vec::new()),
            Self::At(address) => address.resolve(),
        }
    }
}

impl SettingText for Listen {
    const VALUE_NAME: &'static str = "ADDR|off";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            address => Address::parse(address).map(Self::At),
        }
    }
}

/// The name of a node: `name@host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName(String);

impl NodeName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SettingText for NodeName {
    const VALUE_NAME: &'static str = "NAME";

    fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" {
            let host = rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned();
            return Ok(Self(format!("staunch@{host}")));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "@._-".contains(c);
        if text.is_empty() || text.len() > 255 || !text.chars().all(is_plain) {
            return Err(format!(
                "{text:?} is not a node name: letters, digits, '@', '.', '_', '-'"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (MIB << 20, "TiB"),
            (MIB << 10, "GiB"),
            (MIB, "MiB"),
            (1 << 10, "KiB"),
        ];
        for (size, unit) in units {
            if self.0 >= size {
                let tenths = self.0 / (size / 10);
                return write!(f, "{}.{} {unit}", tenths / 10, tenths % 10);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

impl SettingText for ByteSize {
    const VALUE_NAME: &'static str = "SIZE";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size such as 512MiB, 1GB or 65536");
        let (number, unit) = split_unit(text).ok_or_else(wrong)?;
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => MIB,
            "g" | "gib" => MIB << 10,
            "t" | "tib" => MIB << 20,
            _ => return Err(wrong()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

/// How much memory the broker may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// A share of the machine's or the control group's memory.
    Percent(u8),
    /// So much.
    Bytes(u64),
}

impl MemoryLimit {
    /// The limit in bytes on this machine, now.
    pub fn size_bytes(self) -> u64 {
        match self {
            Self::Percent(percent) => machine_memory_size_bytes() / 100 * u64::from(percent),
            Self::Bytes(size) => size,
        }
    }
}

impl SettingText for MemoryLimit {
    const VALUE_NAME: &'static str = "SIZE|PERCENT";

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(number) = text.strip_suffix('%') {
            return match number.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                Ok(_) | Err(_) => Err(format!("{text:?} is not a share from 1% to 100%")),
            };
        }
        match ByteSize::parse(text) {
            Ok(ByteSize(size)) if size >= 16 * MIB => Ok(Self::Bytes(size)),
            Ok(_) => Err("must be at least 16MiB".to_owned()),
            Err(_) => Err(format!(
                "{text:?} is neither a size such as 512MiB nor a share as 50%"
            )),
        }
    }
}

/// How little disk space may be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFreeLimit {
    /// The larger of 256 MiB and two log files.
    Auto,
    /// So much.
    Bytes(u64),
}

impl DiskFreeLimit {
    /// The limit in bytes, given the size of one log file.
    pub fn size_bytes(self, log_file_size_bytes: u64) -> u64 {
        match self {
            Self::Auto => DISK_FREE_SIZE_BYTES_MIN.max(2 * log_file_size_bytes),
            Self::Bytes(size) => size,
        }
    }
}

impl SettingText for DiskFreeLimit {
    const VALUE_NAME: &'static str = "SIZE";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            size => ByteSize::parse(size).map(|ByteSize(size)| Self::Bytes(size)),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl SettingText for LogFormat {
    const VALUE_NAME: &'static str = "auto|text|json";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is none of auto, text, json")),
        }
    }
}

/// Which log lines are written: directives of `tracing_subscriber`'s `EnvFilter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The directives.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SettingText for LogFilter {
    const VALUE_NAME: &'static str = "LEVEL";

    fn parse(text: &str) -> Result<Self, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let is_level = |word: &str| LEVELS.contains(&word.to_ascii_lowercase().as_str());
        let is_directive = |part: &str| is_level(part.rsplit('=').next().unwrap_or(part).trim());
        if text.split(',').all(is_directive) && EnvFilter::try_new(text).is_ok() {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "{text:?} is no log level: error, warn, info, debug, trace, or module=level"
        ))
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

impl SettingText for Secret {
    const VALUE_NAME: &'static str = "PASSWORD";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn show(_text: &str) -> String {
        "********".to_owned()
    }
}

/// The nodes of a cluster by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(pub Vec<(NodeName, Address)>);

impl SettingText for Seeds {
    const VALUE_NAME: &'static str = "NAME=ADDR";
    const IS_LIST: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let seed = |part: &str| {
            let wrong = || format!("{part:?} is not NAME=HOST:PORT");
            let (name, address) = part.split_once('=').ok_or_else(wrong)?;
            Ok((NodeName::parse(name)?, Address::parse(address)?))
        };
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        parts.map(seed).collect::<Result<_, String>>().map(Self)
    }
}

/// Memory this process may have: the machine's, or the control group's if that is less.
pub fn machine_memory_size_bytes() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
    let machine = kibibytes.map_or(MEMORY_SIZE_BYTES_FALLBACK, |size: u64| size << 10);
    control_group_limits().fold(machine, u64::min)
}

/// The memory limits of this process's control group and of those around it, both versions.
fn control_group_limits() -> impl Iterator<Item = u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            v1 if v1.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for ancestor in Path::new(group).ancestors() {
            let relative = ancestor.strip_prefix("/").unwrap_or(ancestor);
            let path = Path::new(root).join(relative).join(file);
            let text = std::fs::read_to_string(path).unwrap_or_default();
            limits.extend(text.trim().parse::<u64>());
        }
    }
    limits.into_iter()
}
