//! Sessions by cookie: in, what they may do, and all the ways out.

use serde_json::{Value, json};

use crate::{http::Client, node::Node};

/// Somebody with a browser.
struct Browser {
    base: String,
    headers: Vec<(&'static str, String)>,
}

/// What came back.
struct Told {
    status: u16,
    cookie: Option<String>,
    has_challenge: bool,
    body: Value,
}

const SESSION: &str = "/staunch/v1/session";

impl Browser {
    fn new(node: &Node) -> Self {
        Self {
            base: format!("http://{}/api", node.http),
            headers: vec![("x-requested-with", "staunch-page".to_owned())],
        }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Told {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true);
        let agent: ureq::Agent = config.build().into();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut response = agent.run(request.body(text).unwrap()).unwrap();
        let cookie = response.headers().get("set-cookie");
        let cookie = cookie.map(|cookie| cookie.to_str().unwrap().to_owned());
        let text = response.body_mut().read_to_string().unwrap();
        Told {
            status: response.status().as_u16(),
            cookie,
            has_challenge: response.headers().contains_key("www-authenticate"),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
        }
    }

    /// Logs in, and keeps the cookie; gives the second token.
    #[track_caller]
    fn log_in(&mut self, user: &str, password: &str) -> String {
        let body = json!({"user": user, "password": password});
        let told = self.ask("POST", SESSION, &body);
        assert_eq!(told.status, 200, "{}", told.body);
        let cookie = told.cookie.unwrap();
        let (pair, rest) = cookie.split_once(';').unwrap();
        assert!(pair.starts_with("staunch-session-"), "{cookie}");
        assert_eq!(rest, " HttpOnly; SameSite=Strict; Path=/");
        self.headers.push(("cookie", pair.to_owned()));
        told.body["csrf_token"].as_str().unwrap().to_owned()
    }

    fn status(&self, method: &str, path: &str) -> u16 {
        self.ask(method, path, &Value::Null).status
    }
}

#[test]
fn a_session_changes_things_only_with_its_token() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let mut browser = Browser::new(&node);
    assert_eq!(browser.status("GET", "/vhosts"), 401);
    let token = browser.log_in("guest", "guest");
    assert_eq!(browser.status("GET", "/vhosts"), 200);
    assert_eq!(browser.status("PUT", "/vhosts/v"), 401);
    assert_eq!(browser.status("DELETE", SESSION), 401);
    browser.headers.push(("x-staunch-csrf", token.clone()));
    assert_eq!(browser.status("PUT", "/vhosts/v"), 201);
    let who = browser.ask("GET", SESSION, &Value::Null).body;
    assert_eq!(who["user"], "guest");
    assert_eq!(who["csrf_token"], token);
    let left = browser.ask("DELETE", SESSION, &Value::Null);
    assert_eq!(left.status, 204);
    assert!(left.cookie.unwrap().contains("Max-Age=0"));
    assert_eq!(browser.status("GET", "/vhosts"), 401);
}

#[test]
fn a_session_ends_with_its_password_and_its_user() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    let ana = json!({"password": "a", "tags": ["management"]});
    guest.check("PUT", "/users/ana", &ana, 201);
    let (mut first, mut second) = (Browser::new(&node), Browser::new(&node));
    first.log_in("ana", "a");
    assert_eq!(first.status("GET", "/whoami"), 200);
    let other = json!({"password": "b", "tags": ["management"]});
    guest.check("PUT", "/users/ana", &other, 204);
    assert_eq!(first.status("GET", "/whoami"), 401);
    second.log_in("ana", "b");
    assert_eq!(second.status("GET", "/whoami"), 200);
    guest.check("DELETE", "/users/ana", &Value::Null, 204);
    assert_eq!(second.status("GET", "/whoami"), 401);
}

#[test]
fn who_is_not_let_in_gets_no_cookie_and_browsers_no_dialog() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    let nobody = json!({"password": "p", "tags": []});
    guest.check("PUT", "/users/untagged", &nobody, 201);
    let browser = Browser::new(&node);
    for (user, password) in [
        ("guest", "no"),
        ("nobody", "guest"),
        ("untagged", "p"),
        ("guest", ""),
    ] {
        let body = json!({"user": user, "password": password});
        let told = browser.ask("POST", SESSION, &body);
        assert_eq!(told.status, 401, "{user}");
        assert!(told.cookie.is_none() && !told.has_challenge, "{user}");
    }
    let plain = Browser {
        headers: Vec::new(),
        ..Browser::new(&node)
    };
    assert!(plain.ask("GET", "/vhosts", &Value::Null).has_challenge);
    let foreign = Browser {
        headers: vec![("sec-fetch-site", "cross-site".to_owned())],
        ..Browser::new(&node)
    };
    let body = json!({"user": "guest", "password": "guest"});
    assert_eq!(foreign.ask("POST", SESSION, &body).status, 401);
    let forged = Browser {
        headers: vec![("cookie", "staunch-session-x=abc".to_owned())],
        ..Browser::new(&node)
    };
    assert_eq!(forged.status("GET", "/vhosts"), 401);
}
