//! Which consumer a partition prefers.
//!
//! Every consumer of a queue with partitions is registered with all of them, and each serves one.
//! With n consumers each shall have the floor or the ceiling of p/n partitions, and a consumer that
//! comes or goes shall move few. The partitions are led by different nodes, which cannot wait for
//! each other: one may be without its majority. So each computes the same assignment of all
//! partitions from what it knows, the consumers' identities, and takes its own line of it.
//!
//! Each pair of a partition and a consumer has a score, a hash of both. Pairs are taken from the
//! best score down, if the partition has nobody yet and the consumer still has room. Of more
//! consumers than partitions only as many stand for election, those with the best scores of
//! their own. Compared with handing out partitions in turn by rank, which moves nearly all when
//! somebody comes, this moves those that the new one gets and few others. An exact minimum would
//! need a memory of who had what, which leaders that change do not have.

use staunch_types::{ChannelNumber, ConnectionId};

use crate::exchange::{mixed, stable_hash};
use crate::settings::PartitionPlace;

/// [`ConsumerSpec::identity`](super::ConsumerSpec::identity) of a client's consumer.
pub fn consumer_identity(connection: ConnectionId, channel: ChannelNumber, tag: &[u8]) -> u64 {
    mixed(connection.0 ^ mixed(u64::from(channel.0))) ^ stable_hash(b"consumer", tag)
}

/// The consumer that the partition at `place` prefers; none if there is nobody.
pub(super) fn preferred(identities: &[u64], place: PartitionPlace) -> Option<u64> {
    let candidates = candidates(identities, place.count);
    let count = candidates.len();
    let partition_count = usize::from(place.count);
    let least = partition_count.checked_div(count)?;
    // So many get one more.
    let mut extra_count = partition_count % count;
    let mut pairs: Vec<_> = (0..place.count)
        .flat_map(|number| {
            let scores = candidates.iter().enumerate();
            scores.map(move |(at, identity)| (score(*identity, number), number, at))
        })
        .collect();
    pairs.sort_unstable_by(|a, b| b.cmp(a));
    let mut is_assigned = vec![false; partition_count];
    let mut loads = vec![0; count];
    for (_, number, at) in pairs {
        let has_room = loads[at] < least || (loads[at] == least && extra_count > 0);
        if is_assigned[usize::from(number)] || !has_room {
            continue;
        }
        if number == place.number {
            return Some(candidates[at]);
        }
        extra_count -= usize::from(loads[at] == least);
        loads[at] += 1;
        is_assigned[usize::from(number)] = true;
    }
    unreachable!("there is room for every partition")
}

/// Different identities, at most as many as partitions.
fn candidates(identities: &[u64], count: u8) -> Vec<u64> {
    let mut all = identities.to_vec();
    all.sort_unstable_by_key(|identity| (mixed(*identity), *identity));
    all.dedup();
    all.truncate(usize::from(count));
    all
}

fn score(identity: u64, number: u8) -> u64 {
    mixed(identity ^ mixed(u64::from(number) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(identities: &[u64], count: u8) -> Vec<u64> {
        let of = |number| preferred(identities, PartitionPlace { number, count });
        (0..count).map(|number| of(number).unwrap()).collect()
    }

    fn moved(before: &[u64], after: &[u64]) -> usize {
        before.iter().zip(after).filter(|(a, b)| a != b).count()
    }

    #[test]
    fn nobody_is_preferred_where_nobody_consumes() {
        let place = PartitionPlace {
            number: 1,
            count: 2,
        };
        assert_eq!(preferred(&[], place), None);
        assert_eq!(preferred(&[9], place), Some(9));
        assert_eq!(preferred(&[9, 9], place), Some(9));
    }

    #[test]
    fn consumers_have_the_floor_or_the_ceiling() {
        for count in [2, 3, 8, 17, 64] {
            for consumer_count in 1..100 {
                let identities: Vec<u64> = (1..=consumer_count).map(|n| mixed(n * 77)).collect();
                let all = assignment(&identities, count);
                let least = u64::from(count) / consumer_count;
                let most = u64::from(count).div_ceil(consumer_count);
                for identity in identities {
                    let has = all.iter().filter(|it| **it == identity).count() as u64;
                    assert!(
                        (least..=most).contains(&has),
                        "{count} {consumer_count} {has}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_order_of_registration_does_not_matter() {
        let mut identities: Vec<u64> = (1..=7).map(|n| mixed(n * 31)).collect();
        let all = assignment(&identities, 16);
        identities.reverse();
        assert_eq!(assignment(&identities, 16), all);
    }

    /// Over all sizes a join moves on average less than twice what the new one gets.
    #[test]
    fn who_comes_moves_few() {
        let (mut moved_count, mut needed_count) = (0, 0);
        for seed in 0..20 {
            for consumer_count in 1..32 {
                let identity = |n: u64| mixed(seed * 1_000 + n + 1);
                let identities: Vec<u64> = (0..=consumer_count).map(identity).collect();
                let (_, before) = identities.split_last().unwrap();
                let (before, after) = (assignment(before, 32), assignment(&identities, 32));
                moved_count += moved(&before, &after);
                let newest = identities[identities.len() - 1];
                needed_count += after.iter().filter(|it| **it == newest).count();
            }
        }
        assert!(
            moved_count < 2 * needed_count,
            "{moved_count} of {needed_count}"
        );
    }
}
