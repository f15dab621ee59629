//! Durations that are written in another way.
//!
//! Owns the units that people use. Invariant: a duration that is proposed comes to the very time that was written.

/// What a duration is, that is written in another way.
pub(crate) fn duration(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("write it as `5s`, `20m` or `1h30m`".into());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(format!("add a unit: `{text}s`"));
    }
    if text.starts_with('-') {
        return Some("a duration cannot be negative".into());
    }
    let meant = meant_duration(text);
    let meant = |why: &str| match &meant {
        Some(meant) => format!("{why}: `{meant}`"),
        None => why.to_owned(),
    };
    if text.contains(char::is_whitespace) {
        return Some(meant("write it without spaces"));
    }
    let is_bare = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b".,".contains(&byte));
    if let Some(meant) = meant_duration(&format!("{text}s")).filter(|_| is_bare) {
        return Some(format!("add a unit, and write whole numbers: `{meant}`"));
    }
    if text.contains(['.', ',']) {
        return Some(meant("write whole numbers, of a smaller unit if need be"));
    }
    let mut words = text
        .split(|c: char| c.is_ascii_digit())
        .filter(|word| !word.is_empty());
    let starts_with_digit = text.starts_with(|c: char| c.is_ascii_digit());
    if !starts_with_digit {
        return None;
    }
    let ends_with_unit = !text.ends_with(|c: char| c.is_ascii_digit());
    if ends_with_unit && words.all(|word| UNITS.iter().any(|(names, _)| names[0] == word)) {
        return Some(meant("write the largest unit first, each once"));
    }
    Some(meant("the units are ms, s, m and h"))
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
