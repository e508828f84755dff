//! What documents say of each other and of the source: links lead somewhere, decision records that amend others are named
//! there, and excerpts stand where they were taken from.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use like_tests::source;

/// All documents, by their paths.
fn documents() -> BTreeMap<PathBuf, String> {
    let places = ["", "docs", "docs/adr", "fuzz"].map(|place| source::root().join(place));
    let files = places.iter().flat_map(|place| fs::read_dir(place).expect("a directory"));
    let paths = files.map(|file| file.expect("a file").path());
    let paths = paths.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    paths.map(|path| (path.clone(), fs::read_to_string(path).expect("a document"))).collect()
}

/// Where the links of a text lead that lead to files.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// What a link calls a heading.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

fn headings(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let mut followed = 0;
    for (path, text) in &documents {
        for link in links(text) {
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, to)| (file, Some(to)));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name("").join(file) };
            let found = target.canonicalize();
            assert!(found.is_ok(), "{}: {link} leads nowhere", path.display());
            if let Some(heading) = heading {
                let there = fs::read_to_string(&target).expect("a document");
                assert!(headings(&there).contains(heading), "{}: no heading for {link}", path.display());
            }
            followed += 1;
        }
    }
    assert!(documents.len() > 30 && followed > 100, "{followed} links of {} documents", documents.len());
}

/// Names as tests have them: of four words and more, between backticks.
fn named_tests(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.rsplit("::").next());
    let is_name =
        |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte));
    quoted.filter(move |quoted| is_name(quoted) && quoted.matches('_').count() >= 3)
}

#[test]
fn every_test_that_is_named_for_a_break_or_a_fault_exists() {
    let packages = ["client", "daemon", "gateway", "process", "protocol", "tests", "threads"];
    let sources = packages.iter().flat_map(|package| source::below(package, true));
    let sources: String =
        sources.map(|file| fs::read_to_string(source::root().join(file.path)).expect("a source")).collect();
    let functions: BTreeSet<_> =
        sources.split("fn ").filter_map(|rest| rest.split('(').next()).map(str::to_owned).collect();
    let mut found = 0;
    for document in ["docs/what-catches-what.md", "docs/track-record.md", "docs/testing.md"] {
        let text = fs::read_to_string(source::root().join(document)).expect("a document");
        for name in named_tests(&text) {
            assert!(functions.contains(name), "{document}: there is no test {name}");
            found += 1;
        }
    }
    assert!(found > 100, "{found} tests are named");
}

/// The records that the head of a record says it `Amends`, and those that it is `Amended by`.
fn amendments(text: &str) -> [BTreeSet<String>; 2] {
    let head = text.split("\n## ").next().unwrap_or_default();
    let named = |word: &str| {
        let parts = head.split("Amend").skip(1).filter_map(|part| part.strip_prefix(word));
        parts.flat_map(links).map(ToOwned::to_owned).collect()
    };
    [named("s "), named("ed by")]
}

#[test]
fn a_record_that_amends_another_is_named_there() {
    let is_record = |path: &Path| path.parent().is_some_and(|parent| parent.ends_with("adr"));
    let records: BTreeMap<_, _> = documents()
        .into_iter()
        .filter(|(path, _)| is_record(path))
        .map(|(path, text)| {
            (path.file_name().expect("a name").to_string_lossy().into_owned(), amendments(&text))
        })
        .collect();
    let mut pairs = 0;
    for (name, [amends, amended_by]) in &records {
        for other in amends {
            assert!(records[other][1].contains(name), "{other} does not say that {name} amends it");
            pairs += 1;
        }
        for other in amended_by {
            assert!(records[other][0].contains(name), "{other} does not say that it amends {name}");
        }
    }
    assert!(pairs > 20, "{pairs}");
}

/// The blocks of Rust in a text, without the indentation of the list that they stand in.
fn excerpts(text: &str) -> Vec<String> {
    let mut excerpts = Vec::new();
    let mut lines = text.lines();
    while let Some(fence) = lines.next() {
        if let Some(indent) = fence.strip_suffix("```rust") {
            let block = lines.by_ref().take_while(|line| line.trim() != "```");
            excerpts
                .push(block.map(|line| format!("{}\n", line.strip_prefix(indent).unwrap_or(line))).collect());
        }
    }
    excerpts
}

#[test]
fn the_guide_to_other_domains_shows_what_runs() {
    let wallet = fs::read_dir(source::root().join("tests/src/wallet")).expect("a directory");
    let sources = wallet.map(|file| fs::read_to_string(file.expect("a file").path()).expect("a source"));
    let sources: Vec<_> = sources.collect();
    let guide = fs::read_to_string(source::root().join("docs/domains.md")).expect("a document");
    let excerpts = excerpts(&guide);
    for excerpt in &excerpts {
        assert!(sources.iter().any(|source| source.contains(excerpt)), "not in the source:\n{excerpt}");
    }
    assert!(excerpts.len() >= 5, "{} excerpts", excerpts.len());
}
