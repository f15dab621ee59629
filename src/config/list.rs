//! Lists of the file, and texts that were meant as lists.
//!
//! Owns how a list is proposed. Must not know what a value means; that is said by the parser that comes with the
//! question. Invariant: each value of a list that is proposed is one that is taken.

use super::diagnostics::{Note, Notes};
use super::tree::{Node, NodeKind, SectionEntry};

/// Whether an item of a list that would be proposed is taken, or the hint that would be given.
pub(crate) type IsSound<'a> = dyn FnMut(&Node) -> Result<(), Option<String>> + 'a;

/// The items of a list; `is_sound` says whether an item that would be proposed is taken.
pub(crate) fn items<'a>(
    entry: SectionEntry<'a>,
    takes: &str,
    notes: &mut Notes,
    is_sound: &mut IsSound<'_>,
) -> Option<&'a [Node]> {
    let SectionEntry { name, at, node } = entry;
    let note = match &node.kind {
        NodeKind::List(items) => return Some(items),
        NodeKind::Null => {
            Note::new(at, format!("`{name}` has no value")).hint("write `[]` for none")
        }
        NodeKind::Scalar(found) => Note::new(
            node.at,
            format!("`{name}` takes a list, not one value"),
        )
        .hint(as_list(&found.text, takes, is_sound)),
        NodeKind::Map(entries) => {
            let message = format!("`{name}` takes a list of {takes}, not a mapping");
            Note::new(node.at, message).hint(as_entries(entries, takes, is_sound))
        }
    };
    notes.fault(note);
    None
}

/// How a mapping is written as a list of entries.
fn as_entries(entries: &[(Node, Node)], takes: &str, is_sound: &mut IsSound<'_>) -> String {
    let begin = "begin each entry with `- `";
    let words = entries
        .iter()
        .map(|(key, value)| match (&key.kind, &value.kind) {
            (NodeKind::Scalar(word), NodeKind::Null) => Some(word.text.as_str()),
            _ => None,
        });
    // `{ a, b }`, which YAML takes for keys without values.
    if let Some(words) = words
        .collect::<Option<Vec<_>>>()
        .filter(|words| !words.is_empty())
    {
        return as_list(&words.join(" "), takes, is_sound);
    }
    match entries.first().map(|(key, value)| (&key.kind, &value.kind)) {
        Some((NodeKind::Scalar(name), NodeKind::Scalar(address)))
            if takes == "backends" && name.text != "name" && name.text != "address" =>
        {
            let (name, address) = (&name.text, &address.text);
            format!("{begin}: `- {{ name: {name}, address: \"{address}\" }}`")
        }
        Some(_) | None => begin.to_owned(),
    }
}

/// How the values are written as a list that stand in one text, with commas or spaces between them.
fn as_list(text: &str, takes: &str, is_sound: &mut IsSound<'_>) -> String {
    if ["routes", "checks"].contains(&takes) {
        return "begin each entry with `- `".into();
    }
    if text.split_whitespace().all(|value| value.starts_with('-')) && text.starts_with('-') {
        return "write a space behind each `-`".into();
    }
    let values = values_in(text);
    let what = if values.len() == 1 { "it" } else { "them" };
    match written_list(&values, text.contains([',', ';']), is_sound) {
        Some(list) => format!("put {what} in brackets: `{list}`"),
        None => format!("write a list of {takes}"),
    }
}

/// Gives the fault of a list's item a better hint, if it has one and the item is several values in one text.
pub(crate) fn several_in_one(
    item: &Node,
    before: usize,
    notes: &mut Notes,
    is_sound: &mut IsSound<'_>,
) {
    let NodeKind::Scalar(found) = &item.kind else {
        return;
    };
    let Some(note) = notes.faults.get_mut(before) else {
        return;
    };
    if super::scalar::advice::invisible(&found.text).is_some() {
        return;
    }
    let values = values_in(&found.text);
    if let [only] = values.as_slice() {
        if *only != found.text
            && found.text.ends_with([',', ';', '"', '\''])
            && let Some(list) = written_list(&values, found.text.contains([',', ';']), is_sound)
        {
            note.hint = Some(format!("write it alone: `{list}`"));
        }
        return;
    }
    let rule = "write each as a value of its own";
    if let Some(list) = written_list(&values, found.text.contains([',', ';']), is_sound) {
        note.hint = Some(format!("{rule}: `{list}`"));
    } else if found.text.contains([',', ';'])
        && !note
            .hint
            .as_ref()
            .is_some_and(|hint| hint.contains("more than one port"))
    {
        note.hint = Some(rule.into());
    }
}

/// The values that stand in one text, without quotes and brackets around all or each of them.
fn values_in(text: &str) -> Vec<&str> {
    /// So many are looked at.
    const MOST: usize = 64;
    let separators = |c: char| c == ',' || c == ';' || c.is_whitespace();
    let split = |text| -> Vec<&str> {
        str::split(text, separators)
            .map(|value| value.trim_matches(['"', '\'']))
            .filter(|value| !value.is_empty())
            .take(MOST)
            .collect()
    };
    let all = text.trim();
    let inner = all
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match inner {
        // A list in quotes; `[::]` is an address.
        Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_err() && !inner.starts_with(':') => {
            split(inner)
        }
        _ => split(all),
    }
}

/// A list of these values as it is written, if each of them is taken; where commas set them apart, or there is one, what
/// the hint for one proposes will do.
fn written_list(values: &[&str], are_apart: bool, is_sound: &mut IsSound<'_>) -> Option<String> {
    const LONGEST: usize = 160;
    let length: usize = values.iter().map(|value| value.len() + 4).sum();
    if values.is_empty() || length > LONGEST {
        return None;
    }
    let mut taken = |written: &str| {
        let read = super::tree::parse(&format!("[{written}]")).ok();
        match read.map(|read| read.kind) {
            Some(NodeKind::List(items)) if items.len() == 1 => is_sound(&items[0]),
            Some(_) | None => Err(None),
        }
    };
    let is_plain = |value: &str| {
        value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && value
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
    };
    let mut as_taken = |value: &str| {
        if is_plain(value) && taken(value).is_ok() {
            return Ok(value.to_owned());
        }
        let in_quotes = format!("\"{value}\"");
        taken(&in_quotes).map(|()| in_quotes)
    };
    let mut written = Vec::new();
    for value in values {
        written.push(match as_taken(value) {
            Ok(value) => value,
            Err(hint) => {
                // A port alone would be one of another address.
                let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
                let hint = hint.filter(|_| values.len() == 1 || !is_number && are_apart)?;
                as_taken(hint.rsplit('`').nth(1)?).ok()?
            }
        });
    }
    Some(format!("[{}]", written.join(", ")))
}
