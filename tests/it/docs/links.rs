//! Links between the pages point to existing files and headings.

use std::path::Path;

use super::blocks::{pages, prose, root};

/// The anchors of a page's headings, as GitHub generates them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// The targets of local links.
fn links(text: &str) -> Vec<String> {
    let after = text.split("](").skip(1);
    let targets = after.filter_map(|rest| rest.split(')').next());
    let local = targets.filter(|target| !target.contains("://"));
    local.map(str::to_owned).collect()
}

#[test]
fn every_link_points_to_an_existing_file_and_heading() {
    let mut all = pages();
    for page in ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        all.push((page.to_owned(), text));
    }
    let mut seen = 0;
    for (page, text) in all {
        for link in links(&prose(&text)) {
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let here = root().join(&page);
            let path = if file.is_empty() {
                here
            } else {
                here.parent().unwrap_or(Path::new("")).join(file)
            };
            assert!(path.exists(), "{page}: {link} does not exist");
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&path).unwrap();
                let there = anchors(&prose(&text));
                assert!(
                    there.iter().any(|known| known == anchor),
                    "{page}: {link}: {there:#?}"
                );
            }
        }
    }
    assert!(seen > 60, "{seen} links");
}
