//! Sessions by cookie, for browsers: who has shown a password once need not send it again.
//!
//! A session is known by a random token that only the browser has; the table keeps its digest. It
//! ends when it is left, when nobody has used it for [`IDLE_MAX`], after [`AGE_MAX`], and with the
//! password it was opened by. What changes something must carry a second token in a header, which
//! no other site's page can read or send.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use staunch_types::Name;
use subtle::ConstantTimeEq as _;

use crate::error::ApiError;

/// Sessions of all users; the one that was not used for the longest time makes room.
pub(crate) const SESSIONS_MAX: usize = 1024;
/// Sessions of one user.
pub(crate) const SESSIONS_PER_USER_MAX: usize = 32;
/// How long a session lasts that nobody uses.
pub(crate) const IDLE_MAX: Duration = Duration::from_hours(1);
/// How long a session lasts at most.
pub(crate) const AGE_MAX: Duration = Duration::from_hours(12);
/// Length of the path that a cookie is for.
const PATH_LEN_MAX: usize = 256;
/// Random bytes of a token.
pub(crate) const TOKEN_SIZE_BYTES: usize = 32;

/// Carries the second token.
pub(crate) const CSRF_HEADER: HeaderName = HeaderName::from_static("x-staunch-csrf");

/// A random token.
pub(crate) type Token = [u8; TOKEN_SIZE_BYTES];

/// What is kept of a token that only the browser has.
type TokenDigest = [u8; 32];

/// All sessions of this node.
#[derive(Clone, Default)]
pub(crate) struct PageSessions(Arc<Mutex<BTreeMap<TokenDigest, Open>>>);

/// A session.
struct Open {
    user: Name,
    /// The password that it was opened by, as it is kept.
    password: Arc<[u8]>,
    csrf: Token,
    opened: Instant,
    used: Instant,
}

/// A session as it is found by its cookie.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) user: Name,
    /// The password that it was opened by, as it is kept.
    pub(crate) password: Arc<[u8]>,
    pub(crate) csrf: Token,
    /// Until it ends, however much it is used.
    pub(crate) rest: Duration,
}

impl PageSessions {
    /// Opens a session; older ones make room.
    pub(crate) fn open(
        &self,
        (token, csrf): (&Token, Token),
        user: Name,
        password: &[u8],
        now: Instant,
    ) -> Found {
        let mut open = self.lock();
        open.retain(|_, session| session.rest(now).is_some());
        let of_user = open.values().filter(|session| session.user == user).count();
        if of_user >= SESSIONS_PER_USER_MAX {
            forget_oldest(&mut open, |session| session.user == user);
        }
        if open.len() >= SESSIONS_MAX {
            forget_oldest(&mut open, |_| true);
        }
        let session = Open {
            user,
            password: password.into(),
            csrf,
            opened: now,
            used: now,
        };
        let found = session.found(AGE_MAX);
        open.insert(digest(token), session);
        found
    }

    /// The session of a token, which is used by that.
    pub(crate) fn find(&self, token: &Token, now: Instant) -> Option<Found> {
        let mut open = self.lock();
        let key = digest(token);
        let session = open.get_mut(&key)?;
        let Some(rest) = session.rest(now) else {
            open.remove(&key);
            return None;
        };
        session.used = now;
        Some(session.found(rest))
    }

    /// Ends the session of a token.
    pub(crate) fn end(&self, token: &Token) {
        self.lock().remove(&digest(token));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TokenDigest, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Until it ends, however much it is used; none if it has ended.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let idle = now.saturating_duration_since(self.used);
        let rest = AGE_MAX.saturating_sub(now.saturating_duration_since(self.opened));
        (idle < IDLE_MAX && !rest.is_zero()).then_some(rest)
    }

    fn found(&self, rest: Duration) -> Found {
        Found {
            user: self.user.clone(),
            password: self.password.clone(),
            csrf: self.csrf,
            rest,
        }
    }
}

impl Found {
    /// Whether a request that would change something carries the second token.
    pub(crate) fn check_csrf(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let given = headers.get(CSRF_HEADER).map(HeaderValue::as_bytes);
        let wanted = text(&self.csrf);
        if given.is_some_and(|given| given.ct_eq(wanted.as_bytes()).into()) {
            return Ok(());
        }
        Err(ApiError::NotAuthorized(format!(
            "a session by cookie changes nothing without its token in {CSRF_HEADER}"
        )))
    }
}

fn forget_oldest(open: &mut BTreeMap<TokenDigest, Open>, is_meant: impl Fn(&Open) -> bool) {
    let meant = open.iter().filter(|(_, session)| is_meant(session));
    let oldest = meant.min_by_key(|(_, session)| session.used);
    if let Some(oldest) = oldest.map(|(key, _)| *key) {
        open.remove(&oldest);
    }
}

fn digest(token: &Token) -> TokenDigest {
    Sha256::digest(token).into()
}

/// A token as it is sent.
pub(crate) fn text(token: &Token) -> String {
    URL_SAFE_NO_PAD.encode(token)
}

/// Name of the cookie: that of the node is part of it, because cookies of one machine are sent to
/// all its ports, and several nodes may be there.
pub(crate) fn cookie_name(node: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let node = node.chars().map(|c| if kept(c) { c } else { '_' });
    format!("staunch-session-{}", node.collect::<String>())
}

/// The token that a request's cookies have (RFC 6265, 4.2).
pub(crate) fn token_of(headers: &HeaderMap, cookie_name: &str) -> Option<Token> {
    let cookies = headers.get_all(header::COOKIE);
    let mut pairs = cookies
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, text) = pairs.find(|(name, _)| *name == cookie_name)?;
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Has the browser keep a token; none: forget it.
pub(crate) fn set_cookie(
    headers: &HeaderMap,
    name: &str,
    path: &str,
    token: Option<&Token>,
) -> Option<HeaderValue> {
    let value = token.map(text).unwrap_or_default();
    let age = if token.is_some() { "" } else { "; Max-Age=0" };
    // Whoever ends TLS for the node says so.
    let proto = headers.get("x-forwarded-proto");
    let secure = if proto.is_some_and(|proto| proto.as_bytes() == b"https") {
        "; Secure"
    } else {
        ""
    };
    format!("{name}={value}; HttpOnly; SameSite=Strict; Path={path}{age}{secure}")
        .parse()
        .ok()
}

/// Where the page is served, for its cookie: what a proxy may have put before the paths of the node.
///
/// # Errors
/// [`ApiError::BadRequest`] for what cannot stand in a cookie.
pub(crate) fn cookie_path(path: Option<&str>) -> Result<&str, ApiError> {
    let path = path.unwrap_or("/");
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"/-._~%".contains(&c);
    if path.starts_with('/') && path.len() <= PATH_LEN_MAX && path.bytes().all(is_plain) {
        return Ok(path);
    }
    Err(ApiError::BadRequest("path is no plain path".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).expect("a name")
    }

    fn token(number: usize) -> Token {
        let mut token = [7; TOKEN_SIZE_BYTES];
        token[..8].copy_from_slice(&number.to_be_bytes());
        token
    }

    #[test]
    fn sessions_end_when_nobody_uses_them_and_when_they_are_old() {
        let (sessions, start) = (PageSessions::default(), Instant::now());
        let token = token(1);
        sessions.open((&token, [1; 32]), name("ana"), b"hash", start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let idle = IDLE_MAX.as_secs();
        assert!(sessions.find(&token, at(idle - 1)).is_some());
        assert!(sessions.find(&token, at(2 * idle - 2)).is_some());
        assert!(sessions.find(&token, at(3 * idle - 2)).is_none());
        assert!(sessions.find(&token, at(2 * idle)).is_none(), "it is gone");
        sessions.open((&token, [1; 32]), name("ana"), b"hash", start);
        for second in (0..AGE_MAX.as_secs()).step_by(600) {
            assert!(sessions.find(&token, at(second)).is_some(), "{second}");
        }
        assert!(sessions.find(&token, start + AGE_MAX).is_none());
    }

    #[test]
    fn a_session_ends_when_it_is_left() {
        let (sessions, now) = (PageSessions::default(), Instant::now());
        sessions.open((&token(1), [1; 32]), name("ana"), b"hash", now);
        sessions.open((&token(2), [2; 32]), name("ana"), b"hash", now);
        sessions.end(&token(1));
        assert!(sessions.find(&token(1), now).is_none());
        let found = sessions.find(&token(2), now).expect("another's");
        assert_eq!((found.user, found.csrf), (name("ana"), [2; 32]));
    }

    #[test]
    fn both_tables_are_bounded_and_the_oldest_makes_room() {
        let (sessions, start) = (PageSessions::default(), Instant::now());
        let at = |number: usize| start + Duration::from_millis(number as u64);
        for number in 0..=SESSIONS_PER_USER_MAX {
            sessions.open((&token(number), [0; 32]), name("ana"), b"", at(number));
        }
        assert_eq!(sessions.lock().len(), SESSIONS_PER_USER_MAX);
        assert!(sessions.find(&token(0), at(99)).is_none());
        assert!(sessions.find(&token(1), at(99)).is_some());
        for number in 100..100 + SESSIONS_MAX {
            let user = name(&format!("u{number}"));
            sessions.open((&token(number), [0; 32]), user, b"", at(number));
        }
        assert_eq!(sessions.lock().len(), SESSIONS_MAX);
    }

    #[test]
    fn changes_need_the_second_token() {
        let sessions = PageSessions::default();
        let found = sessions.open((&token(1), token(2)), name("ana"), b"", Instant::now());
        let mut headers = HeaderMap::new();
        assert!(found.check_csrf(&headers).is_err());
        for (given, is_right) in [(text(&token(2)), true), (text(&token(1)), false)] {
            headers.insert(CSRF_HEADER, given.parse().expect("a header"));
            assert_eq!(found.check_csrf(&headers).is_ok(), is_right);
        }
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let mine = cookie_name("staunch@host-1.x");
        assert_eq!(mine, "staunch-session-staunch_host-1.x");
        let found = |cookies: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, cookies.parse().expect("a header"));
            token_of(&headers, &mine)
        };
        let text = text(&token(3));
        assert_eq!(found(&format!("a=b; {mine}={text}; c")), Some(token(3)));
        assert_eq!(found(&format!("{mine}x={text}")), None);
        assert_eq!(found(&format!("{mine}=abc")), None);
    }

    #[test]
    fn cookies_say_where_they_belong() {
        let mut headers = HeaderMap::new();
        let cookie = |headers: &HeaderMap, token| {
            let value = set_cookie(headers, "n", "/p/", token).expect("a header");
            value.to_str().expect("text").to_owned()
        };
        let left = "n=; HttpOnly; SameSite=Strict; Path=/p/; Max-Age=0";
        assert_eq!(cookie(&headers, None), left);
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        let given = cookie(&headers, Some(&[0; 32]));
        assert!(given.ends_with("AAA; HttpOnly; SameSite=Strict; Path=/p/; Secure"));
        assert_eq!(cookie_path(None).ok(), Some("/"));
        assert_eq!(cookie_path(Some("/a-b/")).ok(), Some("/a-b/"));
        for wrong in ["", "a", "/a;b", "/a\nb", "/ü"] {
            assert!(cookie_path(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
