//! Durations that are written in another way.
//!
//! Owns the units that people use. Invariant: a duration that is proposed comes to the very time that was written.

/// What a duration is, that is written in another way; `fits` says whether the key takes what would be proposed.
pub(crate) fn duration(text: &str, fits: &dyn Fn(&str) -> bool) -> Option<String> {
    if text.is_empty() {
        return Some("write it as `5s`, `20m` or `1h30m`".into());
    }
    let say = |why: &str, meant: Option<String>| match meant.filter(|meant| fits(meant)) {
        Some(meant) => format!("{why}: `{meant}`"),
        None => why.to_owned(),
    };
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.trim_start_matches('0');
        let number = if number.is_empty() { "0" } else { number };
        if number == "0" && !fits("0s") {
            return Some("0 is less than it takes".into());
        }
        let mut meant = ["s", "ms"]
            .map(|unit| format!("{number}{unit}"))
            .into_iter();
        return Some(say("add a unit", meant.find(|meant| fits(meant))));
    }
    if text.starts_with('-') {
        return Some("a duration cannot be negative".into());
    }
    let meant = |why: &str| say(why, meant_duration(text));
    if text.contains(char::is_whitespace) {
        return Some(meant("write it without spaces"));
    }
    let is_bare = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b".,".contains(&byte));
    if is_bare {
        let meant = meant_duration(&format!("{text}s"));
        return Some(say("add a unit, and write whole numbers", meant));
    }
    if text.contains(['.', ',']) {
        return Some(meant("write whole numbers, of a smaller unit if need be"));
    }
    if let Some(signed) = text.strip_prefix('+') {
        return Some(say("leave out the sign", meant_duration(signed)));
    }
    // ISO 8601: `PT1H30M`.
    if let Some(parts) = text.to_ascii_uppercase().strip_prefix("PT") {
        return Some(say("the units are ms, s, m and h", meant_duration(parts)));
    }
    let starts_with_digit = text.starts_with(|c: char| c.is_ascii_digit());
    if !starts_with_digit {
        return None;
    }
    let words: Vec<&str> = text
        .split(|c: char| c.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .collect();
    let place = |word: &&str| UNITS[..4].iter().position(|(names, _)| names[0] == *word);
    let places: Option<Vec<usize>> = words.iter().map(place).collect();
    if text.ends_with(|c: char| c.is_ascii_digit()) {
        return Some(match last_unit(&words) {
            Some(unit) => say(
                "the last number has no unit",
                meant_duration(&format!("{text}{unit}")),
            ),
            None => meant("the units are ms, s, m and h"),
        });
    }
    Some(match places {
        Some(places) if places.is_sorted_by(|a, b| a > b) => "it is too long".into(),
        Some(_) => meant("write the largest unit first, each once"),
        None => meant("the units are ms, s, m and h"),
    })
}

/// The unit below the last one that is written: `1h30` is an hour and 30 minutes.
fn last_unit(words: &[&str]) -> Option<&'static str> {
    let last = words.last()?.to_ascii_lowercase();
    let place = UNITS
        .iter()
        .position(|(names, _)| names.contains(&&*last))?;
    let below = UNITS.get(place.checked_sub(1)?)?;
    Some(match below.0[0] {
        "" => "d",
        unit => unit,
    })
}

/// Units as people write them, each with its milliseconds; the name that is taken comes first.
const UNITS: [(&[&str], u128); 6] = [
    (
        &[
            "ms",
            "msec",
            "msecs",
            "millis",
            "millisecond",
            "milliseconds",
        ],
        1,
    ),
    (&["s", "sec", "secs", "second", "seconds"], 1000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000),
    (&["", "d", "day", "days"], 86_400_000),
    (&["", "w", "week", "weeks"], 604_800_000),
];

/// The duration that numbers with units come to, as it is written; `None` where that is no whole number of milliseconds.
fn meant_duration(text: &str) -> Option<String> {
    let text: String = text.split_whitespace().collect();
    let text = text.to_ascii_lowercase().replace(',', ".");
    let mut rest = text.as_str();
    let mut sum: u128 = 0;
    while !rest.is_empty() {
        let number = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let after = &rest[number..];
        let unit = after.len()
            - after
                .trim_start_matches(|c: char| c.is_ascii_alphabetic())
                .len();
        let name = &after[..unit];
        let (_, size) = UNITS
            .iter()
            .find(|(names, _)| !name.is_empty() && names.contains(&name))?;
        sum = sum.checked_add(of_unit(&rest[..number], *size)?)?;
        rest = &after[unit..];
    }
    written_duration(sum)
}

/// `1.5` of a unit of so many milliseconds, where that is a whole number of them.
fn of_unit(number: &str, size: u128) -> Option<u128> {
    const MOST_DIGITS: usize = 12;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.len() <= MOST_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let parse = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse().ok()
        }
    };
    let (whole, fraction): (u128, u128) = (parse(whole)?, parse(part)?);
    let tenths = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let scaled = fraction * size;
    scaled
        .is_multiple_of(tenths)
        .then(|| whole * size + scaled / tenths)
}

/// So many milliseconds, the largest unit first.
fn written_duration(milliseconds: u128) -> Option<String> {
    const LONGEST: u128 = 1 << 50;
    if milliseconds == 0 || milliseconds > LONGEST {
        return (milliseconds == 0).then(|| "0s".to_owned());
    }
    let mut rest = milliseconds;
    let mut text = String::new();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            text += &format!("{count}{unit}");
        }
    }
    Some(text)
}
