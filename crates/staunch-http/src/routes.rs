//! The table of paths, of which there is one: requests find their handlers by it, and the `OpenAPI`
//! document ([`crate::openapi`]) tells what stands in it. So neither has a path that the other has
//! not.

use axum::{Router, handler::Handler, http::Method, routing::MethodRouter};

use crate::Api;

/// Paths, what is said of them, and their handlers.
#[derive(Default)]
pub(crate) struct Routes {
    router: Router<Api>,
    operations: Vec<Operation>,
}

/// One method of a path, and its handler.
pub(crate) struct Route {
    handler: MethodRouter<Api>,
    operation: Operation,
}

/// What the document says of one method of a path.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// Below `/api`, with `{names}` of what varies.
    pub(crate) path: String,
    /// The group it belongs to.
    pub(crate) tag: &'static str,
    pub(crate) summary: &'static str,
    /// Name of the schema of its body.
    pub(crate) takes: Option<&'static str>,
    /// Names of what its query may say.
    pub(crate) query: Vec<&'static str>,
    pub(crate) answer: Answered,
    /// It is done for anybody.
    pub(crate) is_open: bool,
    /// What it tells of may not be well: 503, with the reason.
    pub(crate) is_check: bool,
}

/// What comes back when it is done. Names are those of schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// 204.
    Done,
    /// 201 if something has been made, 204 if it was there.
    Made,
    /// 201, and where it is.
    Location,
    /// 200 with one of these.
    One(&'static str),
    /// 200 with a list of these.
    All(&'static str),
    /// 200 with a list of these, or with a page if one is asked for.
    Page(&'static str),
    /// 200 with server-sent events that carry one of these each.
    Events(&'static str),
}

/// What the query of a list may say.
const LISTING: [&str; 11] = [
    "page",
    "page_size",
    "name",
    "use_regex",
    "type",
    "state",
    "sort",
    "sort_reverse",
    "columns",
    "disable_stats",
    "enable_queue_totals",
];
/// Parts of the past that may be asked for.
pub(crate) const PAST: [&str; 8] = [
    "lengths_age",
    "lengths_incr",
    "msg_rates_age",
    "msg_rates_incr",
    "data_rates_age",
    "data_rates_incr",
    "node_stats_age",
    "node_stats_incr",
];

impl Routes {
    pub(crate) fn route<const N: usize>(mut self, path: &str, routes: [Route; N]) -> Self {
        let mut handler = MethodRouter::new();
        for Route {
            handler: own,
            operation,
        } in routes
        {
            handler = handler.merge(own);
            self.operations.push(Operation {
                path: path.to_owned(),
                ..operation
            });
        }
        self.router = self.router.route(path, handler);
        self
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self
    }

    /// Everything below a path.
    pub(crate) fn below(self, path: &str) -> Self {
        let operations = self.operations.into_iter().map(|operation| Operation {
            path: format!("{path}{}", operation.path),
            ..operation
        });
        Self {
            router: Router::new().nest(path, self.router),
            operations: operations.collect(),
        }
    }

    /// Says which group all of it belongs to.
    pub(crate) fn tagged(mut self, tag: &'static str) -> Self {
        for operation in &mut self.operations {
            operation.tag = tag;
        }
        self
    }

    pub(crate) fn into_parts(self) -> (Router<Api>, Vec<Operation>) {
        (self.router, self.operations)
    }
}

/// Looks at something; HEAD too.
pub(crate) fn get<H: Handler<T, Api>, T: 'static>(handler: H, summary: &'static str) -> Route {
    let handler = axum::routing::get(handler);
    Route::new(Method::GET, handler, summary, Answered::One("Anything"))
}

/// Makes something, or changes it.
pub(crate) fn put<H: Handler<T, Api>, T: 'static>(handler: H, summary: &'static str) -> Route {
    let handler = axum::routing::put(handler);
    Route::new(Method::PUT, handler, summary, Answered::Made)
}

/// Does something.
pub(crate) fn post<H: Handler<T, Api>, T: 'static>(handler: H, summary: &'static str) -> Route {
    let handler = axum::routing::post(handler);
    Route::new(Method::POST, handler, summary, Answered::Done)
}

/// Takes something away.
pub(crate) fn delete<H: Handler<T, Api>, T: 'static>(handler: H, summary: &'static str) -> Route {
    let handler = axum::routing::delete(handler);
    Route::new(Method::DELETE, handler, summary, Answered::Done)
}

impl Route {
    fn new(
        method: Method,
        handler: MethodRouter<Api>,
        summary: &'static str,
        answer: Answered,
    ) -> Self {
        let operation = Operation {
            method,
            path: String::new(),
            tag: "",
            summary,
            takes: None,
            query: Vec::new(),
            answer,
            is_open: false,
            is_check: false,
        };
        Self { handler, operation }
    }

    /// The schema of its body.
    pub(crate) fn takes(mut self, schema: &'static str) -> Self {
        self.operation.takes = Some(schema);
        self
    }

    /// What its query may say.
    pub(crate) fn asks(mut self, names: &[&'static str]) -> Self {
        self.operation.query.extend(names);
        self
    }

    /// The schema of its answer.
    pub(crate) fn one(self, schema: &'static str) -> Self {
        self.answered(Answered::One(schema))
    }

    /// The schema of what it lists.
    pub(crate) fn all(self, schema: &'static str) -> Self {
        self.answered(Answered::All(schema))
    }

    /// The schema of what it lists, in pages if they are asked for.
    pub(crate) fn pages(self, schema: &'static str) -> Self {
        self.asks(&LISTING)
            .asks(&PAST)
            .answered(Answered::Page(schema))
    }

    /// The schema of what its events carry.
    pub(crate) fn streams(self, schema: &'static str) -> Self {
        self.answered(Answered::Events(schema))
    }

    /// The schema of its answer, of which columns can be picked.
    pub(crate) fn row(self, schema: &'static str) -> Self {
        self.asks(&["columns", "disable_stats", "enable_queue_totals"])
            .asks(&PAST)
            .one(schema)
    }

    pub(crate) fn answered(mut self, answer: Answered) -> Self {
        self.operation.answer = answer;
        self
    }

    /// Needs no login.
    pub(crate) fn open(mut self) -> Self {
        self.operation.is_open = true;
        self
    }

    /// Says whether something is well.
    pub(crate) fn check(mut self) -> Self {
        self.operation.is_check = true;
        self.one("Healthy")
    }
}
