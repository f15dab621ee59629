//! The deadlines of tasks: one for each task, the earliest first.
//!
//! Owns a binary heap that knows the position of each task, so that a deadline can be brought forward or removed. Reads no
//! clock. Most deadlines are added in the order in which they are due, which costs one comparison. Invariant:
//! `positions[task]` is the position in `heap` of the only entry of `task`, or [`ABSENT`].

use std::time::Instant;

const ABSENT: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct DeadlineEntry {
    at: Instant,
    task: u32,
}

/// The deadlines of all tasks of a worker.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: Vec<DeadlineEntry>,
    positions: Vec<u32>,
}

impl Deadlines {
    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.at)
    }

    /// Makes `task` due at `at` or earlier.
    pub(super) fn bring_forward(&mut self, task: u32, at: Instant) {
        let index = task as usize;
        if self.positions.len() <= index {
            self.positions.resize(index + 1, ABSENT);
        }
        match self.positions[index] {
            ABSENT => {
                self.heap.push(DeadlineEntry { at, task });
                self.sift_up(self.heap.len() - 1);
            }
            position => {
                let position = position as usize;
                if at < self.heap[position].at {
                    self.heap[position].at = at;
                    self.sift_up(position);
                }
            }
        }
    }

    /// Removes the deadline of `task`.
    pub(super) fn remove(&mut self, task: u32) {
        let position = self.positions.get_mut(task as usize);
        let position = position.map_or(ABSENT, |position| std::mem::replace(position, ABSENT));
        if position == ABSENT {
            return;
        }
        let position = position as usize;
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            let position = self.sift_up(position);
            self.sift_down(position);
        }
    }

    /// A task whose deadline has passed; the deadline is removed.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let DeadlineEntry { at, task } = *self.heap.first()?;
        (at <= now).then(|| {
            self.remove(task);
            task
        })
    }

    /// Moves an entry up to its position, and returns that.
    fn sift_up(&mut self, mut position: usize) -> usize {
        let entry = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.heap[parent].at <= entry.at {
                break;
            }
            self.put(position, self.heap[parent]);
            position = parent;
        }
        self.put(position, entry);
        position
    }

    fn sift_down(&mut self, mut position: usize) {
        let entry = self.heap[position];
        loop {
            let left = 2 * position + 1;
            let children = self.heap.iter().enumerate().skip(left).take(2);
            let Some((child, &earlier)) = children.min_by_key(|(_, child)| child.at) else {
                break;
            };
            if entry.at <= earlier.at {
                break;
            }
            self.put(position, earlier);
            position = child;
        }
        self.put(position, entry);
    }

    fn put(&mut self, position: usize, entry: DeadlineEntry) {
        self.heap[position] = entry;
        self.positions[entry.task as usize] =
            u32::try_from(position).expect("fewer than 2^32 tasks");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        BringForward(u32, u64),
        Remove(u32),
        Pop(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..40_u32, 0..1000_u64).prop_map(|(task, at)| Step::BringForward(task, at)),
            (0..40_u32).prop_map(Step::Remove),
            (0..1000_u64).prop_map(Step::Pop),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(steps in steps()) {
            let start = Instant::now();
            let at = |offset| start + Duration::from_millis(offset);
            let (mut deadlines, mut plain) = (Deadlines::default(), BTreeMap::<u32, u64>::new());
            for step in steps {
                match step {
                    Step::BringForward(task, offset) => {
                        deadlines.bring_forward(task, at(offset));
                        let known = plain.entry(task).or_insert(offset);
                        *known = offset.min(*known);
                    }
                    Step::Remove(task) => {
                        deadlines.remove(task);
                        plain.remove(&task);
                    }
                    Step::Pop(offset) => match deadlines.pop_due(at(offset)) {
                        Some(task) => {
                            let due = plain.remove(&task);
                            prop_assert!(due.is_some_and(|due| due <= offset));
                            prop_assert!(plain.values().all(|&other| Some(other) >= due));
                        }
                        None => prop_assert!(plain.values().all(|&other| other > offset)),
                    },
                }
                prop_assert_eq!(deadlines.next(), plain.values().min().map(|&offset| at(offset)));
            }
        }
    }
}
