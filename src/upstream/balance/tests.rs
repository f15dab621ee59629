use proptest::prelude::*;

use super::*;

fn pool(of: &[(u32, u32)]) -> Vec<Candidate> {
    let candidate = |(index, &(weight, in_flight))| Candidate {
        index,
        weight,
        in_flight,
        seed: mix(index as u64),
        returns: 0,
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
        let of = |index| cycle.iter().filter(|&&chosen| chosen == index).count();
        assert_eq!((of(0), of(1), of(2)), (3, 1, 2), "{drawn:?}");
    }
}

#[test]
fn turns_stay_exact_for_the_remaining_backends() {
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
fn source_hash_shares_by_weight_and_moves_only_the_clients_of_a_removed_backend() {
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
fn weight_0_gets_no_client() {
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

/// Adds clients one by one that all stay; returns how many each backend has then.
fn held(weights: &[u32], clients: u32) -> Vec<u32> {
    let mut backends: Vec<(u32, u32)> = weights.iter().map(|&weight| (weight, 0)).collect();
    for round in 0..clients {
        let candidates = pool(&backends).into_iter();
        let random = mix(u64::from(round));
        let chosen = choose(Balance::LeastConnections, candidates, random, 0).unwrap();
        backends[chosen].1 += 1;
    }
    backends.iter().map(|backend| backend.1).collect()
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn slow_start_grows_linearly_from_a_sixteenth_to_the_full_weight() {
    let slow_start = SlowStart::new(HOUR).unwrap();
    let share = |of_hour: f64| slow_start.share(HOUR, HOUR + HOUR.mul_f64(of_hour));
    assert_eq!(share(0.0), Some(WEIGHT_UNIT / 16));
    assert_eq!(share(0.2), Some(WEIGHT_UNIT / 4));
    assert_eq!(share(0.6), Some(WEIGHT_UNIT * 5 / 8));
    assert_eq!(share(0.9999), Some(WEIGHT_UNIT - 1));
    assert_eq!(share(1.0), None);
    assert_eq!(share(9.0), None);
    assert!(SlowStart::new(Duration::ZERO).is_none());
    assert_eq!(
        slow_start.share(HOUR, Duration::ZERO),
        Some(WEIGHT_UNIT / 16),
        "a clock that lags"
    );
}

#[test]
fn a_backend_in_slow_start_gets_its_exact_share_of_turns_and_connections() {
    let weights = [WEIGHT_UNIT, 2 * WEIGHT_UNIT, WEIGHT_UNIT / 4];
    assert_eq!(held(&weights, 13), [4, 8, 1]);
    let mut turns = Turns::default();
    let of = weights.map(|weight| (weight, 0));
    let drawn: Vec<_> = (0..26)
        .map(|_| turns.next(pool(&of).into_iter()).unwrap())
        .collect();
    for cycle in drawn.chunks(13) {
        let count = |index| cycle.iter().filter(|&&chosen| chosen == index).count();
        assert_eq!((count(0), count(1), count(2)), (4, 8, 1), "{drawn:?}");
    }
}

#[test]
fn a_backend_that_has_come_back_neither_makes_up_for_turns_nor_pays_for_them() {
    // The first cycle after its return is exact, whatever happened before.
    for before in 0..7 {
        let mut turns = Turns::default();
        for _ in 0..before {
            turns
                .next(pool(&[(WEIGHT_UNIT, 0), (2 * WEIGHT_UNIT, 0)]).into_iter())
                .unwrap();
        }
        for _ in 0..before {
            turns
                .next(pool(&[(0, 0), (2 * WEIGHT_UNIT, 0)]).into_iter())
                .unwrap();
        }
        let mut back = pool(&[(WEIGHT_UNIT / 16, 0), (2 * WEIGHT_UNIT, 0)]);
        back[0].returns = 1;
        let drawn = (0..33).filter(|_| turns.next(back.iter().copied()) == Some(0));
        assert_eq!(drawn.count(), 1, "after {before}");
    }
}

#[test]
fn random_two_draws_a_backend_in_slow_start_in_proportion_to_its_weight() {
    // It is empty and two others are loaded: it gets every client that draws it, 1 of 33 first and 1 of 17 of the others second.
    let drawn = shares(
        Balance::RandomTwo,
        &[(WEIGHT_UNIT, 90), (WEIGHT_UNIT, 90), (WEIGHT_UNIT / 16, 0)],
        200_000,
    );
    assert!((17_000..17_900).contains(&drawn[2]), "{drawn:?}");
}

/// The greatest common divisor.
fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// Weights of a pool some of whose backends slow_start.
fn weights() -> impl Strategy<Value = Vec<u32>> {
    let share = prop_oneof![
        Just(WEIGHT_UNIT),
        (1..=15_u32).prop_map(|sixteenths| sixteenths * WEIGHT_UNIT / 16)
    ];
    proptest::collection::vec(
        (0..4_u32, share).prop_map(|(weight, share)| weight * share),
        1..5,
    )
}

/// The choice of source hashing at `now`, if the backends came back at `started`.
fn chosen_at(
    slow_start: SlowStart,
    started: &[Duration],
    now: Duration,
    source: u64,
) -> (usize, Vec<Candidate>) {
    let mut candidates = pool(&vec![(1, 0); started.len()]);
    for (candidate, &started) in candidates.iter_mut().zip(started) {
        candidate.weight = (1 + u32::try_from(candidate.index).unwrap() % 3)
            * slow_start.share(started, now).unwrap_or(WEIGHT_UNIT);
    }
    let chosen = choose(Balance::SourceHash, candidates.iter().copied(), 0, source).unwrap();
    (chosen, candidates)
}

proptest! {
    #[test]
    fn complete_cycles_are_shared_exactly_during_slow_start(weights in weights()) {
        let unit = weights.iter().copied().fold(0, divisor);
        prop_assume!(unit > 0);
        let shares: Vec<u32> = weights.iter().map(|weight| weight / unit).collect();
        let cycle: u32 = shares.iter().sum();
        prop_assert_eq!(held(&weights, cycle), shares.clone());
        let of: Vec<(u32, u32)> = weights.iter().map(|&weight| (weight, 0)).collect();
        let (mut turns, mut drawn) = (Turns::default(), vec![0; of.len()]);
        for _ in 0..cycle {
            drawn[turns.next(pool(&of).into_iter()).unwrap()] += 1;
        }
        prop_assert_eq!(drawn, shares);
    }

    #[test]
    fn slow_start_never_decreases_and_is_linear(lasts in 10_u64..86_400_000, steps in proptest::collection::vec(0_u64..2_000_000, 1..40)) {
        let lasts = Duration::from_millis(lasts);
        let slow_start = SlowStart::new(lasts).unwrap();
        let (started, mut now, mut last) = (HOUR, HOUR, 0);
        for step in steps {
            now += Duration::from_millis(step);
            let share = slow_start.share(started, now).unwrap_or(WEIGHT_UNIT);
            prop_assert!((WEIGHT_UNIT / 16..=WEIGHT_UNIT).contains(&share) && share >= last);
            let ideal = (64.0 + 960.0 * (now - started).as_secs_f64() / lasts.as_secs_f64()).min(1024.0);
            // One step is missing at either end, and its length is a whole number of nanoseconds.
            prop_assert!((f64::from(share) - ideal).abs() < 2.5, "{} for {}", share, ideal);
            last = share;
        }
    }

    /// Each move is to a backend that the client's hash prefers; the last is the choice without slow start.
    #[test]
    fn source_hashing_moves_clients_only_towards_their_final_backend(
        started in proptest::collection::vec(0_u64..5_000, 2..6),
        source in any::<u64>(),
    ) {
        let slow_start = SlowStart::new(Duration::from_secs(3)).unwrap();
        let started: Vec<Duration> = started.into_iter().map(Duration::from_millis).collect();
        let all = started.iter().max().copied().unwrap();
        let (last, full) = chosen_at(slow_start, &started, all + Duration::from_secs(4), source);
        // Whether the client prefers `one` to `other` with full weights.
        let prefers = |one: usize, other: usize| {
            let duel = [full[one], full[other]];
            choose(Balance::SourceHash, duel.into_iter(), 0, source) == Some(one)
        };
        let mut here = None;
        for millisecond in 0..2_000 {
            let now = all + Duration::from_micros(1_700 * millisecond);
            let (chosen, _) = chosen_at(slow_start, &started, now, source);
            if let Some(before) = here.replace(chosen).filter(|before| *before != chosen) {
                prop_assert!(prefers(chosen, before), "{} to {}", before, chosen);
            }
        }
        prop_assert_eq!(here, Some(last));
    }
}

/// Candidates change their state and weight during a choice.
#[test]
fn candidates_that_change_are_read_once() {
    let looked = std::cell::Cell::new(0);
    let changing = || {
        looked.set(0);
        pool(&[(1, 0), (1, 0)]).into_iter().filter(|_| {
            looked.set(looked.get() + 1);
            looked.get() > 2
        })
    };
    assert_eq!(Turns::default().next(changing()), None);
    assert_eq!(looked.get(), 2);
    assert_eq!(choose(Balance::RandomTwo, changing(), 1, 1), None);
    assert_eq!(looked.get(), 2);
}
