//! Who gets a client that has no pin.
//!
//! Owns the policies, and how a weight grows after a return. Knows no backend and no clock: candidates are a weight, a
//! count and a seed; chance and time are passed in. Invariant: what is chosen is one of the candidates, and none of
//! weight 0.

use std::time::Duration;

use crate::config::model::Balance;

/// One backend that may take the client.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Its place in the pool.
    pub place: usize,
    /// Its share, in parts of which [`FULL`] are a configured weight of 1.
    pub weight: u32,
    /// Connections that it holds.
    pub in_flight: u32,
    /// A hash of its name, which does not change with its neighbours.
    pub seed: u64,
    /// How often it has come back after it was kept out.
    pub returns: u32,
}

/// The parts of a weight of 1. A power of two, so that rendezvous hashing, which reckons in doubles, chooses by whole
/// weights exactly as it would by ones.
pub const FULL: u32 = 1024;

/// How the weight of a backend that has come back grows: in a line, from a sixteenth to all of it, in steps.
///
/// All ramps of one length step at the same moments, wherever they began. So of two that ramp, the ratio of what they
/// have only comes closer to that of their full weights, and source hashing moves a client only to a backend that it
/// prefers, never back.
#[derive(Debug, Clone, Copy)]
pub struct SlowStart {
    /// Nanoseconds, at least 1.
    step: u64,
}

impl SlowStart {
    /// The least part of [`FULL`]. What is smaller would leave least connections at a loss: the backend would have to
    /// be empty to get a client.
    const FIRST: u32 = FULL / 16;

    /// One that takes so long; `None` where that is no time.
    #[must_use]
    pub fn new(lasts: Duration) -> Option<Self> {
        let steps = u128::from(FULL - Self::FIRST);
        let step = u64::try_from(lasts.as_nanos() / steps).unwrap_or(u64::MAX);
        (step > 0).then_some(Self { step })
    }

    /// What a backend has of each part of its weight, of [`FULL`], `now`, when it came back at `begun`, both since one
    /// moment in the past; `None` where that is all.
    #[must_use]
    pub fn share(self, begun: Duration, now: Duration) -> Option<u32> {
        let steps = |at: Duration| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX) / self.step;
        let grown = steps(now).saturating_sub(steps(begun));
        let share = u32::try_from(grown).ok()?.checked_add(Self::FIRST)?;
        (share < FULL).then_some(share)
    }
}

/// Turns of a pool: smooth weighted round robin, in which each cycle of the weights' sum gives each backend its
/// share and no backend waits longer than it must.
///
/// One that has come back begins anew, in the midst of the others: what it was owed, or owed them, when it went was
/// reckoned in other weights.
#[derive(Debug, Default, Clone)]
pub struct Turns {
    /// By place.
    accounts: Vec<TurnCredit>,
}

/// What one backend is owed, in parts of turns.
#[derive(Debug, Default, Clone, Copy)]
struct TurnCredit {
    credit: i64,
    /// The candidate's, when it last had a turn or waited for one.
    returns: u32,
}

impl Turns {
    /// Whose turn it is.
    pub fn next(&mut self, candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
        let candidates = of_one_look(candidates);
        self.let_in(candidates.iter().copied());
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for candidate in candidates {
            let credit = &mut self.accounts[candidate.place].credit;
            total += i64::from(candidate.weight);
            *credit += i64::from(candidate.weight);
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((candidate.place, *credit));
            }
        }
        let (best, _) = best?;
        self.accounts[best].credit -= total;
        Some(best)
    }

    /// Gives those who have come back since the last turn what the others have on average.
    fn let_in(&mut self, candidates: impl Iterator<Item = Candidate> + Clone) {
        let places = candidates.clone().map(|candidate| candidate.place + 1);
        let needed = places.max().unwrap_or(0).max(self.accounts.len());
        self.accounts.resize(needed, TurnCredit::default());
        let is_back = |turns: &Self, of: &Candidate| turns.accounts[of.place].returns != of.returns;
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
            (sum + self.accounts[candidate.place].credit, count + 1)
        });
        for candidate in candidates {
            if is_back(self, &candidate) {
                self.accounts[candidate.place] = TurnCredit {
                    credit: sum / count.max(1),
                    returns: candidate.returns,
                };
            }
        }
    }
}

/// Chooses by every policy but round robin, which has [`Turns`]. `chance` is uniform; `source` is a hash of the
/// client's prefix, used by [`Balance::SourceHash`] alone.
pub fn choose(
    balance: Balance,
    candidates: impl Iterator<Item = Candidate>,
    chance: u64,
    source: u64,
) -> Option<usize> {
    let candidates = candidates.filter(|candidate| candidate.weight > 0);
    match balance {
        Balance::LeastConnections | Balance::RoundRobin => least_connections(candidates, chance),
        Balance::RandomTwo => random_two(of_one_look(candidates).iter().copied(), chance),
        Balance::SourceHash => source_hash(candidates, source),
    }
}

/// Those who may be chosen, as they are now: backends go up and down and get other weights while they are looked at, and
/// who looks more than once would see other ones.
fn of_one_look(candidates: impl Iterator<Item = Candidate>) -> Vec<Candidate> {
    candidates
        .filter(|candidate| candidate.weight > 0)
        .collect()
}

/// Of equals one by chance, so that a pool at rest does not send every first client to its first backend.
fn least_connections(candidates: impl Iterator<Item = Candidate>, chance: u64) -> Option<usize> {
    let mut best: Option<Candidate> = None;
    let mut equals = 1;
    for (candidate, step) in candidates.zip(0u32..) {
        let Some(known) = best else {
            best = Some(candidate);
            continue;
        };
        match load(candidate, known).cmp(&load(known, candidate)) {
            std::cmp::Ordering::Less => (best, equals) = (Some(candidate), 1),
            std::cmp::Ordering::Equal => {
                equals += 1;
                if mix(chance ^ u64::from(step)).is_multiple_of(equals) {
                    best = Some(candidate);
                }
            }
            std::cmp::Ordering::Greater => {}
        }
    }
    best.map(|best| best.place)
}

/// What one more connection makes of `of`, on a scale that is comparable with `load(than, of)`.
fn load(of: Candidate, than: Candidate) -> u64 {
    (u64::from(of.in_flight) + 1) * u64::from(than.weight)
}

fn random_two(candidates: impl Iterator<Item = Candidate> + Clone, chance: u64) -> Option<usize> {
    let total: u64 = candidates
        .clone()
        .map(|candidate| u64::from(candidate.weight))
        .sum();
    let first = draw(candidates.clone(), None, chance, total)?;
    let left = total - u64::from(first.weight);
    let Some(second) = draw(candidates, Some(first.place), mix(chance), left) else {
        return Some(first.place);
    };
    Some(if load(second, first) < load(first, second) {
        second.place
    } else {
        first.place
    })
}

/// Draws by weight, `but` left out.
fn draw(
    candidates: impl Iterator<Item = Candidate>,
    but: Option<usize>,
    chance: u64,
    total: u64,
) -> Option<Candidate> {
    // The bias of the remainder is below 2^-30 for any sum of weights that a pool can have.
    let mut left = chance.checked_rem(total)?;
    for candidate in candidates.filter(|candidate| Some(candidate.place) != but) {
        match left.checked_sub(u64::from(candidate.weight)) {
            Some(rest) => left = rest,
            None => return Some(candidate),
        }
    }
    None
}

/// Weighted rendezvous hashing (Thaler and Ravishankar, 1998; the logarithmic weights are Schindelhauer's and
/// Schomaker's, 2005): when a backend goes, only its own clients move.
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
        .map(|candidate| (candidate.place, score(candidate)))
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
