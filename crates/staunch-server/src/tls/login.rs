//! Who a client certificate says somebody is (SASL EXTERNAL).
//!
//! The names are written as RabbitMQ's `ssl_cert_login_from` writes them, so that users that were
//! made for it are found: a distinguished name is RFC 4514 text, its parts in reverse order of the
//! certificate, bytes outside printable ASCII escaped in hexadecimal.

use std::{fmt::Write as _, net::IpAddr};

use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::Oid,
    prelude::FromDer as _,
    x509::{AttributeTypeAndValue, RelativeDistinguishedName},
};

/// Which part of a certificate is the user's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFrom {
    /// The whole subject: `CN=client,O=Example`.
    Subject,
    /// The subject's common name; several are joined by commas.
    CommonName,
    /// The first DNS name of the subject's alternative names, else the first e-mail address, URI
    /// or IP address.
    AlternativeName,
}

/// The user's name; none if the certificate has no such part.
pub(crate) fn user_name(certificate: &CertificateDer<'_>, from: LoginFrom) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = match from {
        LoginFrom::Subject => distinguished_name(&certificate),
        LoginFrom::CommonName => common_name(&certificate),
        LoginFrom::AlternativeName => alternative_name(&certificate)?,
    };
    (!name.is_empty()).then_some(name)
}

fn distinguished_name(certificate: &X509Certificate<'_>) -> String {
    let mut parts: Vec<_> = certificate
        .subject()
        .iter_rdn()
        .map(relative_name)
        .collect();
    parts.reverse();
    parts.join(",")
}

fn relative_name(name: &RelativeDistinguishedName<'_>) -> String {
    let parts: Vec<_> = name.iter().map(attribute).collect();
    parts.join("+")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let label = label(attribute.attr_type());
    let value = escaped(attribute.as_slice());
    format!("{label}={value}")
}

fn common_name(certificate: &X509Certificate<'_>) -> String {
    let names: Vec<_> = certificate
        .subject()
        .iter_common_name()
        .map(|name| String::from_utf8_lossy(name.as_slice()).into_owned())
        .collect();
    names.join(",")
}

fn alternative_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    let names = &names.value.general_names;
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) => Some((*text).to_owned()),
        _ => None,
    };
    let other = |name: &GeneralName<'_>| match name {
        GeneralName::RFC822Name(text) | GeneralName::URI(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => ip_address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    names
        .iter()
        .find_map(dns)
        .or_else(|| names.iter().find_map(other))
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// The short name of an attribute (RFC 4514, section 3, and those RabbitMQ adds), or its number.
fn label(oid: &Oid<'_>) -> String {
    let number = oid.to_id_string();
    let known = match number.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "SERIALNUMBER",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "TITLE",
        "2.5.4.42" => "GIVENNAME",
        "2.5.4.43" => "INITIALS",
        "2.5.4.44" => "GENERATIONQUALIFIER",
        "2.5.4.65" => "PSEUDONYM",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "EMAILADDRESS",
        _ => return number,
    };
    known.to_owned()
}

/// RFC 4514, section 2.4.
fn escaped(value: &[u8]) -> String {
    let mut text = String::new();
    for (i, byte) in value.iter().copied().enumerate() {
        let is_first = i == 0;
        let is_last = i + 1 == value.len();
        match byte {
            b'#' if is_first => text.push_str("\\#"),
            b' ' if is_first || is_last => text.push_str("\\ "),
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' '..=b'}' => text.push(char::from(byte)),
            _ => write!(text, "\\{byte:02X}").expect("writing to a String does not fail"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(fill: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        fill(&mut params);
        let key = KeyPair::generate().expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .clone()
    }

    #[test]
    fn a_distinguished_name_is_reversed_and_escaped() {
        let certificate = certificate(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::CountryName, "DE");
            name.push(DnType::OrganizationName, "Ex, \"Am\" <ple>; +\\ ");
            name.push(DnType::OrganizationalUnitName, "#1");
            name.push(DnType::CommonName, "Zoë");
        });
        let name = user_name(&certificate, LoginFrom::Subject);
        let expected = r#"CN=Zo\C3\AB,OU=\#1,O=Ex\, \"Am\" \<ple\>\; \+\\\ ,C=DE"#;
        assert_eq!(name.as_deref(), Some(expected));
        let name = user_name(&certificate, LoginFrom::CommonName);
        assert_eq!(name.as_deref(), Some("Zoë"));
    }

    #[test]
    fn a_dns_name_comes_before_other_alternative_names() {
        let address = SanType::IpAddress([192, 0, 2, 1].into());
        let dns = SanType::DnsName("client.example".try_into().expect("a name"));
        let from = LoginFrom::AlternativeName;
        let both = certificate(|params| params.subject_alt_names = vec![address.clone(), dns]);
        assert_eq!(user_name(&both, from).as_deref(), Some("client.example"));
        let one = certificate(|params| params.subject_alt_names = vec![address]);
        assert_eq!(user_name(&one, from).as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn a_certificate_without_the_part_names_nobody() {
        let empty = certificate(|_| {});
        for from in [
            LoginFrom::Subject,
            LoginFrom::CommonName,
            LoginFrom::AlternativeName,
        ] {
            assert_eq!(user_name(&empty, from), None, "{from:?}");
        }
        assert_eq!(
            user_name(&CertificateDer::from(vec![1, 2, 3]), LoginFrom::CommonName),
            None
        );
    }
}
