use axum::http::HeaderMap;

use super::*;

/// An interface that knows one user and one queue.
fn api() -> Router {
    let nasty = "<img src=x onerror=alert(1)>\"'&";
    let queues = json!({
        "items": [{"name": nasty, "vhost": "/", "messages_ready": 7}],
        "page_count": 3, "filtered_count": 201,
    });
    let is_in = |headers: &HeaderMap| headers.get(header::COOKIE).is_some();
    let session = json!({"user": nasty, "csrf_token": "token"});
    Router::new()
        .route(
            "/api/queues",
            get(async move |headers: HeaderMap| {
                if is_in(&headers) {
                    queues.to_string().into_response()
                } else {
                    let reason = json!({"reason": "who is <there>?"});
                    (StatusCode::UNAUTHORIZED, reason.to_string()).into_response()
                }
            }),
        )
        .route(
            SESSION,
            get(async move || session.to_string())
                .post(async |body: String| {
                    let body: Value = serde_json::from_str(&body).expect("JSON");
                    assert_eq!(body, json!({"user": "ana", "password": "a&b"}));
                    let cookie = [(header::SET_COOKIE, "s=1")];
                    (cookie, "{}").into_response()
                })
                .delete(async |headers: HeaderMap| {
                    assert_eq!(headers["x-staunch-csrf"], "token");
                    (
                        [(header::SET_COOKIE, "s=; Max-Age=0")],
                        StatusCode::NO_CONTENT,
                    )
                }),
        )
}

async fn asked(request: Request) -> (StatusCode, HeaderMap, String) {
    let Ok(response) = crate::page(api()).call(request).await;
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    let text = String::from_utf8(body.to_vec()).expect("text");
    (parts.status, parts.headers, text)
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(Body::from(body.to_owned()))
        .expect("a request")
}

#[tokio::test]
async fn names_are_text_whatever_stands_in_them() {
    let request = request(
        "GET",
        "/plain-queues?name=%22%3E%3Cb%3E&sort=name",
        &[("cookie", "s=1")],
        "",
    );
    let (status, headers, text) = asked(request).await;
    assert_eq!(status, StatusCode::OK);
    assert!(!text.contains("<img") && !text.contains("\"><b>"), "{text}");
    assert!(
        text.contains("<td>&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;"),
        "{text}"
    );
    assert!(text.contains("page 1 of 3, 201 in all"), "{text}");
    let next = "?page=2&amp;name=%22%3E%3Cb%3E&amp;sort=name";
    assert!(text.contains(next), "{text}");
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str();
    assert!(policy.is_ok_and(|policy| policy.starts_with("default-src 'none'")));
    assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY");
}

#[tokio::test]
async fn who_is_not_in_gets_a_form_and_its_cookie() {
    let (status, _, text) = asked(request("GET", "/plain-queues", &[], "")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(text.contains("who is &lt;there&gt;?"), "{text}");
    assert!(text.contains("action=plain-login"), "{text}");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let login = request("POST", "/plain-login", &form, "user=ana&password=a%26b");
    let (status, headers, _) = asked(login).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert_eq!(headers[header::SET_COOKIE], "s=1");
    let leave = request("POST", "/plain-logout", &form, "token=token");
    let (status, headers, _) = asked(leave).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert_eq!(headers[header::SET_COOKIE], "s=; Max-Age=0");
}

#[tokio::test]
async fn the_page_is_there_if_its_files_were() {
    let (status, headers, text) = asked(request("GET", "/", &[("cookie", "s=1")], "")).await;
    if PAGE.is_none() {
        return;
    }
    assert_eq!(status, StatusCode::OK);
    let policy = headers[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .expect("text");
    assert!(policy.contains("script-src 'self' 'sha256-") && !policy.contains("unsafe"));
    let same = request(
        "GET",
        "/",
        &[(
            "if-none-match",
            headers[header::ETAG].to_str().expect("text"),
        )],
        "",
    );
    assert_eq!(asked(same).await.0, StatusCode::NOT_MODIFIED);
    let links: Vec<_> = text
        .split("href=\"./")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(links.len() > 5, "{text}");
    for link in links.iter().filter(|link| !link.is_empty()) {
        let asset = request("GET", &format!("/{link}"), &[], "");
        assert_eq!(asked(asset).await.0, StatusCode::OK, "{link}");
    }
}
