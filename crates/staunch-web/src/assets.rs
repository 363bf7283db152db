//! The files of the page, as `build.rs` has gathered them.

use std::borrow::Cow;

use axum::{
    body::Body,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

/// The page.
#[allow(dead_code, reason = "without the page's files none is made")]
pub(crate) struct Page {
    /// The document.
    pub(crate) index: &'static str,
    etag: &'static str,
    /// SHA-256 of the import map, the one script within the document.
    imports_digest: &'static str,
    assets: &'static [Asset],
}

/// A file of the page.
#[allow(dead_code, reason = "without the page's files none is made")]
pub(crate) struct Asset {
    /// As modules name it.
    path: &'static str,
    /// With its digest in it, so that it never changes.
    name: &'static str,
    kind: &'static str,
    plain: &'static [u8],
    packed: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/page.rs"));

pub(crate) async fn index(asked: HeaderMap) -> Response {
    let Some(page) = &PAGE else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let policy = format!(
        "default-src 'none'; script-src 'self' 'sha256-{}'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        page.imports_digest
    );
    let is_known = asked
        .get(header::IF_NONE_MATCH)
        .is_some_and(|etag| etag.as_bytes() == page.etag.as_bytes());
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        page.index.into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, page.etag),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = policy.parse() {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

pub(crate) async fn asset(Path(name): Path<String>, asked: HeaderMap) -> Response {
    let assets = PAGE.as_ref().map_or(&[] as &[_], |page| page.assets);
    let Some(asset) = assets.iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let accepted = asked.get(header::ACCEPT_ENCODING);
    let takes_packed = accepted
        .and_then(|accepted| accepted.to_str().ok())
        .is_some_and(|accepted| accepted.contains("gzip"));
    let newer = newer(asset.path);
    let is_fixed = newer.is_none();
    let content = match newer {
        Some(newer) => Cow::Owned(newer),
        None if takes_packed => Cow::Borrowed(asset.packed),
        None => Cow::Borrowed(asset.plain),
    };
    let mut response = Body::from(content.into_owned()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    let kept = if is_fixed {
        "public, max-age=31536000, immutable"
    } else {
        "no-store"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    if is_fixed && takes_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// A source file as it is now: in debug builds, whoever edits one only reloads the page.
#[cfg(debug_assertions)]
fn newer(path: &str) -> Option<Vec<u8>> {
    let path = path.strip_prefix("src/")?;
    let web = concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/src");
    std::fs::read(std::path::Path::new(web).join(path)).ok()
}

#[cfg(not(debug_assertions))]
fn newer(_path: &str) -> Option<Vec<u8>> {
    None
}
