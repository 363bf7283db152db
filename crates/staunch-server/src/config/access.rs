//! The types of settings about who may do what.

use staunch_amqp_connection::Mechanism;

use crate::tls::{Version, login::LoginFrom};

use super::text::SettingText;

/// A list of words, each one of a few that are known.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident($item:ty), $value_name:literal, $kind:literal, [$($word:literal => $value:expr),* $(,)?]) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(pub Vec<$item>);

        impl SettingText for $name {
            const VALUE_NAME: &'static str = $value_name;
            const IS_LIST: bool = true;

            fn parse(text: &str) -> Result<Self, String> {
                let item = |word: &str| match word {
                    $($word => Ok($value),)*
                    _ => Err(format!(concat!("{:?} is no ", $kind, ": there are {}"), word, [$($word),*].join(", "))),
                };
                items(text).map(item).collect::<Result<_, _>>().map(Self)
            }
        }
    };
}

/// One of a few words.
macro_rules! choice {
    ($name:ty, $value_name:literal, [$($word:literal => $value:expr),* $(,)?]) => {
        impl SettingText for $name {
            const VALUE_NAME: &'static str = $value_name;

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($value),)*
                    _ => Err(format!("{text:?} is none of {}", [$($word),*].join(", "))),
                }
            }
        }
    };
}

/// A listener for AMQP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmqpListener {
    /// Without TLS.
    Plain,
    /// With TLS.
    Tls,
}

words! {
    /// Listeners whose connections begin with a PROXY header.
    ProxyListeners(AmqpListener), "amqp|amqps", "listener with the PROXY protocol",
    ["amqp" => AmqpListener::Plain, "amqps" => AmqpListener::Tls]
}

words! {
    /// TLS versions that are spoken.
    TlsVersions(Version), "1.2|1.3", "TLS version",
    ["1.2" => Version::V1_2, "1.3" => Version::V1_3]
}

words! {
    /// SASL mechanisms that are offered, in their order.
    Mechanisms(Mechanism), "MECHANISM", "SASL mechanism",
    [
        "PLAIN" => Mechanism::Plain,
        "AMQPLAIN" => Mechanism::AmqPlain,
        "EXTERNAL" => Mechanism::External,
        "ANONYMOUS" => Mechanism::Anonymous,
    ]
}

/// Whether certificates of clients are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVerify {
    /// No client is asked for one.
    None,
    /// One that is shown must be good.
    Peer,
}

choice!(TlsVerify, "none|peer", ["none" => Self::None, "peer" => Self::Peer]);

choice!(
    LoginFrom,
    "distinguished_name|common_name|subject_alternative_name",
    [
        "distinguished_name" => Self::Subject,
        "common_name" => Self::CommonName,
        "subject_alternative_name" => Self::AlternativeName,
    ]
);

/// How new passwords are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordHashing {
    /// As RabbitMQ by default.
    Sha256,
    /// As RabbitMQ can.
    Sha512,
    /// Slow by design; RabbitMQ cannot import it.
    Argon2id,
}

choice!(
    PasswordHashing,
    "sha256|sha512|argon2id",
    ["sha256" => Self::Sha256, "sha512" => Self::Sha512, "argon2id" => Self::Argon2id]
);

/// What a queue is that is declared without `x-queue-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultQueueType {
    /// `quorum` in a cluster, `classic` on a node that stands alone.
    Auto,
    /// `classic`.
    Classic,
    /// `quorum`.
    Quorum,
}

choice!(
    DefaultQueueType,
    "auto|classic|quorum",
    ["auto" => Self::Auto, "classic" => Self::Classic, "quorum" => Self::Quorum]
);

/// Names, such as users or tags; `none` is an empty list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl SettingText for Names {
    const VALUE_NAME: &'static str = "NAME";
    const IS_LIST: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        items(text)
            .map(<String as SettingText>::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Most of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// As many as there is room for.
    Infinity,
    /// So many.
    Most(u64),
}

impl Limit {
    /// The limit as a number.
    pub fn most(self) -> Option<u64> {
        match self {
            Self::Infinity => None,
            Self::Most(count) => Some(count),
        }
    }
}

impl SettingText for Limit {
    const VALUE_NAME: &'static str = "NUMBER|infinity";

    fn parse(text: &str) -> Result<Self, String> {
        if text == "infinity" {
            return Ok(Self::Infinity);
        }
        let wrong = |_| format!("{text:?} is neither a number nor infinity");
        text.replace('_', "").parse().map(Self::Most).map_err(wrong)
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}
