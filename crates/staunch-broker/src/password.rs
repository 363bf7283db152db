//! Passwords as they are kept: salted hashes in RabbitMQ's forms, and Argon2id.
//!
//! RabbitMQ's forms are `salt[4] ‖ hash(salt ‖ password)`; definitions files and its HTTP API
//! carry them in base64. They cost a microsecond, so a guesser is only slowed down by the
//! password itself. Argon2id (RFC 9106) is for those who want more; RabbitMQ cannot read it.

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, Version};
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

/// Random bytes that [`PasswordHash::hash`] takes. RabbitMQ's forms use the first four of them.
pub const SALT_SIZE_BYTES: usize = 16;

/// Salt of RabbitMQ's forms.
const RABBIT_SALT_SIZE_BYTES: usize = 4;

/// Most memory that checking an Argon2id hash may ask for, in KiB.
const ARGON2_MEMORY_KIB_MAX: u32 = 256 * 1024;

/// Most passes over that memory.
const ARGON2_PASSES_MAX: u32 = 16;

/// Most lanes.
const ARGON2_LANES_MAX: u32 = 16;

/// Longest PHC string that is read.
const PHC_SIZE_BYTES_MAX: usize = 512;

/// How a password is hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// SHA-256 of salt and password: RabbitMQ's default.
    #[default]
    Sha256,
    /// SHA-512 of salt and password.
    Sha512,
    /// MD5 of salt and password: for users that come from RabbitMQ before 3.6.
    Md5,
    /// Argon2id as a PHC string.
    Argon2id,
}

impl HashAlgorithm {
    const ALL: [Self; 4] = [Self::Sha256, Self::Sha512, Self::Md5, Self::Argon2id];

    /// Its name in definitions files and the HTTP API; those of RabbitMQ are RabbitMQ's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "rabbit_password_hashing_sha256",
            Self::Sha512 => "rabbit_password_hashing_sha512",
            Self::Md5 => "rabbit_password_hashing_md5",
            Self::Argon2id => "argon2id",
        }
    }

    /// The algorithm with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    fn rabbit_digest(self, salt: &[u8], password: &[u8]) -> Vec<u8> {
        fn digest<D: Digest>(salt: &[u8], password: &[u8]) -> Vec<u8> {
            D::new()
                .chain_update(salt)
                .chain_update(password)
                .finalize()
                .to_vec()
        }
        match self {
            Self::Sha256 => digest::<Sha256>(salt, password),
            Self::Sha512 => digest::<Sha512>(salt, password),
            Self::Md5 => digest::<Md5>(salt, password),
            Self::Argon2id => unreachable!("Argon2id is not one of RabbitMQ's"),
        }
    }

    /// Size of a hash with its salt; none for Argon2id.
    fn rabbit_size_bytes(self) -> Option<usize> {
        match self {
            Self::Sha256 => Some(RABBIT_SALT_SIZE_BYTES + 32),
            Self::Sha512 => Some(RABBIT_SALT_SIZE_BYTES + 64),
            Self::Md5 => Some(RABBIT_SALT_SIZE_BYTES + 16),
            Self::Argon2id => None,
        }
    }
}

/// Why bytes are not a password hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHash {
    /// Salt and hash have another size.
    #[error(
        "a password hash by {} has {expected_bytes} bytes, not {size_bytes}",
        algorithm.name()
    )]
    Size {
        /// How it was hashed.
        algorithm: HashAlgorithm,
        /// Bytes that it should have.
        expected_bytes: usize,
        /// Bytes that it has.
        size_bytes: usize,
    },
    /// Not a PHC string of Argon2id, or one that asks for more work than is allowed.
    #[error("an argon2id hash is a PHC string within the limits of memory, passes and lanes: {0}")]
    Argon2id(String),
}

/// A hashed password with its salt. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    algorithm: HashAlgorithm,
    bytes: Vec<u8>,
}

impl PasswordHash {
    /// A hash made elsewhere: salt and hash, or the PHC string.
    ///
    /// # Errors
    /// [`InvalidHash`] if it cannot be one.
    pub fn new(algorithm: HashAlgorithm, bytes: Vec<u8>) -> Result<Self, InvalidHash> {
        if let Some(expected_bytes) = algorithm.rabbit_size_bytes() {
            if bytes.len() != expected_bytes {
                return Err(InvalidHash::Size {
                    algorithm,
                    expected_bytes,
                    size_bytes: bytes.len(),
                });
            }
        } else {
            parse_phc(&bytes).map_err(InvalidHash::Argon2id)?;
        }
        Ok(Self { algorithm, bytes })
    }

    /// Hashes a password. Argon2id takes tens of milliseconds ([`PasswordHash::is_slow`]).
    ///
    /// # Panics
    /// Never: the parameters are constants.
    pub fn hash(algorithm: HashAlgorithm, password: &[u8], salt: &[u8; SALT_SIZE_BYTES]) -> Self {
        let bytes = match algorithm {
            HashAlgorithm::Sha256 | HashAlgorithm::Sha512 | HashAlgorithm::Md5 => {
                let salt = &salt[..RABBIT_SALT_SIZE_BYTES];
                [salt, &algorithm.rabbit_digest(salt, password)].concat()
            }
            HashAlgorithm::Argon2id => {
                use argon2::PasswordHasher;
                let hash: phc::PasswordHash = argon2id()
                    .hash_password_with_salt(password, salt)
                    .expect("the default parameters and the salt's size are allowed");
                hash.to_string().into_bytes()
            }
        };
        Self { algorithm, bytes }
    }

    /// How it was hashed.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Salt and hash, or the PHC string.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether [`PasswordHash::verify`] takes so long that the node must not wait for it.
    pub fn is_slow(&self) -> bool {
        self.algorithm == HashAlgorithm::Argon2id
    }

    /// Whether this is the password, in constant time. An empty one never is (RabbitMQ,
    /// `rabbit_auth_backend_internal`).
    pub fn verify(&self, password: &[u8]) -> bool {
        if password.is_empty() {
            return false;
        }
        match self.algorithm {
            HashAlgorithm::Sha256 | HashAlgorithm::Sha512 | HashAlgorithm::Md5 => {
                let (salt, hash) = self.bytes.split_at(RABBIT_SALT_SIZE_BYTES);
                let expected = self.algorithm.rabbit_digest(salt, password);
                bool::from(expected.as_slice().ct_eq(hash))
            }
            HashAlgorithm::Argon2id => {
                use argon2::PasswordVerifier;
                parse_phc(&self.bytes)
                    .is_ok_and(|hash| argon2id().verify_password(password, &hash).is_ok())
            }
        }
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PasswordHash({:?}, ..)", self.algorithm)
    }
}

fn argon2id() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

/// Reads a PHC string and checks what it asks for: one that wants gigabytes would let whoever
/// may add users stop the node.
fn parse_phc(bytes: &[u8]) -> Result<phc::PasswordHash, String> {
    if bytes.len() > PHC_SIZE_BYTES_MAX {
        return Err(format!("longer than {PHC_SIZE_BYTES_MAX} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let hash = phc::PasswordHash::new(text).map_err(|error| error.to_string())?;
    let params = Params::try_from(&hash).map_err(|error| error.to_string())?;
    let is_argon2id = hash.algorithm.as_str() == "argon2id";
    let is_allowed = params.m_cost() <= ARGON2_MEMORY_KIB_MAX
        && params.t_cost() <= ARGON2_PASSES_MAX
        && params.p_cost() <= ARGON2_LANES_MAX;
    if is_argon2id && is_allowed {
        Ok(hash)
    } else {
        Err(format!("{}, {params:?}", hash.algorithm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; SALT_SIZE_BYTES] = *b"\x90\x8d\xc6\x0amore of it..";

    #[test]
    fn the_hash_of_rabbitmqs_documentation() {
        // RabbitMQ's password guide: salt 908DC60A, password test12.
        let expected = [
            0x90, 0x8d, 0xc6, 0x0a, 0xa5, 0xb9, 0x24, 0xb3, 0x09, 0x6b, 0x88, 0x97, 0xd6, 0x5a,
            0x3b, 0x5f, 0x80, 0xfa, 0x5d, 0xb6, 0x2a, 0x94, 0xb8, 0x31, 0x22, 0xcd, 0xf4, 0xf8,
            0xfe, 0xad, 0x10, 0xd5, 0x15, 0xd8, 0xf3, 0x91,
        ];
        let hash = PasswordHash::hash(HashAlgorithm::Sha256, b"test12", &SALT);
        assert_eq!(hash.as_bytes(), expected);
    }

    #[test]
    fn only_the_password_fits() {
        for algorithm in HashAlgorithm::ALL {
            let hash = PasswordHash::hash(algorithm, b"secret", &SALT);
            assert!(hash.verify(b"secret"), "{algorithm:?}");
            assert!(!hash.verify(b"Secret"), "{algorithm:?}");
            assert!(!hash.verify(b"secret "), "{algorithm:?}");
            assert_eq!(hash.is_slow(), algorithm == HashAlgorithm::Argon2id);
            let read = PasswordHash::new(algorithm, hash.as_bytes().to_vec());
            assert_eq!(read, Ok(hash));
            assert_eq!(HashAlgorithm::from_name(algorithm.name()), Some(algorithm));
        }
    }

    #[test]
    fn an_empty_password_never_fits() {
        for algorithm in HashAlgorithm::ALL {
            let hash = PasswordHash::hash(algorithm, b"", &SALT);
            assert!(!hash.verify(b""), "{algorithm:?}");
        }
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let check = |algorithm, bytes: &[u8], expected: &str| {
            let error = PasswordHash::new(algorithm, bytes.to_vec()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(HashAlgorithm::Sha256, &[0; 35], "36 bytes, not 35");
        check(HashAlgorithm::Md5, b"", "20 bytes, not 0");
        check(HashAlgorithm::Argon2id, b"$argon2id$", "PHC string");
        let salt_and_hash = "c29tZXNhbHQ$K0bB0VRp1Sd4FDcLDGbKmRFmJKP1rzJNWb1sqYJ0X4c";
        let greedy = format!("$argon2id$v=19$m=4194304,t=3,p=1${salt_and_hash}");
        check(HashAlgorithm::Argon2id, greedy.as_bytes(), "4194304");
        let other = format!("$argon2d$v=19$m=19456,t=2,p=1${salt_and_hash}");
        check(HashAlgorithm::Argon2id, other.as_bytes(), "argon2d");
    }
}
