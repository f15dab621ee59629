//! The balance policies: which backend gets a client without a pin.
//!
//! Owns the policies and slow start. Must not know backends or clocks: a candidate is a weight, a count and a seed; random
//! numbers and time are passed in. Invariant: the choice is one of the candidates, and never one of weight 0.

use std::time::Duration;

use crate::config::model::Balance;

/// One backend that may get the client.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Its index in the pool.
    pub index: usize,
    /// Its weight, in parts of [`WEIGHT_UNIT`].
    pub weight: u32,
    /// Its current connections.
    pub in_flight: u32,
    /// A hash of its name, which does not depend on the other backends.
    pub seed: u64,
    /// How often it has come back into rotation.
    pub returns: u32,
}

/// Parts of a configured weight of 1. A power of two, so that rendezvous hashing, which computes in doubles, chooses exactly as
/// with the configured weights.
pub const WEIGHT_UNIT: u32 = 1024;

/// Slow start: the weight of a backend that has come back grows linearly, in steps, from a sixteenth to the full weight.
///
/// All slow starts of the same duration step at the same moments, whenever they started. So the ratio of the weights of two
/// backends only approaches that of their full weights, and source hashing moves a client only to a backend that it prefers,
/// never back.
#[derive(Debug, Clone, Copy)]
pub struct SlowStart {
    /// Nanoseconds, at least 1.
    step: u64,
}

impl SlowStart {
    /// The smallest fraction of [`WEIGHT_UNIT`]. With less, least connections would send a client only to an empty backend.
    const FIRST: u32 = WEIGHT_UNIT / 16;

    /// A slow start of this duration; `None` if it is too short to have steps.
    #[must_use]
    pub fn new(duration: Duration) -> Option<Self> {
        let steps = u128::from(WEIGHT_UNIT - Self::FIRST);
        let step = u64::try_from(duration.as_nanos() / steps).unwrap_or(u64::MAX);
        (step > 0).then_some(Self { step })
    }

    /// The fraction of the weight at `now`, in parts of [`WEIGHT_UNIT`], of a backend that came back at `started`; `None` if it
    /// is all of it. Both times count from the same moment.
    #[must_use]
    pub fn share(self, started: Duration, now: Duration) -> Option<u32> {
        let steps = |at: Duration| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX) / self.step;
        let grown = steps(now).saturating_sub(steps(started));
        let share = u32::try_from(grown).ok()?.checked_add(Self::FIRST)?;
        (share < WEIGHT_UNIT).then_some(share)
    }
}

/// Smooth weighted round robin: each cycle of the sum of the weights gives each backend its share, spread as evenly as possible.
///
/// A backend that has come back starts with the average credit of the others: the credit that it had when it left was computed
/// with other weights.
#[derive(Debug, Default, Clone)]
pub struct Turns {
    /// By index.
    credits: Vec<TurnCredit>,
}

/// The credit of one backend, in parts of turns.
#[derive(Debug, Default, Clone, Copy)]
struct TurnCredit {
    credit: i64,
    /// The candidate's `returns` when it last took part in a turn.
    returns: u32,
}

impl Turns {
    /// The backend whose turn it is.
    pub fn next(&mut self, candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
        let candidates = read_once(candidates);
        self.admit_returned(candidates.iter().copied());
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for candidate in candidates {
            let credit = &mut self.credits[candidate.index].credit;
            total += i64::from(candidate.weight);
            *credit += i64::from(candidate.weight);
            if best.is_none_or(|(_, highest)| *credit > highest) {
                best = Some((candidate.index, *credit));
            }
        }
        let (best, _) = best?;
        self.credits[best].credit -= total;
        Some(best)
    }

    /// Gives backends that have come back since the last turn the average credit of the others.
    fn admit_returned(&mut self, candidates: impl Iterator<Item = Candidate> + Clone) {
        let lengths = candidates.clone().map(|candidate| candidate.index + 1);
        let needed = lengths.max().unwrap_or(0).max(self.credits.len());
        self.credits.resize(needed, TurnCredit::default());
        let is_back = |turns: &Self, of: &Candidate| turns.credits[of.index].returns != of.returns;
        if !candidates
            .clone()
            .any(|candidate| is_back(self, &candidate))
        {
            return;
        }
        let stayed = candidates
            .clone()
            .filter(|candidate| !is_back(self, candidate));
        let (sum, count) = stayed.fold((0, 0), |(sum, count), candidate| {
            (sum + self.credits[candidate.index].credit, count + 1)
        });
        for candidate in candidates {
            if is_back(self, &candidate) {
                self.credits[candidate.index] = TurnCredit {
                    credit: sum / count.max(1),
                    returns: candidate.returns,
                };
            }
        }
    }
}

/// Chooses by any policy except round robin, which is [`Turns`]. `random` is uniform; `source` is a hash of the client's prefix,
/// used only by [`Balance::SourceHash`].
pub fn choose(
    balance: Balance,
    candidates: impl Iterator<Item = Candidate>,
    random: u64,
    source: u64,
) -> Option<usize> {
    let candidates = candidates.filter(|candidate| candidate.weight > 0);
    match balance {
        Balance::LeastConnections | Balance::RoundRobin => least_connections(candidates, random),
        Balance::RandomTwo => random_two(read_once(candidates).iter().copied(), random),
        Balance::SourceHash => source_hash(candidates, source),
    }
}

/// The candidates at one moment: their state and weight may change at any time, so a policy that iterates more than once must
/// not read them twice.
fn read_once(candidates: impl Iterator<Item = Candidate>) -> Vec<Candidate> {
    candidates
        .filter(|candidate| candidate.weight > 0)
        .collect()
}

/// Ties are broken at random, so that an idle pool does not send every first client to its first backend.
fn least_connections(candidates: impl Iterator<Item = Candidate>, random: u64) -> Option<usize> {
    let mut best: Option<Candidate> = None;
    let mut ties = 1;
    for (candidate, step) in candidates.zip(0u32..) {
        let Some(known) = best else {
            best = Some(candidate);
            continue;
        };
        match load(candidate, known).cmp(&load(known, candidate)) {
            std::cmp::Ordering::Less => (best, ties) = (Some(candidate), 1),
            std::cmp::Ordering::Equal => {
                ties += 1;
                if mix(random ^ u64::from(step)).is_multiple_of(ties) {
                    best = Some(candidate);
                }
            }
            std::cmp::Ordering::Greater => {}
        }
    }
    best.map(|best| best.index)
}

/// The load of `of` with one more connection, on a scale comparable with `load(than, of)`.
fn load(of: Candidate, than: Candidate) -> u64 {
    (u64::from(of.in_flight) + 1) * u64::from(than.weight)
}

fn random_two(candidates: impl Iterator<Item = Candidate> + Clone, random: u64) -> Option<usize> {
    let total: u64 = candidates
        .clone()
        .map(|candidate| u64::from(candidate.weight))
        .sum();
    let first = draw(candidates.clone(), None, random, total)?;
    let left = total - u64::from(first.weight);
    let Some(second) = draw(candidates, Some(first.index), mix(random), left) else {
        return Some(first.index);
    };
    Some(if load(second, first) < load(first, second) {
        second.index
    } else {
        first.index
    })
}

/// Draws by weight, excluding `except`.
fn draw(
    candidates: impl Iterator<Item = Candidate>,
    except: Option<usize>,
    random: u64,
    total: u64,
) -> Option<Candidate> {
    // The bias of the remainder is below 2^-30 for every sum of weights that a pool can have.
    let mut left = random.checked_rem(total)?;
    for candidate in candidates.filter(|candidate| Some(candidate.index) != except) {
        match left.checked_sub(u64::from(candidate.weight)) {
            Some(rest) => left = rest,
            None => return Some(candidate),
        }
    }
    None
}

/// Weighted rendezvous hashing (Thaler and Ravishankar, 1998; the logarithmic weights are Schindelhauer's and
/// Schomaker's, 2005): when a backend leaves, only its own clients move.
fn source_hash(candidates: impl Iterator<Item = Candidate>, source: u64) -> Option<usize> {
    let score = |candidate: Candidate| {
        let bits = mix(source ^ candidate.seed) >> 11;
        #[allow(
            clippy::cast_precision_loss,
            reason = "53 bits are what a double holds exactly"
        )]
        let uniform = (bits as f64 + 0.5) / (1u64 << 53) as f64;
        f64::from(candidate.weight) / -uniform.ln()
    };
    candidates
        .map(|candidate| (candidate.index, score(candidate)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|best| best.0)
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
#[must_use]
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
