//! Topic exchange: patterns of words, `*` for one word, `#` for any number.
//!
//! The patterns form a trie. A routing key walks it as a nondeterministic automaton: a set of
//! nodes, advanced word by word; a node entered by `#` keeps itself in the set. The work is
//! bounded by words times nodes, whatever the patterns; walking depth-first instead takes time
//! exponential in the number of `#` in a pattern. Consecutive `#` are one.
//!
//! An empty key has no words; `a..b` has an empty one in its middle (as in RabbitMQ).

use hashbrown::HashMap;

use super::Seeded;
use super::targets::{Matches, Target, Targets};

/// A node's place in the trie.
type NodeId = u32;

/// The root, which is nobody's child; so 0 also says "no child".
const ROOT: NodeId = 0;

#[derive(Debug)]
struct Node {
    words: HashMap<Box<[u8]>, NodeId, Seeded>,
    /// Child for `*`.
    any: NodeId,
    /// Child for `#`.
    rest: NodeId,
    /// Entered by `#`.
    repeats: bool,
    targets: Targets,
}

#[derive(Debug)]
pub(crate) struct Topic {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    hasher: Seeded,
}

fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let none = key.is_empty();
    key.split(|&byte| byte == b'.').filter(move |_| !none)
}

/// The words of a pattern; of consecutive `#` only the first.
fn pattern_words(pattern: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut after_rest = false;
    words(pattern).filter(move |word| {
        let repeats = *word == b"#";
        let keep = !(repeats && after_rest);
        after_rest = repeats;
        keep
    })
}

impl Node {
    fn new(hasher: Seeded, repeats: bool) -> Self {
        Self {
            words: HashMap::with_hasher(hasher),
            any: ROOT,
            rest: ROOT,
            repeats,
            targets: Targets::default(),
        }
    }

    fn child(&self, word: &[u8]) -> Option<NodeId> {
        let child = match word {
            b"*" => self.any,
            b"#" => self.rest,
            word => self.words.get(word).copied().unwrap_or(ROOT),
        };
        (child != ROOT).then_some(child)
    }

    fn is_idle(&self) -> bool {
        self.words.is_empty() && self.any == ROOT && self.rest == ROOT && self.targets.is_empty()
    }
}

impl Topic {
    pub(super) fn new(hasher: Seeded) -> Self {
        Self {
            nodes: vec![Node::new(hasher, false)],
            free: Vec::new(),
            hasher,
        }
    }

    pub(super) fn add(&mut self, pattern: &[u8], target: Target) {
        let mut at = ROOT;
        for word in pattern_words(pattern) {
            at = match self.node(at).child(word) {
                Some(child) => child,
                None => self.add_child(at, word),
            };
        }
        self.node_mut(at).targets.add(target);
    }

    pub(super) fn remove(&mut self, pattern: &[u8], target: &Target) {
        let mut at = ROOT;
        let mut path = Vec::new();
        for word in pattern_words(pattern) {
            path.push((at, word));
            at = self.node(at).child(word).expect("the pattern was added");
        }
        self.node_mut(at).targets.remove(target);
        while self.node(at).is_idle()
            && let Some((parent, word)) = path.pop()
        {
            let hasher = self.hasher;
            *self.node_mut(at) = Node::new(hasher, false);
            self.free.push(at);
            let parent_node = self.node_mut(parent);
            match word {
                b"*" => parent_node.any = ROOT,
                b"#" => parent_node.rest = ROOT,
                word => {
                    parent_node.words.remove(word);
                }
            }
            at = parent;
        }
    }

    pub(super) fn route(&self, routing_key: &[u8], matches: &mut Matches<'_>) {
        let (mut current, mut next) = (Vec::new(), Vec::new());
        self.enter(ROOT, &mut current);
        for word in words(routing_key) {
            for &at in &current {
                let node = self.node(at);
                if let Some(&child) = node.words.get(word) {
                    self.enter(child, &mut next);
                }
                if node.any != ROOT {
                    self.enter(node.any, &mut next);
                }
                if node.repeats {
                    next.push(at);
                }
            }
            std::mem::swap(&mut current, &mut next);
            next.clear();
            if current.is_empty() {
                return;
            }
            // A node under `#` is reached by its parent and by itself.
            current.sort_unstable();
            current.dedup();
        }
        for &at in &current {
            self.node(at).targets.collect(matches);
        }
    }

    /// Adds a node and what `#` reaches from it without a word.
    fn enter(&self, at: NodeId, set: &mut Vec<NodeId>) {
        set.push(at);
        let rest = self.node(at).rest;
        if rest != ROOT {
            set.push(rest);
        }
    }

    fn add_child(&mut self, parent: NodeId, word: &[u8]) -> NodeId {
        let node = Node::new(self.hasher, word == b"#");
        let child = if let Some(child) = self.free.pop() {
            *self.node_mut(child) = node;
            child
        } else {
            self.nodes.push(node);
            NodeId::try_from(self.nodes.len() - 1).expect("bindings are bounded")
        };
        let parent = self.node_mut(parent);
        match word {
            b"*" => parent.any = child,
            b"#" => parent.rest = child,
            word => {
                parent.words.insert(word.into(), child);
            }
        }
        child
    }

    fn node(&self, at: NodeId) -> &Node {
        &self.nodes[at as usize]
    }

    fn node_mut(&mut self, at: NodeId) -> &mut Node {
        &mut self.nodes[at as usize]
    }
}
