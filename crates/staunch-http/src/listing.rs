//! Lists: which rows, which columns, in what order, and how many at once (RabbitMQ's management
//! API: `page`, `page_size`, `name`, `use_regex`, `sort`, `sort_reverse`, `columns`).

use std::{cmp::Ordering, ops::Range};

use axum::{
    extract::{FromRequestParts, Query},
    http::{Uri, request::Parts},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use staunch_broker::pattern::Pattern;
use staunch_stats::Window;

use crate::{
    body::{self, Answer},
    error::ApiError,
};

/// Rows of a page unless something else is asked for.
const PAGE_SIZE: usize = 100;
/// Rows of a page.
const PAGE_SIZE_MAX: usize = 500;

/// What is said of a page that is none (RabbitMQ).
const NO_PAGE: &str = "Pagination parameters are invalid";

/// What the query of a list says. What is not known is ignored.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    page: Option<String>,
    page_size: Option<String>,
    name: Option<String>,
    use_regex: Option<String>,
    sort: Option<String>,
    sort_reverse: Option<String>,
    columns: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    state: Option<String>,
    disable_stats: Option<String>,
    enable_queue_totals: Option<String>,
    lengths_age: Option<String>,
    lengths_incr: Option<String>,
    msg_rates_age: Option<String>,
    msg_rates_incr: Option<String>,
    data_rates_age: Option<String>,
    data_rates_incr: Option<String>,
    node_stats_age: Option<String>,
    node_stats_incr: Option<String>,
}

/// The query of a list, read.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// As it came.
    pub(crate) query: String,
    page: Option<Page>,
    name: Option<Filter>,
    /// Columns that must be just so.
    only: Vec<(&'static str, String)>,
    /// A column, as the path to it; none: as it comes.
    pub(crate) sort: Option<Vec<String>>,
    pub(crate) is_reversed: bool,
    columns: Option<Vec<Vec<String>>>,
    /// Only what costs little is wanted.
    pub(crate) has_no_stats: bool,
    /// But how much queues hold.
    pub(crate) has_totals: bool,
    pub(crate) windows: Windows,
}

/// Spans of the past that are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Windows {
    pub(crate) lengths: Option<Window>,
    pub(crate) messages: Option<Window>,
    pub(crate) data: Option<Window>,
    pub(crate) node: Option<Window>,
}

/// What is said around the rows of a page; none around a list.
pub(crate) type Frame = Option<Map<String, Value>>;

#[derive(Clone, Copy, Debug)]
struct Page {
    number: usize,
    size: usize,
}

#[derive(Debug)]
enum Filter {
    Contains(String),
    Matches(Pattern),
}

impl<S: Send + Sync> FromRequestParts<S> for Listing {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let asked = Query::<Asked>::from_request_parts(parts, state).await;
        let Query(asked) = asked.map_err(|error| ApiError::BadRequest(error.to_string()))?;
        Ok(Self {
            query: parts.uri.query().unwrap_or_default().to_owned(),
            ..Self::read(asked)?
        })
    }
}

/// The first rows of a list, as far as who asks needs them: those of one node.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Head {
    /// All rows.
    total: usize,
    /// Those that are wanted.
    filtered: usize,
    /// Of those the first ones, in order.
    rows: Vec<Value>,
}

/// Which rows of a list that always comes in pages.
#[derive(Debug, Default)]
pub(crate) struct PageAsked {
    pub(crate) page: Option<String>,
    pub(crate) page_size: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) use_regex: Option<String>,
}

impl Head {
    pub(crate) fn into_rows(self) -> Vec<Value> {
        self.rows
    }

    pub(crate) fn into_first(self) -> Option<Value> {
        self.rows.into_iter().next()
    }
}

impl Listing {
    /// A list that always comes in pages: the first one, unless another is asked for.
    pub(crate) fn paged(asked: PageAsked) -> Result<Self, ApiError> {
        let page = asked.page.filter(|page| !page.is_empty());
        Self::read(Asked {
            page: Some(page.unwrap_or_else(|| "1".to_owned())),
            page_size: asked.page_size,
            name: asked.name,
            use_regex: asked.use_regex,
            ..Asked::default()
        })
    }

    fn read(asked: Asked) -> Result<Self, ApiError> {
        let is_true = |text: &Option<String>| text.as_deref() == Some("true");
        let page = Page::read(asked.page.as_deref(), asked.page_size.as_deref())?;
        let name = match asked.name.as_deref() {
            None | Some("") => None,
            Some(name) if is_true(&asked.use_regex) => Some(Filter::Matches(
                Pattern::new(name).map_err(|_| ApiError::BadRequest(NO_PAGE.to_owned()))?,
            )),
            Some(name) => Some(Filter::Contains(name.to_lowercase())),
        };
        let columns = asked.columns.filter(|columns| !columns.is_empty());
        let only = [("type", asked.kind), ("state", asked.state)];
        let only = only.into_iter().filter_map(|(column, wanted)| {
            let wanted = wanted.filter(|wanted| !wanted.is_empty() && page.is_some())?;
            Some((column, wanted))
        });
        Ok(Self {
            query: String::new(),
            // Filters belong to pages (RabbitMQ).
            name: name.filter(|_| page.is_some()),
            only: only.collect(),
            page,
            sort: asked
                .sort
                .filter(|sort| !sort.is_empty())
                .map(|it| path(&it)),
            is_reversed: is_true(&asked.sort_reverse),
            columns: columns.map(|columns| columns.split(',').map(path).collect()),
            has_no_stats: is_true(&asked.disable_stats),
            has_totals: is_true(&asked.enable_queue_totals),
            windows: Windows {
                lengths: window(asked.lengths_age, asked.lengths_incr)?,
                messages: window(asked.msg_rates_age, asked.msg_rates_incr)?,
                data: window(asked.data_rates_age, asked.data_rates_incr)?,
                node: window(asked.node_stats_age, asked.node_stats_incr)?,
            },
        })
    }

    /// Whether some names are not wanted.
    pub(crate) fn is_filtered(&self) -> bool {
        self.name.is_some()
    }

    /// Columns of a page's rows that must be just so.
    pub(crate) fn only(&self) -> &[(&'static str, String)] {
        &self.only
    }

    /// Whether a row of this name is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        match &self.name {
            None => true,
            Some(Filter::Contains(part)) => name.to_lowercase().contains(part),
            Some(Filter::Matches(pattern)) => pattern.matches(name.as_bytes()),
        }
    }

    /// Answers with all rows, or with a page of them.
    pub(crate) fn answer(&self, rows: Vec<Value>) -> Answer {
        self.answer_heads([self.head(rows)])
    }

    /// Answers with what several nodes have, each of which has cut off what cannot be shown.
    pub(crate) fn answer_heads(&self, heads: impl IntoIterator<Item = Head>) -> Answer {
        let mut all = Head::default();
        for head in heads {
            all.total += head.total;
            all.filtered += head.filtered;
            all.rows.extend(head.rows);
        }
        let Head {
            total,
            filtered,
            mut rows,
        } = all;
        if let Some(column) = &self.sort {
            // The heads are in order: rows that are alike stay so.
            let order = |a: &Value, b: &Value| compare(at(a, column), at(b, column));
            rows.sort_by(|a, b| {
                if self.is_reversed {
                    order(b, a)
                } else {
                    order(a, b)
                }
            });
        }
        let (range, frame) = self.cut(total, filtered)?;
        let rows = rows.drain(range).map(|row| self.only_columns(row));
        framed(rows.collect(), frame)
    }

    /// The query of a list that another node was asked for.
    pub(crate) fn of(query: &str) -> Result<Self, ApiError> {
        let uri = format!("/?{query}").parse();
        let uri: Uri = uri.map_err(|_| ApiError::BadRequest("no query".to_owned()))?;
        let asked = Query::try_from_uri(&uri);
        let Query(asked) = asked.map_err(|error| ApiError::BadRequest(error.to_string()))?;
        Self::read(asked)
    }

    /// Wanted rows, in order, without those behind the page.
    pub(crate) fn head(&self, rows: Vec<Value>) -> Head {
        let total = rows.len();
        let mut rows = self.arranged(rows);
        let filtered = rows.len();
        rows.truncate(self.rows_max());
        Head {
            total,
            filtered,
            rows,
        }
    }

    /// Wanted rows, in order.
    pub(crate) fn arranged(&self, rows: Vec<Value>) -> Vec<Value> {
        let named = |row: &Value| row["name"].as_str().is_none_or(|name| self.wants(name));
        let fits = |row: &Value| {
            let mut only = self.only.iter();
            only.all(|(column, wanted)| row[*column].as_str().is_none_or(|is| is == wanted))
        };
        let wanted = rows.into_iter().filter(|row| named(row) && fits(row));
        let mut rows: Vec<_> = wanted.collect();
        if let Some(column) = &self.sort {
            // A column that is not there comes first, and rows that are alike stay in order.
            rows.sort_by(|a, b| compare(at(a, column), at(b, column)));
        }
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// Which rows are on the page, of so many that are wanted of so many, and what is said about
    /// that; nothing if no page was asked for.
    pub(crate) fn cut(
        &self,
        total: usize,
        filtered: usize,
    ) -> Result<(Range<usize>, Frame), ApiError> {
        let Some(Page { number, size }) = self.page else {
            return Ok((0..filtered, None));
        };
        let first = (number - 1).saturating_mul(size);
        if first > filtered {
            return Err(ApiError::PageOutOfRange(format!(
                "Page out of range, page: {number} page size: {size}, len: {filtered}"
            )));
        }
        let range = first..filtered.min(first + size);
        let frame = json!({
            "total_count": total,
            "item_count": range.len(),
            "filtered_count": filtered,
            "page": number,
            "page_size": size,
            "page_count": filtered.div_ceil(size),
        });
        match frame {
            Value::Object(frame) => Ok((range, Some(frame))),
            _ => Ok((range, None)),
        }
    }

    /// Rows that can be on the page, from the first of all.
    pub(crate) fn rows_max(&self) -> usize {
        let page = self.page.as_ref();
        page.map_or(usize::MAX, |page| page.number.saturating_mul(page.size))
    }

    pub(crate) fn is_paged(&self) -> bool {
        self.page.is_some()
    }

    /// The columns that are asked for, of what is shown.
    pub(crate) fn only_columns(&self, row: Value) -> Value {
        let Some(columns) = &self.columns else {
            return row;
        };
        let mut only = json!({});
        for column in columns {
            if let Some(found) = at(&row, column) {
                put(&mut only, column, found.clone());
            }
        }
        only
    }
}

/// Answers with rows that have been cut.
pub(crate) fn framed(rows: Vec<Value>, frame: Frame) -> Answer {
    let rows = Value::Array(rows);
    match frame {
        None => body::ok(&rows),
        Some(mut frame) => {
            frame.insert("items".to_owned(), rows);
            body::ok(&Value::Object(frame))
        }
    }
}

impl Page {
    fn read(number: Option<&str>, size: Option<&str>) -> Result<Option<Self>, ApiError> {
        let Some(number) = number else {
            return Ok(None);
        };
        let read = |text: &str| {
            let number = text.parse::<usize>();
            number.map_err(|_| ApiError::BadRequest(NO_PAGE.to_owned()))
        };
        let number = read(number)?;
        let asked = size.map(read).transpose()?;
        let size = asked.unwrap_or(PAGE_SIZE);
        if number == 0 || size == 0 || size > PAGE_SIZE_MAX {
            let size = asked.map_or_else(|| "undefined".to_owned(), |size| size.to_string());
            return Err(ApiError::NoSuchPage(format!(
                "Invalid pagination parameters: page number {number}, page size {size}"
            )));
        }
        Ok(Some(Self { number, size }))
    }
}

fn path(text: &str) -> Vec<String> {
    text.split('.').map(str::to_owned).collect()
}

/// What a row has at a path.
pub(crate) fn at<'a>(row: &'a Value, column: &[String]) -> Option<&'a Value> {
    column.iter().try_fold(row, |value, key| value.get(key))
}

fn put(row: &mut Value, column: &[String], found: Value) {
    let mut place = row;
    for key in column {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[key.as_str()];
    }
    *place = found;
}

/// Numbers before texts, as Erlang has it.
pub(crate) fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    let rank = |value: Option<&Value>| match value {
        None | Some(Value::Null) => 0,
        Some(Value::Number(_)) => 1,
        Some(Value::Bool(_)) => 2,
        Some(Value::Object(_)) => 3,
        Some(Value::Array(_)) => 4,
        Some(Value::String(_)) => 5,
    };
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            let (a, b) = (a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(0.0));
            a.total_cmp(&b)
        }
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn at_least_one(what: &str, text: &str) -> Result<usize, ApiError> {
    match text.parse() {
        Ok(number) if number >= 1 => Ok(number),
        _ => Err(ApiError::BadRequest(format!(
            "{what} must be a number above 0"
        ))),
    }
}

/// A span in seconds and the steps in which it is shown; both or none.
fn window(age: Option<String>, step: Option<String>) -> Result<Option<Window>, ApiError> {
    let (Some(age), Some(step)) = (age, step) else {
        return Ok(None);
    };
    let millis = |what: &str, text: &str| {
        let seconds = at_least_one(what, text)? as u64;
        Ok::<_, ApiError>(seconds.saturating_mul(1000))
    };
    Ok(Some(Window {
        age_millis: millis("age", &age)?,
        step_millis: millis("incr", &step)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(query: &str) -> Listing {
        Listing::of(query).expect("a list")
    }

    async fn answer(query: &str, rows: Value) -> Value {
        let Value::Array(rows) = rows else {
            panic!("rows are a list");
        };
        let response = listing(query).answer(rows).expect("an answer");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await;
        serde_json::from_slice(&bytes.expect("a body")).expect("JSON")
    }

    fn rows() -> Value {
        json!([
            {"name": "Beta", "n": 3, "deep": {"er": 1}},
            {"name": "alpha", "n": 10},
            {"name": "gamma", "deep": {"er": 5}},
        ])
    }

    #[tokio::test]
    async fn rows_are_sorted_by_any_column_and_cut_to_columns() {
        let sorted = answer("sort=n&columns=name", rows()).await;
        assert_eq!(
            sorted,
            json!([{"name": "gamma"}, {"name": "Beta"}, {"name": "alpha"}])
        );
        let sorted = answer("sort=deep.er&sort_reverse=true&columns=deep.er", rows()).await;
        assert_eq!(
            sorted,
            json!([{"deep": {"er": 5}}, {"deep": {"er": 1}}, {}])
        );
        assert_eq!(answer("sort=", rows()).await, rows());
    }

    #[tokio::test]
    async fn pages_say_how_much_there_is() {
        let page = answer("page=2&page_size=1&name=A&sort=name&columns=name", rows()).await;
        assert_eq!(
            page,
            json!({
                "total_count": 3, "item_count": 1, "filtered_count": 3, "page": 2, "page_size": 1,
                "page_count": 3, "items": [{"name": "alpha"}],
            })
        );
        let page = answer("page=1&name=^.a&use_regex=true&columns=name", rows()).await;
        assert_eq!(page["items"], json!([{"name": "gamma"}]));
        assert_eq!(
            answer("page=1&name=nothing", rows()).await["items"],
            json!([])
        );
        let typed =
            json!([{"n": 1, "type": "a", "state": "x"}, {"n": 2, "type": "b", "state": "x"}]);
        for (query, count) in [
            ("type=a", 1),
            ("state=x", 2),
            ("type=a&state=y", 0),
            ("type=", 2),
        ] {
            let page = answer(&format!("page=1&{query}"), typed.clone()).await;
            assert_eq!(page["filtered_count"], count, "{query}");
        }
        // Without a page there is no filter.
        assert_eq!(answer("name=alpha", rows()).await, rows());
    }

    #[tokio::test]
    async fn a_page_of_several_nodes_is_that_of_all_their_rows() {
        let Value::Array(rows) = rows() else {
            panic!("rows are a list");
        };
        let (one, other) = rows.split_at(1);
        for query in [
            "sort=n&columns=name,n",
            "page=1&page_size=2&sort=n&sort_reverse=true&columns=name",
            "page=2&page_size=1&sort=name&columns=name",
            "page=1&page_size=1&name=a&sort=deep.er&columns=name",
            "page=2&page_size=2&sort=name",
        ] {
            let listing = listing(query);
            let heads = [one, other].map(|rows| listing.head(rows.to_vec()));
            let response = listing.answer_heads(heads).expect("an answer");
            let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await;
            let of_both: Value = serde_json::from_slice(&bytes.expect("a body")).expect("JSON");
            assert_eq!(of_both, answer(query, rows.clone().into()).await, "{query}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let Value::Array(rows) = rows() else {
            panic!("rows are a list");
        };
        let error = listing("page=3&page_size=2")
            .answer(rows)
            .expect_err("there is one page");
        assert!(error.to_string().contains("out of range"), "{error}");
        for wrong in [
            "page=0",
            "page=x",
            "page=1&page_size=-1",
            "lengths_age=60&lengths_incr=0",
        ] {
            let uri = format!("/?{wrong}").parse().expect("a path");
            let Query(asked) = Query::try_from_uri(&uri).expect("a query");
            assert!(Listing::read(asked).is_err(), "{wrong}");
        }
    }
}
