//! Indexes of deliveries that somebody has, each as often as it was delivered to him: a message
//! that has come back from somebody else may come to him a second time before he has settled the first.

use std::collections::BTreeMap;

use staunch_types::MessageIndex;

/// See the module's description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes {
    counts: BTreeMap<u64, u32>,
    len: u32,
}

impl Indexes {
    /// One delivery more.
    pub fn insert(&mut self, index: u64) {
        *self.counts.entry(index).or_default() += 1;
        self.len += 1;
    }

    /// One delivery less. False if there was none.
    pub fn remove(&mut self, index: u64) -> bool {
        let Some(count) = self.counts.get_mut(&index) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&index);
        }
        self.len -= 1;
        true
    }

    /// How many deliveries there are.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Each as often as it was delivered, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let counts = self.counts.iter();
        counts.flat_map(|(index, count)| (0..*count).map(|_| *index))
    }

    /// First index and count of each run, ascending.
    pub fn runs(&self) -> Vec<(MessageIndex, u32)> {
        runs(self.iter())
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.counts.len() * size_of::<(u64, u32)>()
    }
}

impl FromIterator<u64> for Indexes {
    fn from_iter<T: IntoIterator<Item = u64>>(indexes: T) -> Self {
        let mut all = Self::default();
        for index in indexes {
            all.insert(index);
        }
        all
    }
}

/// Indexes that ascend, as runs.
pub(super) fn runs(indexes: impl IntoIterator<Item = u64>) -> Vec<(MessageIndex, u32)> {
    let mut runs: Vec<(MessageIndex, u32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((first, count)) if first.0 + u64::from(*count) == index && *count < u32::MAX => {
                *count += 1;
            }
            Some(_) | None => runs.push((MessageIndex(index), 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_delivered_twice_is_there_until_it_was_settled_twice() {
        let mut indexes: Indexes = [5, 3, 4, 4].into_iter().collect();
        assert_eq!(indexes.len(), 4);
        let expected = [(3, 2), (4, 2)].map(|(first, count)| (MessageIndex(first), count));
        assert_eq!(indexes.runs(), expected);
        assert!(indexes.remove(4) && indexes.remove(4) && !indexes.remove(4));
        assert_eq!(indexes.iter().collect::<Vec<_>>(), [3, 5]);
    }
}
