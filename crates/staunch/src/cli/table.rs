//! Rows of JSON as a table for people.

use serde_json::{Map, Value};

/// What stands where there is nothing.
const NOTHING: &str = "-";
/// Between two columns.
const GAP: &str = "  ";

/// A column: where its value stands in a row, parts separated by dots, and its title.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) path: String,
    title: String,
}

impl Column {
    /// A column with a title of its own.
    pub(crate) fn titled(title: &str, path: &str) -> Self {
        Self {
            path: path.to_owned(),
            title: title.to_owned(),
        }
    }

    /// A column whose title is its path.
    pub(crate) fn named(path: &str) -> Self {
        Self::titled(&path.to_uppercase(), path)
    }

    /// The value in a row; nothing if there is none.
    pub(crate) fn of<'a>(&self, row: &'a Value) -> &'a Value {
        if let Some(value) = row.get(&self.path) {
            return value;
        }
        let mut parts = self.path.split('.');
        let value = parts.try_fold(row, |value, part| value.get(part));
        value.unwrap_or(&Value::Null)
    }
}

/// Columns out of pairs of title and path.
pub(crate) fn columns(pairs: &[(&str, &str)]) -> Vec<Column> {
    let columns = pairs.iter();
    columns
        .map(|(title, path)| Column::titled(title, path))
        .collect()
}

/// A table of rows.
pub(crate) fn table(rows: &[Value], columns: &[Column]) -> String {
    let titles = columns.iter().map(|column| column.title.clone()).collect();
    let cells = |row| columns.iter().map(|column| cell(column.of(row))).collect();
    let lines: Vec<Vec<String>> = std::iter::once(titles)
        .chain(rows.iter().map(cells))
        .collect();
    aligned(&lines)
}

/// Rows without titles of their own widths: the paths of the columns, then the rows.
pub(crate) fn separated(rows: &[Value], columns: &[Column], separator: &str) -> String {
    let titles = columns.iter().map(|column| column.path.clone()).collect();
    let cells = |row| columns.iter().map(|column| cell(column.of(row))).collect();
    let lines = std::iter::once(titles).chain(rows.iter().map(cells));
    lines
        .map(|line: Vec<String>| line.join(separator) + "\n")
        .collect()
}

/// One row, a line for each of its columns.
pub(crate) fn record(row: &Value, columns: &[Column]) -> String {
    let lines = columns.iter().map(|column| {
        let value = cell(column.of(row));
        vec![column.title.to_lowercase(), value]
    });
    left_aligned(&lines.collect::<Vec<_>>())
}

/// Rows without what no column shows.
pub(crate) fn only(rows: &[Value], columns: &[Column]) -> Vec<Value> {
    let picked = |row: &Value| {
        let columns = columns.iter();
        let pairs = columns.map(|column| (column.path.clone(), column.of(row).clone()));
        Value::Object(pairs.collect::<Map<_, _>>())
    };
    rows.iter().map(picked).collect()
}

/// Sorts rows by a column: numbers by size, everything else by its text.
pub(crate) fn sort(rows: &mut [Value], column: &Column) {
    rows.sort_by(|a, b| {
        let (a, b) = (column.of(a), column.of(b));
        match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => cell(a).cmp(&cell(b)),
        }
    });
}

/// A value as people read it. Names may hold anything: what would move the cursor is escaped.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{float:.1}"),
            _ => number.to_string(),
        },
        Value::String(text) => visible(text),
        Value::Array(items) if items.is_empty() => NOTHING.to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(object) if object.is_empty() => NOTHING.to_owned(),
        Value::Object(object) => {
            let pairs = object.iter();
            let pairs = pairs.map(|(key, value)| format!("{}={}", visible(key), cell(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
    }
}

/// Text whose control characters are escaped.
pub(crate) fn visible(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let shown = text.chars().map(|letter| match letter {
        letter if letter.is_control() => letter.escape_default().to_string(),
        letter => letter.to_string(),
    });
    shown.collect()
}

/// Columns of equal width; those of numbers to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let column_count = lines.first().map_or(0, Vec::len);
    let is_right = |at: usize| {
        let mut cells = lines.iter().skip(1).map(|line| line[at].as_str());
        let is_number = |text: &str| text.parse::<f64>().is_ok();
        cells.clone().any(is_number) && cells.all(|text| text == NOTHING || is_number(text))
    };
    let right: Vec<_> = (0..column_count).map(is_right).collect();
    let mut text = String::new();
    let widths: Vec<_> = (0..column_count).map(|at| width(lines, at)).collect();
    for line in lines {
        let cells = line.iter().zip(widths.iter().zip(&right));
        let cells = cells.map(|(cell, (width, is_right))| {
            if *is_right {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
        text.push('\n');
    }
    text
}

/// Columns of equal width.
pub(crate) fn left_aligned(lines: &[Vec<String>]) -> String {
    let column_count = lines.first().map_or(0, Vec::len);
    let widths: Vec<_> = (0..column_count).map(|at| width(lines, at)).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
        text.push('\n');
    }
    text
}

fn width(lines: &[Vec<String>], at: usize) -> usize {
    let widths = lines.iter().map(|line| line[at].chars().count());
    widths.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_nothing_is_a_dash() {
        let rows = [
            json!({"name": "q", "deep": {"er": 5}, "list": ["a", "b"], "on": true}),
            json!({"name": "long\u{1b}[2J", "deep": {"er": 12.25}, "list": [], "on": false}),
            json!({"name": ""}),
        ];
        let columns = columns(&[
            ("NAME", "name"),
            ("N", "deep.er"),
            ("LIST", "list"),
            ("ON", "on"),
        ]);
        let expected = "\
NAME              N  LIST  ON
q                 5  a, b  yes
long\\u{1b}[2J  12.2  -     no
                  -  -     -
";
        assert_eq!(table(&rows, &columns), expected);
        let expected = "name  q\nn     5\nlist  a, b\non    yes\n";
        assert_eq!(record(&rows[0], &columns), expected);
    }

    #[test]
    fn rows_are_sorted_by_size_or_by_name() {
        let mut rows = [
            json!({"a": 10, "b": "x"}),
            json!({"a": 9, "b": "y"}),
            json!({"b": "a"}),
        ];
        sort(&mut rows, &Column::named("a"));
        assert_eq!(
            only(&rows, &[Column::named("a")])[1..],
            [json!({"a": 9}), json!({"a": 10})]
        );
        sort(&mut rows, &Column::named("b"));
        assert_eq!(rows[0], json!({"b": "a"}));
    }
}
