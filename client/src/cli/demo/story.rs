//! How the demo is told: in words while it happens, or as one document at its end.

use std::process::Output;

use serde::Serialize;
use serde_json::Value;

use super::DemoError;
use crate::cli::error::CliError;
use crate::cli::output::{self, DIM, GOOD, STRONG, paint};

/// What has happened so far. The JSON form is public.
#[derive(Serialize)]
pub struct Story {
    #[serde(skip)]
    is_document: bool,
    chapters: Vec<Chapter>,
}

#[derive(Serialize)]
struct Chapter {
    title: &'static str,
    text: String,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    /// A command, or what went on between two commands.
    what: String,
    /// What `likectl --json` said, if it was one of its commands.
    result: Option<Value>,
}

impl Story {
    /// Nothing has happened yet.
    pub fn new(is_document: bool) -> Self {
        Self { is_document, chapters: Vec::new() }
    }

    /// Whether it is told as one document.
    pub fn is_document(&self) -> bool {
        self.is_document
    }

    /// Says a line.
    pub fn say(&self, line: &str) {
        if !self.is_document {
            // A closed stdout ends the demo at its next likectl; nothing is lost by going on until then.
            let _ = output::raw(format!("{line}\n").as_bytes());
        }
    }

    /// Begins a chapter, and says what it is about.
    pub fn chapter(&mut self, title: &'static str, text: &str) {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        self.chapters.push(Chapter { title, text: lines.join(" "), steps: Vec::new() });
        self.say(&format!("\n{}", paint(STRONG, format!("{}. {title}", self.chapters.len()))));
        lines.iter().for_each(|line| self.say(&format!("   {line}")));
        self.say("");
    }

    /// Tells what goes on between two commands.
    pub fn aside(&mut self, text: &str) {
        self.say(&format!("    {}", paint(DIM, format!("# {text}"))));
        self.step(text);
    }

    /// Tells of a command.
    pub fn happened(&mut self, command: &str) {
        self.say(&format!("    {} {command}", paint(GOOD, "$")));
        self.step(command);
    }

    fn step(&mut self, what: &str) {
        if let Some(chapter) = self.chapters.last_mut() {
            chapter.steps.push(Step { what: what.to_owned(), result: None });
        }
    }

    /// Tells what came of the last command, a `likectl`.
    ///
    /// # Errors
    /// It was to say a document, and did not.
    pub fn came_of_it(&mut self, said: &Output) -> Result<(), DemoError> {
        for said in [&said.stdout, &said.stderr] {
            for line in String::from_utf8_lossy(said).lines() {
                self.say(&format!("      {line}"));
            }
        }
        let last = self.chapters.last_mut().and_then(|chapter| chapter.steps.last_mut());
        if let (true, Some(step)) = (self.is_document, last) {
            let result = serde_json::from_slice(&said.stdout);
            step.result = result.map_err(|e| DemoError::Unexpected(format!("{}: {e}", step.what)))?;
        }
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// stdout is gone.
    pub fn end(&self, output: output::Output) -> Result<(), CliError> {
        if self.is_document { output.document(self) } else { Ok(()) }
    }
}
