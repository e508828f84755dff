//! The project's own source as architecture rules look at it: code alone, without comments, strings and tests.

use std::fs;
use std::path::{Path, PathBuf};

/// One source file.
#[derive(Debug)]
pub struct Source {
    /// Its path in the workspace, with slashes.
    pub path: String,
    /// How many lines it has, all included.
    pub lines: usize,
    /// Its code: no comments, no text of strings, nothing that only tests are built with.
    pub code: String,
}

impl Source {
    /// The identifiers in its code, keywords included.
    pub fn identifiers(&self) -> impl Iterator<Item = &str> {
        let words = self.code.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
    }

    /// Whether its code contains `pattern`, whatever white space stands in it. A pattern of one word is an identifier.
    pub fn has(&self, pattern: &str) -> bool {
        if pattern.chars().all(|c| c.is_alphanumeric() || c == '_') {
            return self.identifiers().any(|word| word == pattern);
        }
        let dense: String = self.code.split_whitespace().collect();
        dense.contains(pattern)
    }

    /// Whether only tests are built with it.
    fn is_test(path: &Path) -> bool {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        // The first part is the package.
        let in_tests = path.components().skip(1).any(|part| part.as_os_str() == "tests");
        in_tests || stem == "tests" || stem == "harness" || stem.ends_with("_tests")
    }
}

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All source files below a directory of the workspace, those of tests left out unless wanted.
///
/// # Panics
/// They can't be read.
pub fn below(directory: &str, with_tests: bool) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root(), Path::new(directory), &mut found);
    found.retain(|path| with_tests || !Source::is_test(path));
    found.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(root().join(path)).expect("a source file");
        let path = path.to_str().expect("plain names").to_owned();
        Source { path, lines: text.lines().count(), code: without_tests(&code_of(&text)) }
    };
    found.iter().map(read).collect()
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(root.join(directory)) else { return };
    for entry in entries {
        let entry = entry.expect("a directory entry");
        let path = directory.join(entry.file_name());
        if entry.path().is_dir() {
            walk(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Code without comments and without the text of strings and characters.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            'r' if raw_string(rest).is_some() && !ends_in_word(&code) => raw_string(rest).unwrap_or_default(),
            '"' => quoted(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

fn ends_in_word(code: &str) -> bool {
    code.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The length of a raw string at the front.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    text[1 + hashes..].strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(hashes));
    let start = 2 + hashes;
    text[start..].find(&closing).map(|end| start + end + closing.len())
}

/// The length of a string at the front, quotes included.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character at the front; 0 if it is a lifetime.
fn character(text: &str) -> usize {
    let mut inside = text[1..].chars();
    let length = match inside.next() {
        Some('\\') => text[3..].find('\'').map(|end| 3 + end + 1),
        Some(c) if inside.next() == Some('\'') => Some(1 + c.len_utf8() + 1),
        _ => None,
    };
    length.unwrap_or(0)
}

/// Code without the items that only tests are built with.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        kept.push_str(&rest[..at]);
        rest = &rest[at + MARK.len()..];
        rest = &rest[item(rest)..];
    }
    kept.push_str(rest);
    kept
}

/// The length of the item at the front: to its semicolon, or to the end of its braces.
fn item(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: String::new(), lines: 0, code: without_tests(&code_of(text)) }
    }

    #[test]
    fn comments_strings_and_tests_are_no_code() {
        let text = r##"
            // unsafe
            fn one<'a>(c: &'a str) { say("unsafe \" unsafe", r#"unsafe " "#, '\'', '"'); /* unsafe */ }
            #[cfg(test)]
            #[path = "tests.rs"]
            mod tests;
            #[cfg(test)]
            mod more { fn two() { unsafe {} } }
            fn three() {}
        "##;
        let source = source(text);
        assert!(!source.has("unsafe"), "{}", source.code);
        assert!(source.has("one") && source.has("three") && !source.has("more") && !source.has("tests"));
    }

    #[test]
    fn what_is_code_is_found() {
        let source =
            source("fn f() { connection\n    .call(body); let x = File::create(p); unsafe { g() } }");
        assert!(source.has(".call(") && source.has("File::create") && source.has("unsafe"));
        assert!(!source.has("cal") && !source.has("create_new"));
    }
}
