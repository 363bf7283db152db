//! The PROXY protocol, versions 1 and 2: what a load balancer says about who connects.
//!
//! Source: "The PROXY protocol, versions 1 & 2", of `HAProxy`. The parser is fed what has
//! been read so far and says how many more bytes surely belong to the header, so nothing behind
//! the header is ever read.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::{io::AsyncReadExt as _, net::TcpStream};

/// How a header of version 2 begins.
const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// How a header of version 1 begins.
const SIGNATURE_V1: &[u8; 6] = b"PROXY ";
/// Signature, version and command, family and transport, length.
const FIXED_SIZE_BYTES_V2: usize = 16;
/// The shortest header of version 1: `PROXY UNKNOWN\r\n`.
const SIZE_BYTES_MIN_V1: usize = 15;
/// The longest header of version 1, by its specification.
const SIZE_BYTES_MAX_V1: usize = 107;
/// The longest header of version 2 that is taken: addresses and the values that a balancer may
/// add, such as a certificate's names.
const SIZE_BYTES_MAX_V2: usize = 4096;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// The balancer connects for itself, or for someone whose address it cannot tell: the
    /// addresses of the socket hold.
    Local,
    /// It connects for somebody else.
    Proxied {
        source: SocketAddr,
        destination: SocketAddr,
    },
}

/// Why no header was taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
    #[error("the PROXY header is longer than {0} bytes")]
    TooLong(usize),
    #[error("the connection ended within the PROXY header: {0}")]
    Io(#[from] io::Error),
}

/// How far a header has been read.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// At least so many more bytes belong to it.
    Wants(usize),
    Done(Header),
}

/// Reads the header and nothing behind it.
pub(crate) async fn read(stream: &mut TcpStream) -> Result<Header, HeaderError> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes)? {
            Progress::Done(header) => return Ok(header),
            Progress::Wants(more) => {
                let mut part = stream.take(more as u64);
                if part.read_buf(&mut bytes).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let begins = |signature: &[u8]| {
        let shared = bytes.len().min(signature.len());
        bytes[..shared] == signature[..shared]
    };
    if begins(SIGNATURE_V2) {
        // Empty or short input may become either; version 1 has the shorter signature.
        if bytes.is_empty() {
            return Ok(Progress::Wants(SIGNATURE_V1.len()));
        }
        return parse_v2(bytes);
    }
    if begins(SIGNATURE_V1) {
        return parse_v1(bytes);
    }
    Err(HeaderError::Missing)
}

fn parse_v1(bytes: &[u8]) -> Result<Progress, HeaderError> {
    if bytes.len() < SIZE_BYTES_MIN_V1 {
        return Ok(Progress::Wants(SIZE_BYTES_MIN_V1 - bytes.len()));
    }
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        if bytes.len() >= SIZE_BYTES_MAX_V1 {
            return Err(HeaderError::TooLong(SIZE_BYTES_MAX_V1));
        }
        let has_return = bytes.last() == Some(&b'\r');
        return Ok(Progress::Wants(if has_return { 1 } else { 2 }));
    };
    let line = std::str::from_utf8(line).map_err(|_| HeaderError::Malformed("not ASCII"))?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(Progress::Done(Header::Local));
    }
    let mut next = || words.next().unwrap_or_default();
    let (source, destination) = (next(), next());
    let (source_port, destination_port) = (next(), next());
    if words.next().is_some() {
        return Err(HeaderError::Malformed("words after the ports"));
    }
    let header = Header::Proxied {
        source: address_v1(family, source, source_port)?,
        destination: address_v1(family, destination, destination_port)?,
    };
    Ok(Progress::Done(header))
}

fn address_v1(family: &str, address: &str, port: &str) -> Result<SocketAddr, HeaderError> {
    let ip = match family {
        "TCP4" => address.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
        "TCP6" => address.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
        _ => return Err(HeaderError::Malformed("unknown address family")),
    };
    let ip = ip.ok_or(HeaderError::Malformed("wrong address"))?;
    // `parse` would take a sign.
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number);
    let port = port.ok_or(HeaderError::Malformed("wrong port"))?;
    Ok(SocketAddr::new(ip, port))
}

fn parse_v2(bytes: &[u8]) -> Result<Progress, HeaderError> {
    if bytes.len() < FIXED_SIZE_BYTES_V2 {
        return Ok(Progress::Wants(FIXED_SIZE_BYTES_V2 - bytes.len()));
    }
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let size = FIXED_SIZE_BYTES_V2 + length;
    if size > SIZE_BYTES_MAX_V2 {
        return Err(HeaderError::TooLong(SIZE_BYTES_MAX_V2));
    }
    let is_local = match bytes[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeaderError::Malformed("unknown version or command")),
    };
    if bytes.len() < size {
        return Ok(Progress::Wants(size - bytes.len()));
    }
    let body = &bytes[FIXED_SIZE_BYTES_V2..size];
    let header = match bytes[13] {
        _ if is_local => Header::Local,
        // No address, or one of a Unix socket.
        0x00 | 0x31 => Header::Local,
        0x11 => addresses_v2::<4>(body)?,
        0x21 => addresses_v2::<16>(body)?,
        _ => {
            return Err(HeaderError::Malformed(
                "unknown address family or transport",
            ));
        }
    };
    Ok(Progress::Done(header))
}

/// Source and destination address of `N` bytes each, then the ports.
fn addresses_v2<const N: usize>(body: &[u8]) -> Result<Header, HeaderError>
where
    IpAddr: From<[u8; N]>,
{
    let short = HeaderError::Malformed("too short for its addresses");
    let Some((source, rest)) = body.split_first_chunk::<N>() else {
        return Err(short);
    };
    let Some((destination, rest)) = rest.split_first_chunk::<N>() else {
        return Err(short);
    };
    let Some((ports, _values)) = rest.split_first_chunk::<4>() else {
        return Err(short);
    };
    let [s0, s1, d0, d1] = *ports;
    Ok(Header::Proxied {
        source: (*source, u16::from_be_bytes([s0, s1])).into(),
        destination: (*destination, u16::from_be_bytes([d0, d1])).into(),
    })
}

#[cfg(test)]
mod tests;
