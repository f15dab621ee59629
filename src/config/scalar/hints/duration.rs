//! Durations in other notations.
//!
//! Owns the units that people use. Must not know the key. Invariant: a suggested duration equals the one that was written.

const UNIT_NAMES: &str = "the units are ms, s, m and h";

/// The hint for a duration in another notation. `fits` tells whether the key accepts a suggestion.
pub(crate) fn duration(text: &str, fits: &dyn Fn(&str) -> bool) -> Option<String> {
    let (instruction, suggestion) = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        number_without_unit(text, fits)
    } else {
        other_notation(text).or_else(|| wrong_units(text))?
    };
    Some(match suggestion.filter(|text| fits(text)) {
        Some(suggestion) => format!("{instruction}: `{suggestion}`"),
        None => instruction.to_owned(),
    })
}

/// What to do, and the suggested duration.
type Instruction = (&'static str, Option<String>);

fn number_without_unit(text: &str, fits: &dyn Fn(&str) -> bool) -> Instruction {
    let number = match text.trim_start_matches('0') {
        "" if text.is_empty() => return ("write it as `5s`, `20m` or `1h30m`", None),
        "" if !fits("0s") => return ("0 is below the minimum", None),
        "" => "0",
        number => number,
    };
    let mut suggestions = ["s", "ms"]
        .map(|unit| format!("{number}{unit}"))
        .into_iter();
    ("add a unit", suggestions.find(|text| fits(text)))
}

/// Signs, spaces, fractions, and ISO 8601.
fn other_notation(text: &str) -> Option<Instruction> {
    let is_number = |byte: u8| byte.is_ascii_digit() || b".,".contains(&byte);
    Some(if text.starts_with('-') {
        ("a duration cannot be negative", None)
    } else if text.contains(char::is_whitespace) {
        ("write it without spaces", convert(text))
    } else if text.bytes().all(is_number) {
        let suggestion = convert(&format!("{text}s"));
        ("add a unit, and write whole numbers", suggestion)
    } else if text.contains(['.', ',']) {
        let instruction = "write whole numbers, in a smaller unit if necessary";
        (instruction, convert(text))
    } else if let Some(signed) = text.strip_prefix('+') {
        ("leave out the sign", convert(signed))
    } else {
        // `PT1H30M`
        let text = text.to_ascii_uppercase();
        (UNIT_NAMES, convert(text.strip_prefix("PT")?))
    })
}

/// Unknown, missing or misplaced units.
fn wrong_units(text: &str) -> Option<Instruction> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let units: Vec<&str> = text
        .split(|c: char| c.is_ascii_digit())
        .filter(|unit| !unit.is_empty())
        .collect();
    if text.ends_with(|c: char| c.is_ascii_digit()) {
        return Some(match last_unit(&units) {
            Some(unit) => {
                let suggestion = convert(&format!("{text}{unit}"));
                ("the last number has no unit", suggestion)
            }
            None => (UNIT_NAMES, convert(text)),
        });
    }
    let position = |unit: &&str| UNITS[..4].iter().position(|(names, _)| names[0] == *unit);
    let positions: Option<Vec<usize>> = units.iter().map(position).collect();
    Some(match positions {
        Some(positions) if positions.is_sorted_by(|a, b| a > b) => ("it is too long", None),
        Some(_) => ("write the largest unit first, each once", convert(text)),
        None => (UNIT_NAMES, convert(text)),
    })
}

/// The unit below the last one: `1h30` is an hour and 30 minutes.
fn last_unit(units: &[&str]) -> Option<&'static str> {
    let last = units.last()?.to_ascii_lowercase();
    let position = UNITS
        .iter()
        .position(|(names, _)| names.contains(&&*last))?;
    let below = UNITS.get(position.checked_sub(1)?)?;
    Some(match below.0[0] {
        "" => "d",
        unit => unit,
    })
}

/// Units as people write them, each with its milliseconds; the valid name is the first.
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

/// A sum of numbers with units as a valid duration; `None` if it is not a whole number of milliseconds.
fn convert(text: &str) -> Option<String> {
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
        sum = sum.checked_add(to_milliseconds(&rest[..number], *size)?)?;
        rest = &after[unit..];
    }
    print(sum)
}

/// `1.5` of a unit in milliseconds, if that is a whole number.
fn to_milliseconds(number: &str, size: u128) -> Option<u128> {
    const MAX_DIGITS: usize = 12;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.len() <= MAX_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
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

/// So many milliseconds as a duration, the largest unit first.
fn print(milliseconds: u128) -> Option<String> {
    const MAX_MILLISECONDS: u128 = 1 << 50;
    if milliseconds == 0 || milliseconds > MAX_MILLISECONDS {
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
