//! Join tokens: a right to one certificate, for a short time.
//!
//! ```text
//! stj_ and base64url of:
//! offset  size
//!      0     1  version, 1
//!      1    32  fingerprint of the authority: SHA-256 of its certificate
//!     33    16  id: random
//!     49     8  end, in seconds since 1970, little-endian
//!     57   1+n  name of the node it is for, its length before it; empty is any
//!     58+n   …  signature of all that with the authority's key: ECDSA P-256, SHA-256
//! ```
//!
//! Because of the fingerprint a joining node knows whom it talks to before it sends the token,
//! which is worth a certificate to whoever sees it. That a token is used once is kept by the
//! authority's directory, so the directory must not be in two places.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::SigningKey as _;
use rustls::SignatureScheme;
use staunch_types::Name;

use crate::{
    Authority,
    authority::{Fingerprint, unix_seconds},
    tls,
};

/// How a token's text begins.
pub const PREFIX: &str = "stj_";
/// How long a token lasts unless said otherwise.
pub const TOKEN_VALID: Duration = Duration::from_hours(1);
/// Longest time a token can last: it should be made when it is needed.
pub const TOKEN_VALID_MAX: Duration = Duration::from_hours(30 * 24);
/// Longest text of a token, in bytes.
pub const TOKEN_SIZE_BYTES_MAX: usize = 1024;

const VERSION: u8 = 1;
/// What is signed begins so, lest the key could be made to sign something else.
const PURPOSE: &[u8] = b"staunch join token\0";
const ID_SIZE_BYTES: usize = 16;
/// Up to the name.
const FIXED_SIZE_BYTES: usize = 1 + 32 + ID_SIZE_BYTES + 8 + 1;

/// A token that can be read; whether it is good only the authority knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    fingerprint: Fingerprint,
    id: [u8; ID_SIZE_BYTES],
    expires_at: SystemTime,
    /// Empty is any.
    name: Name,
    /// What the signature is of.
    signed: Vec<u8>,
    signature: Vec<u8>,
}

/// Why a token is no good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("this is no join token, or a part of it is missing")]
    Unreadable,
    /// It was made by a newer version.
    #[error("the token is of version {0}, version {VERSION} is known")]
    Version(u8),
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It was not made by this authority.
    #[error("the token was not made by this cluster's authority")]
    Forged,
    /// It is for another node.
    #[error("the token is for the node {0:?}")]
    OtherNode(Name),
    /// It would last too long.
    #[error("a token lasts at least a second and at most {} days", TOKEN_VALID_MAX.as_secs() / 86_400)]
    Duration,
    /// There is no randomness or the key cannot sign.
    #[error("no token can be made: {0}")]
    Make(String),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(********)")
    }
}

impl Token {
    /// Makes a token; `name` may be empty. Its text is returned.
    ///
    /// # Errors
    /// [`TokenError::Duration`], [`TokenError::Make`].
    ///
    /// # Panics
    /// Never: a name has at most 255 bytes.
    pub fn make(
        authority: &Authority,
        name: &Name,
        valid: Duration,
        now: SystemTime,
    ) -> Result<String, TokenError> {
        if valid < Duration::from_secs(1) || valid > TOKEN_VALID_MAX {
            return Err(TokenError::Duration);
        }
        let mut id = [0; ID_SIZE_BYTES];
        let filled = tls::provider().secure_random.fill(&mut id);
        filled.map_err(|_| TokenError::Make("there is no randomness".to_owned()))?;
        let mut token = vec![VERSION];
        token.extend(authority.fingerprint());
        token.extend(id);
        token.extend(unix_seconds(now + valid).to_le_bytes());
        token.push(u8::try_from(name.len()).expect("a name has at most 255 bytes"));
        token.extend_from_slice(name);
        let signature = authority.key().sign(&[PURPOSE, &token].concat());
        token.extend(signature.map_err(|error| TokenError::Make(error.to_string()))?);
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(token)))
    }

    /// Reads a token's text.
    ///
    /// # Errors
    /// [`TokenError::Unreadable`], [`TokenError::Version`].
    pub fn read(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let encoded = text.strip_prefix(PREFIX).ok_or(TokenError::Unreadable)?;
        if encoded.len() > TOKEN_SIZE_BYTES_MAX {
            return Err(TokenError::Unreadable);
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded);
        let bytes = bytes.map_err(|_| TokenError::Unreadable)?;
        match bytes.first() {
            Some(&VERSION) => Self::parse(&bytes).ok_or(TokenError::Unreadable),
            Some(&version) => Err(TokenError::Version(version)),
            None => Err(TokenError::Unreadable),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.get(1..)?;
        let (fingerprint, rest) = rest.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (expires_at, rest) = rest.split_first_chunk()?;
        let (name_size, rest) = rest.split_first()?;
        let name_size = usize::from(*name_size);
        let name = Name::new(rest.get(..name_size)?).ok()?;
        let signed_size = FIXED_SIZE_BYTES + name_size;
        let expires_at = Duration::from_secs(u64::from_le_bytes(*expires_at));
        Some(Self {
            fingerprint: *fingerprint,
            id: *id,
            expires_at: SystemTime::UNIX_EPOCH.checked_add(expires_at)?,
            name,
            signed: [PURPOSE, &bytes[..signed_size]].concat(),
            signature: bytes[signed_size..].to_vec(),
        })
    }

    /// Whose certificate vouches for the node to be joined.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether it lets a node of that name in now; that it is used once is not checked here.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) fn check(
        &self,
        authority: &Authority,
        name: &Name,
        now: SystemTime,
    ) -> Result<(), TokenError> {
        if self.fingerprint != authority.fingerprint() || !self.is_signed_by(authority) {
            return Err(TokenError::Forged);
        }
        if self.expires_at <= now {
            return Err(TokenError::Expired);
        }
        if !self.name.is_empty() && self.name != *name {
            return Err(TokenError::OtherNode(self.name.clone()));
        }
        Ok(())
    }

    fn is_signed_by(&self, authority: &Authority) -> bool {
        let public_key = authority.key().public_key_raw();
        let algorithms = tls::algorithms().mapping;
        algorithms
            .iter()
            .filter(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256)
            .flat_map(|(_, algorithms)| *algorithms)
            .any(|algorithm| {
                let verified =
                    algorithm.verify_signature(public_key, &self.signed, &self.signature);
                verified.is_ok()
            })
    }

    pub(crate) fn id(&self) -> &[u8] {
        &self.id
    }

    pub(crate) fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> (tempfile::TempDir, Authority) {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::create(directory.path(), "c").expect("an authority");
        (directory, authority)
    }

    #[test]
    fn a_token_lets_its_node_in_until_it_expires() {
        let (_directory, authority) = authority();
        let now = SystemTime::now();
        let hour = Duration::from_hours(1);
        let (any, n4, n5) = (
            Name::default(),
            Name::from_static("n4"),
            Name::from_static("n5"),
        );
        let make = |name| {
            let text = Token::make(&authority, name, hour, now).expect("a token");
            Token::read(&format!(" {text}\n")).expect("it reads back")
        };
        assert_eq!(make(&any).check(&authority, &n4, now), Ok(()));
        assert_eq!(make(&n4).check(&authority, &n4, now), Ok(()));
        let other = make(&n4).check(&authority, &n5, now);
        assert_eq!(other, Err(TokenError::OtherNode(n4.clone())));
        let late = make(&n4).check(&authority, &n4, now + hour);
        assert_eq!(late, Err(TokenError::Expired));
        assert_ne!(make(&any).id(), make(&any).id());
    }

    #[test]
    fn no_byte_of_a_token_can_be_changed() {
        let (_directory, authority) = authority();
        let (_other_directory, other) = self::authority();
        let (now, n4) = (SystemTime::now(), Name::from_static("n4"));
        let text = Token::make(&authority, &n4, TOKEN_VALID, now).expect("a token");
        let token = Token::read(&text).expect("it reads back");
        assert_eq!(token.check(&other, &n4, now), Err(TokenError::Forged));
        let bytes = URL_SAFE_NO_PAD
            .decode(&text[PREFIX.len()..])
            .expect("base64");
        for i in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[i] ^= 1;
            let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(forged));
            let checked = Token::read(&text).and_then(|t| t.check(&authority, &n4, now));
            assert!(checked.is_err(), "byte {i}");
        }
        for size in 0..bytes.len() {
            let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes[..size]));
            let checked = Token::read(&text).and_then(|t| t.check(&authority, &n4, now));
            assert!(checked.is_err(), "{size} bytes");
        }
    }

    #[test]
    fn a_token_cannot_last_for_ever() {
        let (_directory, authority) = authority();
        for valid in [Duration::ZERO, TOKEN_VALID_MAX + Duration::from_secs(1)] {
            let made = Token::make(&authority, &Name::default(), valid, SystemTime::now());
            assert_eq!(made, Err(TokenError::Duration));
        }
    }
}
