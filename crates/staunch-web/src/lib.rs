//! The page an operator keeps open, served beside the HTTP interface.
//!
//! It is a client of that interface like any other: what it shows and does is in the `OpenAPI`
//! document. `build.rs` gathers its files; where they were missing, and for browsers without
//! scripts, [`plain`] makes tables of the same answers.

mod assets;
mod plain;

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    middleware::{self, Next},
    response::Response,
    routing::get,
};

use crate::assets::PAGE;

/// The page in front of the interface `api`, which gets every request that is not for the page.
pub fn page(api: Router) -> Router {
    let routes = Router::new().merge(plain::routes(api.clone()));
    let routes = match &PAGE {
        Some(_) => routes
            .route("/", get(assets::index))
            .route("/assets/{*name}", get(assets::asset)),
        None => routes.route("/", get(plain::overview).with_state(api.clone())),
    };
    let routes = routes.layer(middleware::from_fn(guarded));
    routes.fallback_service(api)
}

/// Has browsers be strict with the page.
async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
