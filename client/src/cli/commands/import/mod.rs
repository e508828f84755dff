//! `likectl import`: likes in bulk, from a file.
//!
//! Each line is an ordinary like with its saga, many at a time. What was read is known again by its digest (`input`),
//! so that an import that was cut short goes on where it stopped (`note`); wherever it was cut, a like that is asked for
//! again is found to be there. Nothing is held but what is under way (`window`).

mod act;
mod counts;
mod csv;
mod input;
mod note;
mod records;
mod rejects;
mod window;
mod work;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::error::CliError;
use crate::cli::output::{DIM, GOOD, STRONG, WARN, count, paint, printable};
use crate::cli::signals::StopSignals;
use crate::cli::tools::Tools;
use crate::likes::Likes;
use crate::log::Keeping;
use crate::runner::{Options, Runner};
use act::Maker;
use input::Mark;
use note::{Note, Place};
use records::{AnyReader, Format, Reader};
use rejects::{FileId, Reject, RejectsFile};
use window::Window;
use work::Work;

/// How many full segments of its log an import leaves behind it: 64 MiB tell of the last 150,000 likes or so.
/// The whole history of ten million would be gigabytes.
const LOG_SEGMENTS_KEPT: usize = 4;

/// What to import.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// The file; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How it is written, if neither its name nor its first byte tells
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// How many likes at the same time
    #[arg(long, value_name = "C", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    concurrency: u32,
    /// Write the lines that are not imported into this file, and why: one JSON object a line, which can be mended and
    /// imported itself. What is in it before is overwritten
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Create articles that are not there, under the ids that the file gives them
    #[arg(long)]
    create_articles: bool,
}

/// What came of it.
#[derive(Serialize, Debug)]
struct ImportDocument<'a> {
    file: &'a str,
    /// Whether the whole file was read.
    complete: bool,
    lines: u64,
    imported: u64,
    already_liked: u64,
    rejected: u64,
    rejected_by_kind: &'a std::collections::BTreeMap<String, u64>,
    first_rejects: &'a [Reject],
    /// How many lines an earlier import had dealt with; the counts include them.
    resumed_after_line: u64,
    seconds: f64,
    /// Lines of this run.
    lines_per_s: f64,
}

/// Runs `likectl import`.
///
/// # Errors
/// It stopped before the end of the file, or lines of it were not imported.
pub async fn run(tools: &Tools, args: &ImportArgs) -> Result<(), CliError> {
    let input = Input::open(&args.file)?;
    let mut signals = StopSignals::new();
    let stores = tokio::select! {
        stores = tools.stores() => stores?,
        () = signals.next() => return Err(CliError::Interrupted(None)),
    };
    let mut context = tools.context()?;
    let place = Place::of(&tools.config.journal, &args.file);
    let (reader, before) = input.reader(args, place.read(stores), |note| can_go_on(tools, args, note))?;
    let keeping = Keeping { own_segments_max: LOG_SEGMENTS_KEPT, ..Keeping::default() };
    context.options = Options { keeping, ..context.options };
    let runner = Runner::start(context).map_err(CliError::of_start)?;
    let mut work = work(tools, args, &runner, &input, before.as_ref())?;
    work.note = input.bytes.map(|_| (place, stores));

    let resumed_after = work.window.done_to();
    if resumed_after.lines > 0 {
        tools.output.note(format!("goes on behind line {}, where an import stopped", resumed_after.lines));
    }
    let (began, lines_before) = (Instant::now(), work.counts.lines());
    let ended = work.run(records::read(reader), &mut signals).await;
    work.progress.finish_and_clear();
    let grace = if ended.is_ok() { tools.config.timeout } else { Duration::ZERO };
    let unfinished = runner.active().len();
    runner.close(grace).await;

    let seconds = began.elapsed().as_secs_f64();
    let (name, lines) = (args.file.display().to_string(), work.counts.lines());
    tell(
        tools,
        &ImportDocument {
            file: &name,
            complete: ended.is_ok(),
            lines,
            imported: work.counts.imported,
            already_liked: work.counts.already_liked,
            rejected: work.counts.rejected(),
            rejected_by_kind: &work.counts.rejects,
            first_rejects: &work.shown,
            resumed_after_line: resumed_after.lines,
            seconds,
            lines_per_s: (lines - lines_before) as f64 / seconds,
        },
    )?;
    if let Err(why) = ended {
        let how_to_go_on = input.how_to_go_on();
        return Err(CliError::Stopped { what: "the import", how_to_go_on, unfinished, why: Box::new(why) });
    }
    match work.counts.rejected() {
        0 => Ok(()),
        rejected => Err(CliError::NotAllImported(rejected, lines, work.rejects.map(|(path, _)| path))),
    }
}

/// Whether an import can begin behind what was noted. Not if lines that were rejected before are wanted in a file that does
/// not have them: they are found again only where they stand.
fn can_go_on(tools: &Tools, args: &ImportArgs, note: &Note) -> bool {
    let Some(path) = args.rejects.as_ref().filter(|_| note.counts.rejected() > 0) else { return true };
    let has_them = note.rejects.as_ref().is_some_and(|before| rejects::stands_in(path, before));
    if !has_them {
        let path = path.display();
        tools.output.note(format!("begins anew: lines that were rejected before are to stand in {path}"));
    }
    has_them
}

/// An import that begins behind what was noted.
fn work(
    tools: &Tools,
    args: &ImportArgs,
    runner: &Runner,
    input: &Input,
    before: Option<&Note>,
) -> Result<Work, CliError> {
    let rejects = args.rejects.as_ref().map(|path| {
        let name = path.display().to_string();
        let noted = before.and_then(|note| note.rejects.as_ref());
        let file = input.identity().and_then(|input| RejectsFile::open(path, noted, input));
        file.map_err(|e| CliError::File(name.clone(), e)).map(|file| (name, file))
    });
    let maker = Maker {
        likes: Likes::new(runner.clone(), tools.articles(), tools.users()),
        creates: args.create_articles.then(|| tools.articles()),
        timeout: tools.config.timeout,
    };
    Ok(Work {
        maker,
        concurrency: args.concurrency as usize,
        note: None,
        rejects: rejects.transpose()?,
        progress: progress_bar(tools, input),
        counts: before.map(|note| note.counts.clone()).unwrap_or_default(),
        shown: Vec::new(),
        window: Window::behind(before.map_or_else(Mark::default, |note| note.done_to)),
    })
}

/// What is imported.
struct Input {
    /// Its name, and the file; standard input has none.
    file: Option<(String, File)>,
    /// How many bytes it has, if it can be read again from its beginning: a pipe can't.
    bytes: Option<u64>,
}

impl Input {
    fn open(path: &Path) -> Result<Self, CliError> {
        if path == Path::new("-") {
            return Ok(Self { file: None, bytes: None });
        }
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| {
            let what = file.metadata()?;
            match what.is_dir() {
                true => Err(io::ErrorKind::IsADirectory.into()),
                false => Ok((what.is_file().then_some(what.len()), file)),
            }
        });
        let (bytes, file) = opened.map_err(|e| CliError::Input(name.clone(), e))?;
        Ok(Self { file: Some((name, file)), bytes })
    }

    /// Reads it: behind what was noted, if it begins as it did then and the import can go on from there; else from its
    /// beginning.
    fn reader(
        &self,
        args: &ImportArgs,
        noted: Option<Note>,
        can_go_on: impl FnOnce(&Note) -> bool,
    ) -> Result<(AnyReader, Option<Note>), CliError> {
        let (Some((name, file)), Some(_), Some(note)) = (&self.file, self.bytes, noted) else {
            return Ok((self.fresh_reader(args)?, None));
        };
        let mut reader = self.fresh_reader(args)?;
        let unread = |e| CliError::Input(name.clone(), e);
        if reader.skip_to(&note.done_to).map_err(unread)? && can_go_on(&note) {
            return Ok((reader, Some(note)));
        }
        (&*file).rewind().map_err(unread)?;
        Ok((self.fresh_reader(args)?, None))
    }

    /// Which file it is, whatever it is called.
    fn identity(&self) -> io::Result<FileId> {
        match &self.file {
            Some((_, file)) => FileId::of(file),
            None => FileId::of(io::stdin()),
        }
    }

    /// Reads it as it goes on from where its file stands.
    fn fresh_reader(&self, args: &ImportArgs) -> Result<AnyReader, CliError> {
        let by_name = match args.file.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Some(Format::Csv),
            Some("ndjson" | "jsonl" | "json") => Some(Format::Ndjson),
            _ => None,
        };
        let input: Box<dyn BufRead + Send> = match &self.file {
            None => Box::new(BufReader::new(io::stdin())),
            Some((name, file)) => {
                let again = file.try_clone().map_err(|e| CliError::Input(name.clone(), e))?;
                Box::new(BufReader::with_capacity(256 * 1024, again))
            }
        };
        Ok(Reader::new(input, args.format.or(by_name)))
    }

    fn how_to_go_on(&self) -> &'static str {
        match self.bytes {
            Some(_) => "run the same command again: it goes on where it stopped",
            None => "give it the same input again: what is imported counts as already liked",
        }
    }
}

fn progress_bar(tools: &Tools, input: &Input) -> ProgressBar {
    if !tools.output.shows_progress() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match input.bytes {
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {bytes}, {bytes_per_sec}"),
        Some(bytes) => (ProgressBar::new(bytes), "{msg} {bar:40} {percent}% of {total_bytes}, {eta} left"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message("likes")
}

fn tell(tools: &Tools, document: &ImportDocument<'_>) -> Result<(), CliError> {
    if tools.output.json {
        return tools.output.document(document);
    }
    let ImportDocument { imported, already_liked, rejected, lines, lines_per_s, seconds, .. } = document;
    let verdict = paint(if document.complete { GOOD } else { WARN }, "imported:");
    tools.output.text(format!(
        "{verdict} {} of {}; {already_liked} already liked, {rejected} rejected",
        paint(STRONG, count(*imported, "like", "likes")),
        count(*lines, "line", "lines"),
    ))?;
    let this_run = match document.resumed_after_line {
        0 => String::new(),
        line => format!(" since line {line}"),
    };
    tools.output.text(paint(DIM, format!("{lines_per_s:.0} lines per second, {seconds:.1} s{this_run}")))?;
    for Reject { line, reason, .. } in document.first_rejects {
        tools.output.note(format!("{} line {line}: {}", paint(WARN, "not imported:"), printable(reason)));
    }
    Ok(())
}
