//! The first frame in either direction: who one is, and why one is not let in.
//!
//! ```text
//! offset  size
//!      0     4  "STPL"
//!      4     2  lowest protocol version spoken
//!      6     2  highest protocol version spoken; what follows is that of version 1
//!      8     8  incarnation: random, new with every start of the process
//!     16     8  feature bits
//!     24   1+n  name of the cluster, its length before it
//!          1+n  name of the node, its length before it
//!          1+n  name of the node that is meant, its length before it
//! ```
//!
//! Integers are little-endian. The dialler speaks first. A hello that does not please is answered
//! by a refusal: a code of one byte, then text for people.

use bytes::{Buf as _, Bytes};
use staunch_types::Name;

use crate::frame::{Frame, FrameKind};

/// The version of the protocol that is spoken here, lowest and highest.
pub const VERSION: u16 = 1;
/// Longest hello or refusal that is read, in bytes.
pub(crate) const HELLO_SIZE_BYTES_MAX: usize = 1024;

const MAGIC: &[u8; 4] = b"STPL";
/// Longest text of a refusal, in bytes.
const REFUSAL_TEXT_SIZE_BYTES_MAX: usize = 512;

/// What one says about oneself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version_min: u16,
    pub(crate) version_max: u16,
    pub(crate) incarnation: u64,
    pub(crate) features: u64,
    pub(crate) cluster: Name,
    pub(crate) node: Name,
    /// Who is spoken to: one that accepts must know that nobody else was meant before it takes
    /// the connection for its peer's.
    pub(crate) to: Name,
}

/// Why a peer is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The first frame is no hello.
    #[error("the first frame is no hello of a node")]
    NoHello,
    /// No version is spoken by both.
    #[error("it speaks versions {min} to {max} of the peer protocol, this node {VERSION}")]
    Version {
        /// Lowest that it speaks.
        min: u16,
        /// Highest that it speaks.
        max: u16,
    },
    /// It belongs to another cluster.
    #[error("it belongs to the cluster {theirs:?}, this node to {ours:?}")]
    Cluster {
        /// What it says.
        theirs: Name,
        /// Our own.
        ours: Name,
    },
    /// It says to be who its certificate does not say it is.
    #[error("it says to be {says:?}, its certificate says {certificate:?}")]
    Impostor {
        /// What it says.
        says: Name,
        /// What its certificate says.
        certificate: Name,
    },
    /// It has the name of this node, or is this node.
    #[error("it is called {0:?} as this node is: every node needs a name of its own")]
    OwnName(Name),
    /// Somebody else is expected there.
    #[error(
        "{is:?} was reached instead of {expected:?}: is the address in the list of seeds right?"
    )]
    NotExpected {
        /// Who is there.
        is: Name,
        /// Who should be.
        expected: Name,
    },
    /// Nobody of that name is known, and there are as many strangers as there may be.
    #[error("no member of the cluster is called {0:?}, and too many strangers have connected")]
    NotAMember(Name),
    /// The other of the two has to dial.
    #[error("{0:?} has to be dialled: of two nodes the one whose name is lower dials")]
    WrongDirection(Name),
    /// It does not speak TLS.
    #[error("it does not speak TLS, which this node wants: see `staunch certs`")]
    Plaintext,
    /// It wants TLS.
    #[error("it speaks TLS, this node was started without")]
    Tls,
    /// A certificate without a node's name.
    #[error("its certificate names no node: see `staunch certs node`")]
    NamelessCertificate,
    /// A token is no good.
    #[error("{0}")]
    Token(String),
}

impl Refused {
    fn code(&self) -> u8 {
        match self {
            Self::NoHello => 1,
            Self::Version { .. } => 2,
            Self::Cluster { .. } => 3,
            Self::Impostor { .. } => 4,
            Self::OwnName(_) => 5,
            Self::NotExpected { .. } => 6,
            Self::NotAMember(_) => 7,
            Self::WrongDirection(_) => 8,
            Self::Plaintext => 9,
            Self::Tls => 10,
            Self::NamelessCertificate => 11,
            Self::Token(_) => 12,
        }
    }

    /// The frame that tells the peer.
    pub(crate) fn frame(&self) -> Frame {
        let mut payload = vec![self.code()];
        let text = self.to_string();
        payload.extend(text.bytes().take(REFUSAL_TEXT_SIZE_BYTES_MAX));
        small(FrameKind::REFUSED, payload)
    }
}

/// The text of a refusal that was received.
pub(crate) fn refusal_text(payload: &[u8]) -> String {
    let text = payload.get(1..).unwrap_or_default();
    String::from_utf8_lossy(text)
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

impl Hello {
    pub(crate) fn frame(&self) -> Frame {
        let mut payload = MAGIC.to_vec();
        payload.extend(self.version_min.to_le_bytes());
        payload.extend(self.version_max.to_le_bytes());
        payload.extend(self.incarnation.to_le_bytes());
        payload.extend(self.features.to_le_bytes());
        for name in [&self.cluster, &self.node, &self.to] {
            payload.push(u8::try_from(name.len()).expect("a name has at most 255 bytes"));
            payload.extend_from_slice(name);
        }
        small(FrameKind::HELLO, payload)
    }

    /// Reads a hello of any version that can be understood.
    ///
    /// # Errors
    /// [`Refused::NoHello`], [`Refused::Version`].
    pub(crate) fn decode(mut payload: Bytes) -> Result<Self, Refused> {
        if !payload.starts_with(MAGIC) {
            return Err(Refused::NoHello);
        }
        payload.advance(MAGIC.len());
        let version_min = payload.try_get_u16_le().map_err(|_| Refused::NoHello)?;
        let version_max = payload.try_get_u16_le().map_err(|_| Refused::NoHello)?;
        if !(version_min..=version_max).contains(&VERSION) {
            return Err(Refused::Version {
                min: version_min,
                max: version_max,
            });
        }
        let incarnation = payload.try_get_u64_le().map_err(|_| Refused::NoHello)?;
        let features = payload.try_get_u64_le().map_err(|_| Refused::NoHello)?;
        let cluster = name(&mut payload).ok_or(Refused::NoHello)?;
        let node = name(&mut payload).ok_or(Refused::NoHello)?;
        let to = name(&mut payload).ok_or(Refused::NoHello)?;
        Ok(Self {
            version_min,
            version_max,
            incarnation,
            features,
            cluster,
            node,
            to,
        })
    }

    /// What holds for both sides: the peer is of our cluster, is not us, means us, and is who its
    /// certificate says, if it has one.
    ///
    /// # Errors
    /// The first that does not hold.
    pub(crate) fn check(&self, ours: &Self, certificate: Option<&Name>) -> Result<(), Refused> {
        if self.cluster != ours.cluster {
            return Err(Refused::Cluster {
                theirs: self.cluster.clone(),
                ours: ours.cluster.clone(),
            });
        }
        if let Some(certificate) = certificate
            && *certificate != self.node
        {
            return Err(Refused::Impostor {
                says: self.node.clone(),
                certificate: certificate.clone(),
            });
        }
        if self.node == ours.node {
            return Err(Refused::OwnName(self.node.clone()));
        }
        if self.to != ours.node {
            return Err(Refused::NotExpected {
                is: ours.node.clone(),
                expected: self.to.clone(),
            });
        }
        Ok(())
    }
}

fn name(payload: &mut Bytes) -> Option<Name> {
    let size = usize::from(payload.try_get_u8().ok()?);
    let bytes = (size <= payload.len()).then(|| payload.split_to(size))?;
    Name::new(&bytes).ok()
}

/// A frame whose payload is known to be small.
pub(crate) fn small(kind: FrameKind, payload: Vec<u8>) -> Frame {
    Frame::of_any_kind(kind, vec![payload.into()]).expect("the payload is small")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(cluster: &'static str, node: &'static str) -> Hello {
        Hello {
            version_min: VERSION,
            version_max: VERSION,
            incarnation: 0x0102_0304_0506_0708,
            features: 5,
            cluster: Name::from_static(cluster),
            node: Name::from_static(node),
            to: Name::from_static("n1"),
        }
    }

    fn payload(hello: &Hello) -> Bytes {
        let frame = hello.frame().to_bytes();
        Bytes::copy_from_slice(&frame[crate::frame::HEADER_SIZE_BYTES..])
    }

    #[test]
    fn a_hello_reads_back_and_its_layout_is_fixed() {
        let hello = hello("c", "n1");
        let bytes = payload(&hello);
        let layout =
            b"STPL\x01\0\x01\0\x08\x07\x06\x05\x04\x03\x02\x01\x05\0\0\0\0\0\0\0\x01c\x02n1\x02n1";
        assert_eq!(bytes, &layout[..]);
        assert_eq!(Hello::decode(bytes.clone()), Ok(hello));
        for size in 0..bytes.len() {
            assert_eq!(Hello::decode(bytes.slice(..size)), Err(Refused::NoHello));
        }
    }

    #[test]
    fn a_version_range_without_ours_is_refused() {
        for (min, max, good) in [(1, 1, true), (0, 9, true), (2, 3, false), (0, 0, false)] {
            let mut hello = hello("c", "n1");
            (hello.version_min, hello.version_max) = (min, max);
            let read = Hello::decode(payload(&hello));
            let expected = if good {
                Ok(hello)
            } else {
                Err(Refused::Version { min, max })
            };
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn strangers_and_doubles_are_told_apart() {
        let ours = hello("c", "n1");
        let check = |peer: &Hello, certificate: Option<&'static str>| {
            let certificate = certificate.map(Name::from_static);
            peer.check(&ours, certificate.as_ref())
                .map_err(|refused| refused.code())
        };
        assert_eq!(check(&hello("c", "n2"), Some("n2")), Ok(()));
        assert_eq!(check(&hello("c", "n2"), None), Ok(()));
        assert_eq!(check(&hello("d", "n2"), Some("n2")), Err(3));
        assert_eq!(check(&hello("c", "n2"), Some("n3")), Err(4));
        assert_eq!(check(&hello("c", "n1"), Some("n1")), Err(5));
        let astray = Hello {
            to: Name::from_static("n3"),
            ..hello("c", "n2")
        };
        assert_eq!(check(&astray, Some("n2")), Err(6));
    }

    #[test]
    fn a_refusal_carries_its_text() {
        let refused = Refused::NotAMember(Name::from_static("n9"));
        let bytes = refused.frame().to_bytes();
        let text = refusal_text(&bytes[crate::frame::HEADER_SIZE_BYTES..]);
        assert_eq!(text, refused.to_string());
        assert!(
            text.contains("no member of the cluster is called \"n9\""),
            "{text}"
        );
        assert_eq!(refusal_text(b""), "");
    }
}
