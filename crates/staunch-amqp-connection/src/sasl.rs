//! SASL: which mechanisms are offered, and who a response says it is.
//!
//! All mechanisms served here are done with one response, so `connection.secure` is never sent.
//! A response holds credentials: no error shows any part of it.

use staunch_types::{
    Name, Proof, Secret,
    field_table::{TableRef, Value},
};

use crate::{config::Config, error::PeerError, transport::Transport};

/// A way to show who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// User and password (RFC 4616).
    Plain,
    /// User and password in a field table: AMQP 0-8's spelling of PLAIN.
    AmqPlain,
    /// The user named by the TLS certificate; offered on encrypted connections only.
    External,
    /// Nobody in particular; the node's configuration names the user.
    Anonymous,
}

/// Who a response says it is, and what shows it.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) user: Name,
    pub(crate) proof: Proof,
}

impl Mechanism {
    /// Every mechanism there is.
    const ALL: [Self; 4] = [Self::Plain, Self::AmqPlain, Self::External, Self::Anonymous];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
            Self::External => "EXTERNAL",
            Self::Anonymous => "ANONYMOUS",
        }
    }

    fn is_offered(self, config: &Config, transport: &Transport) -> bool {
        // Without TLS there can be no certificate; without a certificate EXTERNAL is offered
        // nevertheless, since "login refused" says more than a missing mechanism (RabbitMQ).
        let is_possible = self != Self::External || transport.tls.is_some();
        is_possible && config.mechanisms.contains(&self)
    }

    /// The mechanism a client chose.
    ///
    /// # Errors
    /// [`PeerError::UnknownMechanism`]; [`PeerError::InvalidMechanism`] if it was not offered.
    pub(crate) fn chosen(
        name: &[u8],
        config: &Config,
        transport: &Transport,
    ) -> Result<Self, PeerError> {
        let mechanism = Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name().as_bytes() == name)
            .ok_or_else(|| PeerError::UnknownMechanism {
                mechanism: Name::new(name).expect("a short string is a name"),
            })?;
        if mechanism.is_offered(config, transport) {
            Ok(mechanism)
        } else {
            let mechanism = mechanism.name();
            Err(PeerError::InvalidMechanism { mechanism })
        }
    }

    /// Who `response` says it is; `None` if nobody could be believed, whatever the node says.
    ///
    /// # Errors
    /// [`PeerError::MalformedResponse`].
    pub(crate) fn claim(
        self,
        response: &[u8],
        transport: &Transport,
    ) -> Result<Option<Claim>, PeerError> {
        let malformed = PeerError::MalformedResponse {
            mechanism: self.name(),
        };
        let (user, password) = match self {
            Self::Plain => {
                let Some((authorization, user, password)) = plain(response) else {
                    return Err(malformed);
                };
                // Nobody may act for somebody else (RFC 4616, section 2).
                if !authorization.is_empty() && authorization != user {
                    return Ok(None);
                }
                (user, password)
            }
            Self::AmqPlain => match amqplain(response) {
                Some(credentials) => credentials,
                None => return Err(malformed),
            },
            Self::External => {
                let tls = transport.tls.as_ref();
                let user = tls.and_then(|tls| tls.certificate_user.clone());
                return Ok(user.map(|user| Claim {
                    user,
                    proof: Proof::Certificate,
                }));
            }
            Self::Anonymous => {
                return Ok(Some(Claim {
                    user: Name::default(),
                    proof: Proof::Anonymous,
                }));
            }
        };
        // No user has a longer name.
        Ok(Name::new(user).ok().map(|user| Claim {
            user,
            proof: Proof::Password(Secret(password.to_vec())),
        }))
    }
}

/// The mechanisms for `connection.start`, in the order of the configuration.
pub(crate) fn offered(config: &Config, transport: &Transport) -> String {
    let mechanisms = config.mechanisms.iter();
    mechanisms
        .filter(|mechanism| mechanism.is_offered(config, transport))
        .map(|mechanism| mechanism.name())
        .collect::<Vec<_>>()
        .join(" ")
}

/// SASL PLAIN: `authorization \0 user \0 password`.
fn plain(response: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut parts = response.split(|byte| *byte == 0);
    let parts = (parts.next()?, parts.next()?, parts.next()?, parts.next());
    let (authorization, user, password, None) = parts else {
        return None;
    };
    Some((authorization, user, password))
}

/// AMQPLAIN: a field table without its length, with `LOGIN` and `PASSWORD`.
fn amqplain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let table = TableRef::parse(response).ok()?;
    let text = |key| match table.get(key) {
        Some(Value::LongStr(bytes)) => Some(bytes),
        _ => None,
    };
    Some((text("LOGIN")?, text("PASSWORD")?))
}
