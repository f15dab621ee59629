//! Which task wants to be looked at when: one deadline a task, the earliest at hand.
//!
//! A binary heap that knows where each task stands in it, so that a deadline can be brought forward or removed. Deadlines
//! come mostly in the order in which they are due, and then cost one comparison. Invariant: `places[task]` is the
//! place in `heap` of the one entry of `task`, or [`NOWHERE`].

use std::time::Instant;

const NOWHERE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct DeadlineEntry {
    at: Instant,
    task: u32,
}

/// The deadlines of all tasks of a worker.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: Vec<DeadlineEntry>,
    places: Vec<u32>,
}

impl Deadlines {
    /// The earliest.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.at)
    }

    /// Sees to it that `task` is due at `at` or before.
    pub(super) fn bring_forward(&mut self, task: u32, at: Instant) {
        let index = task as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, NOWHERE);
        }
        match self.places[index] {
            NOWHERE => {
                self.heap.push(DeadlineEntry { at, task });
                self.rise(self.heap.len() - 1);
            }
            place => {
                let place = place as usize;
                if at < self.heap[place].at {
                    self.heap[place].at = at;
                    self.rise(place);
                }
            }
        }
    }

    /// Forgets the deadline of `task`.
    pub(super) fn remove(&mut self, task: u32) {
        let place = self.places.get_mut(task as usize);
        let place = place.map_or(NOWHERE, |place| std::mem::replace(place, NOWHERE));
        if place == NOWHERE {
            return;
        }
        let place = place as usize;
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            let place = self.rise(place);
            self.sink(place);
        }
    }

    /// A task whose deadline has come; the deadline is forgotten.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let DeadlineEntry { at, task } = *self.heap.first()?;
        (at <= now).then(|| {
            self.remove(task);
            task
        })
    }

    /// Moves an entry up to where it belongs, and says where that is.
    fn rise(&mut self, mut place: usize) -> usize {
        let entry = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].at <= entry.at {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, entry);
        place
    }

    fn sink(&mut self, mut place: usize) {
        let entry = self.heap[place];
        loop {
            let left = 2 * place + 1;
            let children = self.heap.iter().enumerate().skip(left).take(2);
            let Some((child, &earlier)) = children.min_by_key(|(_, child)| child.at) else {
                break;
            };
            if entry.at <= earlier.at {
                break;
            }
            self.put(place, earlier);
            place = child;
        }
        self.put(place, entry);
    }

    fn put(&mut self, place: usize, entry: DeadlineEntry) {
        self.heap[place] = entry;
        self.places[entry.task as usize] = u32::try_from(place).expect("fewer than 2^32 tasks");
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
        fn says_what_a_plain_map_says(steps in steps()) {
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
