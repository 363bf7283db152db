//! Finds the name that was probably meant.

/// The candidate nearest to `name`, if it is near enough to be a slip of the hand.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let name = name.replace('-', "_").to_ascii_lowercase();
    let scored = candidates
        .into_iter()
        .map(|candidate| (distance(&name, candidate), candidate));
    let (distance, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name.len() / 3).then_some(candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between the two (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = ["data_dir", "node_name", "amqp", "http", "memory_limit"];
        for (given, meant) in [
            ("data-dir", Some("data_dir")),
            ("datadir", Some("data_dir")),
            ("aqmp", Some("amqp")),
            ("memory_limits", Some("memory_limit")),
            ("vhosts_of_the_empire", None),
        ] {
            assert_eq!(nearest(given, known), meant, "{given}");
        }
    }
}
