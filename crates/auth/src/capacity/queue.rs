use std::{cmp::Reverse, collections::BinaryHeap};

use larkauth_models::Timestamp;

/// People by a time, earliest first. An entry counts as long as the person has the same generation.
#[derive(Default)]
pub(super) struct Queue(BinaryHeap<Reverse<(Timestamp, usize, u32)>>);

impl Queue {
    pub(super) fn push(&mut self, at: Timestamp, person: usize, generation: u32) {
        self.0.push(Reverse((at, person, generation)));
    }

    /// Returns the first entry that counts, after removing those before it that do not.
    pub(super) fn first(&mut self, counts: impl Fn(usize, u32) -> bool) -> Option<(Timestamp, usize)> {
        while let Some(Reverse((at, person, generation))) = self.0.peek().copied() {
            if counts(person, generation) {
                return Some((at, person));
            }
            self.0.pop();
        }
        None
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }
}
