use proptest::prelude::*;

use super::*;

fn pool(of: &[(u32, u32)]) -> Vec<Candidate> {
    let candidate = |(place, &(weight, in_flight))| Candidate {
        place,
        weight,
        in_flight,
        seed: mix(place as u64),
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

/// Places one client after the other, each of which stays; how many each backend then holds.
fn held(weights: &[u32], clients: u32) -> Vec<u32> {
    let mut backends: Vec<(u32, u32)> = weights.iter().map(|&weight| (weight, 0)).collect();
    for round in 0..clients {
        let candidates = pool(&backends).into_iter();
        let chance = mix(u64::from(round));
        let chosen = choose(Balance::LeastConnections, candidates, chance, 0).unwrap();
        backends[chosen].1 += 1;
    }
    backends.iter().map(|backend| backend.1).collect()
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_ramp_goes_in_a_line_from_a_sixteenth_to_the_whole() {
    let ramp = SlowStart::new(HOUR).unwrap();
    let share = |of_hour: f64| ramp.share(HOUR, HOUR + HOUR.mul_f64(of_hour));
    assert_eq!(share(0.0), Some(FULL / 16));
    assert_eq!(share(0.2), Some(FULL / 4));
    assert_eq!(share(0.6), Some(FULL * 5 / 8));
    assert_eq!(share(0.9999), Some(FULL - 1));
    assert_eq!(share(1.0), None);
    assert_eq!(share(9.0), None);
    assert!(SlowStart::new(Duration::ZERO).is_none());
    assert_eq!(
        ramp.share(HOUR, Duration::ZERO),
        Some(FULL / 16),
        "a clock that lags"
    );
}

#[test]
fn one_that_ramps_gets_its_exact_share_of_turns_and_of_connections() {
    let weights = [FULL, 2 * FULL, FULL / 4];
    assert_eq!(held(&weights, 13), [4, 8, 1]);
    let mut turns = Turns::default();
    let of = weights.map(|weight| (weight, 0));
    let drawn: Vec<_> = (0..26)
        .map(|_| turns.next(pool(&of).into_iter()).unwrap())
        .collect();
    for cycle in drawn.chunks(13) {
        let count = |place| cycle.iter().filter(|&&chosen| chosen == place).count();
        assert_eq!((count(0), count(1), count(2)), (4, 8, 1), "{drawn:?}");
    }
}

#[test]
fn one_that_has_come_back_neither_makes_up_for_turns_nor_pays_for_them() {
    // Whatever had happened: the first cycle after its return is exact.
    for before in 0..7 {
        let mut turns = Turns::default();
        for _ in 0..before {
            turns
                .next(pool(&[(FULL, 0), (2 * FULL, 0)]).into_iter())
                .unwrap();
        }
        for _ in 0..before {
            turns
                .next(pool(&[(0, 0), (2 * FULL, 0)]).into_iter())
                .unwrap();
        }
        let mut back = pool(&[(FULL / 16, 0), (2 * FULL, 0)]);
        back[0].returns = 1;
        let drawn = (0..33).filter(|_| turns.next(back.iter().copied()) == Some(0));
        assert_eq!(drawn.count(), 1, "after {before}");
    }
}

#[test]
fn random_two_draws_one_that_ramps_as_seldom_as_its_weight_says() {
    // Empty beside two that hold much: it gets whoever draws it, 1 of 33 at first and 1 of 17 of the others at second.
    let drawn = shares(
        Balance::RandomTwo,
        &[(FULL, 90), (FULL, 90), (FULL / 16, 0)],
        200_000,
    );
    assert!((17_000..17_900).contains(&drawn[2]), "{drawn:?}");
}

/// The common divisor that is greatest.
fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// Weights of a pool some of whose backends ramp.
fn weights() -> impl Strategy<Value = Vec<u32>> {
    let share = prop_oneof![
        Just(FULL),
        (1..=15_u32).prop_map(|sixteenths| sixteenths * FULL / 16)
    ];
    proptest::collection::vec(
        (0..4_u32, share).prop_map(|(weight, share)| weight * share),
        1..5,
    )
}

/// Where a client of source hashing goes, when all came back at `begun` and have had since then for their ramps.
fn place(
    ramp: SlowStart,
    begun: &[Duration],
    now: Duration,
    source: u64,
) -> (usize, Vec<Candidate>) {
    let mut candidates = pool(&vec![(1, 0); begun.len()]);
    for (candidate, &begun) in candidates.iter_mut().zip(begun) {
        candidate.weight = (1 + u32::try_from(candidate.place).unwrap() % 3)
            * ramp.share(begun, now).unwrap_or(FULL);
    }
    let chosen = choose(Balance::SourceHash, candidates.iter().copied(), 0, source).unwrap();
    (chosen, candidates)
}

proptest! {
    #[test]
    fn whole_cycles_are_shared_exactly_whatever_ramps(weights in weights()) {
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
    fn a_ramp_never_falls_and_is_linear(lasts in 10_u64..86_400_000, steps in proptest::collection::vec(0_u64..2_000_000, 1..40)) {
        let lasts = Duration::from_millis(lasts);
        let ramp = SlowStart::new(lasts).unwrap();
        let (begun, mut now, mut last) = (HOUR, HOUR, 0);
        for step in steps {
            now += Duration::from_millis(step);
            let share = ramp.share(begun, now).unwrap_or(FULL);
            prop_assert!((FULL / 16..=FULL).contains(&share) && share >= last);
            let ideal = (64.0 + 960.0 * (now - begun).as_secs_f64() / lasts.as_secs_f64()).min(1024.0);
            // A step is left out at either end, and its length is a whole number of nanoseconds.
            prop_assert!((f64::from(share) - ideal).abs() < 2.5, "{} for {}", share, ideal);
            last = share;
        }
    }

    /// Each move is to a backend that the client's hash prefers, and the last is to where it goes without ramps.
    #[test]
    fn source_hashing_moves_clients_only_towards_their_last_place(
        begun in proptest::collection::vec(0_u64..5_000, 2..6),
        source in any::<u64>(),
    ) {
        let ramp = SlowStart::new(Duration::from_secs(3)).unwrap();
        let begun: Vec<Duration> = begun.into_iter().map(Duration::from_millis).collect();
        let all = begun.iter().max().copied().unwrap();
        let (last, full) = place(ramp, &begun, all + Duration::from_secs(4), source);
        // Without `one`, whom does the client prefer? Whoever wins a duel of whole weights.
        let prefers = |one: usize, other: usize| {
            let duel = [full[one], full[other]];
            choose(Balance::SourceHash, duel.into_iter(), 0, source) == Some(one)
        };
        let mut here = None;
        for millisecond in 0..2_000 {
            let now = all + Duration::from_micros(1_700 * millisecond);
            let (chosen, _) = place(ramp, &begun, now, source);
            if let Some(before) = here.replace(chosen).filter(|before| *before != chosen) {
                prop_assert!(prefers(chosen, before), "{} to {}", before, chosen);
            }
        }
        prop_assert_eq!(here, Some(last));
    }
}

/// They go up, go down and get other weights while somebody chooses.
#[test]
fn candidates_that_change_are_looked_at_once() {
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
