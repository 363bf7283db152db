//! What an idle group takes in memory.
#![allow(
    unsafe_code,
    reason = "counting what is allocated needs an allocator of one's own"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use staunch_raft::{Config, Group, Members, Message, Restored};
use staunch_types::{GroupId, NodeId};

/// Bytes allocated and not freed.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const GROUPS: u64 = 500;

/// A group on one node, asleep after some work. Includes what the allocator was asked for, not
/// its own overhead.
const IDLE_GROUP_BYTES_MAX: usize = 4096;

fn run(groups: &mut [Group]) {
    loop {
        let mut messages: Vec<Message> = Vec::new();
        for group in &mut *groups {
            while let Some(ready) = group.poll() {
                messages.extend(ready.send);
                if let Some(last) = ready.committed.last() {
                    group.applied(last.index);
                }
                if let Some(persist) = ready.persist {
                    group.persisted(persist.number);
                }
            }
        }
        if messages.is_empty() {
            return;
        }
        for message in messages {
            let to = usize::try_from(message.to.0).expect("small") - 1;
            groups[to].step(message).expect("consistent");
        }
    }
}

#[test]
fn an_idle_group_takes_at_most_4_kib() {
    let members = Members::of([NodeId(1), NodeId(2), NodeId(3)]).unwrap();
    let mut kept = Vec::with_capacity(usize::try_from(GROUPS).unwrap());
    let before = ALLOCATED.load(Ordering::Relaxed);
    for id in 0..GROUPS {
        let restored = Restored::founding(members.clone());
        let mut groups: Vec<Group> = (1..=3)
            .map(|node| {
                let config = Config::new(GroupId(id), NodeId(node), 1);
                Group::new(config, restored.clone()).unwrap()
            })
            .collect();
        groups[0].campaign();
        run(&mut groups);
        assert!(groups[0].is_serving());
        for _ in 0..100 {
            groups[0].propose(Bytes::from(vec![1; 1000])).unwrap();
            run(&mut groups);
        }
        for _ in 0..40 {
            groups.iter_mut().for_each(Group::tick);
            run(&mut groups);
        }
        assert!(groups.iter().all(Group::is_asleep));
        kept.push(groups);
    }
    let allocated = ALLOCATED.load(Ordering::Relaxed) - before;
    let groups = 3 * usize::try_from(GROUPS).unwrap();
    let each = allocated / groups;
    println!("{each} bytes each, of which {} inline", size_of::<Group>());
    assert!(each <= IDLE_GROUP_BYTES_MAX, "{each}");
}
