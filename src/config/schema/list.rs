//! Lists of the file, and texts that were probably intended as lists.
//!
//! Owns how a list is suggested. Must not know what a value means; the caller passes its parser. Invariant: every value
//! of a suggested list is accepted by that parser.

use crate::config::diagnostics::{Diagnostic, Diagnostics};
use crate::config::scalar::hints;
use crate::config::source::tree::{self, Node, NodeKind, SectionEntry};

/// Whether an item of a suggested list is accepted, or the hint that the item would get.
pub(crate) type ParseItem<'a> = dyn FnMut(&Node) -> Result<(), Option<String>> + 'a;

/// The items of a list; `expects` names them in messages.
pub(crate) fn items<'a>(
    entry: SectionEntry<'a>,
    expects: &str,
    diagnostics: &mut Diagnostics,
    parse_item: &mut ParseItem<'_>,
) -> Option<&'a [Node]> {
    let SectionEntry { name, at, node } = entry;
    let diagnostic = match &node.kind {
        NodeKind::List(items) => return Some(items),
        NodeKind::Null => {
            Diagnostic::new(at, format!("`{name}` has no value")).hint("write `[]` for none")
        }
        NodeKind::Scalar(found) => {
            let message = format!("`{name}` expects a list, not a single value");
            Diagnostic::new(node.at, message).hint(as_list(&found.text, expects, parse_item))
        }
        NodeKind::Map(entries) => {
            let message = format!("`{name}` expects a list of {expects}, not a mapping");
            Diagnostic::new(node.at, message).hint(as_entries(entries, expects, parse_item))
        }
    };
    diagnostics.error(diagnostic);
    None
}

/// How to write a mapping as a list of entries.
fn as_entries(entries: &[(Node, Node)], expects: &str, parse_item: &mut ParseItem<'_>) -> String {
    let begin = "begin each entry with `- `";
    let words = entries
        .iter()
        .map(|(key, value)| match (&key.kind, &value.kind) {
            (NodeKind::Scalar(word), NodeKind::Null) => Some(word.text.as_str()),
            _ => None,
        });
    // For YAML, `{ a, b }` is two keys without values.
    if let Some(words) = words
        .collect::<Option<Vec<_>>>()
        .filter(|words| !words.is_empty())
    {
        return as_list(&words.join(" "), expects, parse_item);
    }
    match entries.first().map(|(key, value)| (&key.kind, &value.kind)) {
        Some((NodeKind::Scalar(name), NodeKind::Scalar(address)))
            if expects == "backends" && name.text != "name" && name.text != "address" =>
        {
            let (name, address) = (&name.text, &address.text);
            format!("{begin}: `- {{ name: {name}, address: \"{address}\" }}`")
        }
        Some(_) | None => begin.to_owned(),
    }
}

/// How to write a text of several values, separated by commas or spaces, as a list.
fn as_list(text: &str, expects: &str, parse_item: &mut ParseItem<'_>) -> String {
    if ["routes", "checks"].contains(&expects) {
        return "begin each entry with `- `".into();
    }
    if text.split_whitespace().all(|value| value.starts_with('-')) && text.starts_with('-') {
        return "write a space after each `-`".into();
    }
    let values = values_in(text);
    let what = if values.len() == 1 { "it" } else { "them" };
    match suggested_list(&values, text.contains([',', ';']), parse_item) {
        Some(list) => format!("put {what} in brackets: `{list}`"),
        None => format!("write a list of {expects}"),
    }
}

/// Improves the hint of an invalid list item that holds several values. `before` is the number of errors before the item.
pub(crate) fn suggest_splitting(
    item: &Node,
    before: usize,
    diagnostics: &mut Diagnostics,
    parse_item: &mut ParseItem<'_>,
) {
    let NodeKind::Scalar(found) = &item.kind else {
        return;
    };
    let Some(diagnostic) = diagnostics.errors.get_mut(before) else {
        return;
    };
    if hints::invisible(&found.text).is_some() {
        return;
    }
    let values = values_in(&found.text);
    let are_separated = found.text.contains([',', ';']);
    if let [only] = values.as_slice() {
        if *only != found.text
            && found.text.ends_with([',', ';', '"', '\''])
            && let Some(list) = suggested_list(&values, are_separated, parse_item)
        {
            diagnostic.hint = Some(format!("write only this: `{list}`"));
        }
        return;
    }
    let rule = "write each as a separate value";
    let is_about_ports = |hint: &String| hint.contains("more than one port");
    if let Some(list) = suggested_list(&values, are_separated, parse_item) {
        diagnostic.hint = Some(format!("{rule}: `{list}`"));
    } else if are_separated && !diagnostic.hint.as_ref().is_some_and(is_about_ports) {
        diagnostic.hint = Some(rule.into());
    }
}

/// The values in one text, without quotes and brackets around all or each of them.
fn values_in(text: &str) -> Vec<&str> {
    const MAX_VALUES: usize = 64;
    let separators = |c: char| c == ',' || c == ';' || c.is_whitespace();
    let split = |text| -> Vec<&str> {
        str::split(text, separators)
            .map(|value| value.trim_matches(['"', '\'']))
            .filter(|value| !value.is_empty())
            .take(MAX_VALUES)
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

/// The list of these values as YAML, if each is accepted. Where commas separate them, or there is only one, the value
/// that a hint suggests is also used.
fn suggested_list(
    values: &[&str],
    are_separated: bool,
    parse_item: &mut ParseItem<'_>,
) -> Option<String> {
    const MAX_LENGTH: usize = 160;
    let length: usize = values.iter().map(|value| value.len() + 4).sum();
    if values.is_empty() || length > MAX_LENGTH {
        return None;
    }
    let mut parse_yaml = |yaml: &str| {
        let list = tree::parse(&format!("[{yaml}]")).ok();
        match list.map(|list| list.kind) {
            Some(NodeKind::List(items)) if items.len() == 1 => parse_item(&items[0]),
            Some(_) | None => Err(None),
        }
    };
    let mut as_yaml = |value: &str| {
        if is_plain(value) && parse_yaml(value).is_ok() {
            return Ok(value.to_owned());
        }
        let in_quotes = format!("\"{value}\"");
        parse_yaml(&in_quotes).map(|()| in_quotes)
    };
    let mut list = Vec::new();
    for value in values {
        list.push(match as_yaml(value) {
            Ok(yaml) => yaml,
            Err(hint) => {
                // A port alone would belong to another address.
                let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
                let hint = hint.filter(|_| values.len() == 1 || !is_number && are_separated)?;
                as_yaml(hint.rsplit('`').nth(1)?).ok()?
            }
        });
    }
    Some(format!("[{}]", list.join(", ")))
}

/// Whether a value needs no quotes in a list.
fn is_plain(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
}
