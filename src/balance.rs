//! Who gets a client that has no pin.
//!
//! Owns the policies. Knows no backend: candidates are a weight, a count and a seed; chance is passed in. Invariant:
//! what is chosen is one of the candidates, and none of weight 0.

use crate::config::model::Balance;

/// One backend that may take the client.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Its place in the pool.
    pub place: usize,
    /// Its share.
    pub weight: u32,
    /// Connections that it holds.
    pub in_flight: u32,
    /// A hash of its name, which does not change with its neighbours.
    pub seed: u64,
}

/// Turns of a pool: smooth weighted round robin, in which each cycle of the weights' sum gives each backend its
/// share and no backend waits longer than it must.
#[derive(Debug, Default, Clone)]
pub struct Turns {
    credit: Vec<i64>,
}

impl Turns {
    /// Whose turn it is.
    pub fn next(&mut self, candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<usize> = None;
        for candidate in candidates.filter(|candidate| candidate.weight > 0) {
            if self.credit.len() <= candidate.place {
                self.credit.resize(candidate.place + 1, 0);
            }
            total += i64::from(candidate.weight);
            self.credit[candidate.place] += i64::from(candidate.weight);
            if best.is_none_or(|best| self.credit[candidate.place] > self.credit[best]) {
                best = Some(candidate.place);
            }
        }
        self.credit[best?] -= total;
        best
    }
}

/// Chooses by every policy but round robin, which has [`Turns`]. `chance` is uniform; `source` is a hash of the
/// client's prefix, used by [`Balance::SourceHash`] alone.
pub fn choose(
    balance: Balance,
    candidates: impl Iterator<Item = Candidate> + Clone,
    chance: u64,
    source: u64,
) -> Option<usize> {
    let candidates = candidates.filter(|candidate| candidate.weight > 0);
    match balance {
        Balance::LeastConnections | Balance::RoundRobin => least_connections(candidates, chance),
        Balance::RandomTwo => random_two(candidates, chance),
        Balance::SourceHash => source_hash(candidates, source),
    }
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
    // The bias of the remainder is below 2^-40 for any sum of weights that a pool can have.
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
mod tests {
    use super::*;

    fn pool(of: &[(u32, u32)]) -> Vec<Candidate> {
        let candidate = |(place, &(weight, in_flight))| Candidate {
            place,
            weight,
            in_flight,
            seed: mix(place as u64),
        };
        of.iter().enumerate().map(candidate).collect()
    }

    fn shares(balance: Balance, of: &[(u32, u32)], rounds: u64) -> Vec<u64> {
        let mut shares = vec![0; of.len()];
        for round in 0..rounds {
            let chosen = choose(
                balance,
                pool(of).into_iter(),
                mix(round),
                mix(round ^ 0xabc),
            )
            .unwrap();
            shares[chosen] += 1;
        }
        shares
    }

    #[test]
    fn turns_are_exact_in_every_cycle() {
        let mut turns = Turns::default();
        let drawn: Vec<_> = (0..12)
            .map(|_| {
                turns
                    .next(pool(&[(3, 0), (1, 0), (2, 0)]).into_iter())
                    .unwrap()
            })
            .collect();
        for cycle in drawn.chunks(6) {
            let of = |place| cycle.iter().filter(|&&chosen| chosen == place).count();
            assert_eq!((of(0), of(1), of(2)), (3, 1, 2), "{drawn:?}");
        }
    }

    #[test]
    fn turns_stay_exact_for_those_who_are_left() {
        let mut turns = Turns::default();
        let both = pool(&[(1, 0), (1, 0), (1, 0)]);
        turns.next(both.clone().into_iter());
        let drawn: Vec<_> = (0..4)
            .map(|_| turns.next(both[1..].iter().copied()).unwrap())
            .collect();
        assert_eq!(drawn.iter().filter(|&&chosen| chosen == 1).count(), 2);
    }

    #[test]
    fn least_connections_counts_a_connection_against_the_weight() {
        assert_eq!(
            shares(Balance::LeastConnections, &[(1, 4), (2, 8), (4, 9)], 10),
            [0, 0, 10]
        );
        assert_eq!(
            shares(Balance::LeastConnections, &[(1, 4), (1, 3), (1, 5)], 10),
            [0, 10, 0]
        );
    }

    #[test]
    fn equals_get_equal_shares() {
        for share in shares(Balance::LeastConnections, &[(1, 0); 4], 4_000) {
            assert!((900..1_100).contains(&share), "{share}");
        }
    }

    #[test]
    fn random_two_prefers_the_less_loaded_and_never_draws_one_twice() {
        assert_eq!(shares(Balance::RandomTwo, &[(1, 9), (1, 0)], 100), [0, 100]);
        let drawn = shares(Balance::RandomTwo, &[(1, 0), (3, 0)], 4_000);
        assert!(drawn[1] > drawn[0]);
    }

    #[test]
    fn source_hash_shares_by_weight_and_moves_only_the_clients_of_who_goes() {
        let drawn = shares(Balance::SourceHash, &[(1, 0), (1, 0), (2, 0)], 8_000);
        assert!(
            (1_850..2_150).contains(&drawn[0]) && (3_800..4_200).contains(&drawn[2]),
            "{drawn:?}"
        );
        let all = pool(&[(1, 0), (1, 0), (2, 0)]);
        for source in (0..500).map(mix) {
            let before = choose(Balance::SourceHash, all.iter().copied(), 0, source).unwrap();
            let after = choose(Balance::SourceHash, all[..2].iter().copied(), 0, source).unwrap();
            assert!(before == 2 || before == after);
        }
    }

    #[test]
    fn weight_0_takes_nobody() {
        for balance in [
            Balance::LeastConnections,
            Balance::RandomTwo,
            Balance::SourceHash,
        ] {
            assert_eq!(shares(balance, &[(0, 0), (1, 50)], 50), [0, 50]);
            assert_eq!(choose(balance, pool(&[(0, 0)]).into_iter(), 1, 1), None);
        }
        assert_eq!(Turns::default().next(pool(&[(0, 0)]).into_iter()), None);
    }
}
