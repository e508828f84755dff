//! `likectl top`: what is going on, looked at again and again.
//!
//! `look` asks the daemons and follows the journal. `picture` makes of two looks what is shown. `page` is what an
//! operator's keys choose of it, `draw` puts it on a screen, and `screen` is the terminal. Where there is none, or with
//! `--json`, the picture itself is printed.

mod draw;
mod follow;
mod look;
mod page;
mod picture;
mod screen;

#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep_until};

use crate::cli::error::CliError;
use crate::cli::signals;
use crate::cli::tools::Tools;
use crate::view::duration;
use look::{Look, Looker};
use page::Page;
use picture::Picture;
use screen::Screen;

/// Looks that follow each other faster tell nobody more.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Looking costs at most one part in so many of the time, however large the journal and however short the interval.
const SHARE: u32 = 10;

/// How to look.
#[derive(Args, Debug)]
pub struct TopArgs {
    /// How long between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// Print one JSON document and end
    #[arg(long)]
    once: bool,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text)?;
    if interval < INTERVAL_MIN {
        return Err(format!("it must be at least {} ms", INTERVAL_MIN.as_millis()));
    }
    Ok(interval)
}

/// Runs `likectl top`. Nothing that it finds is an error: that a daemon is down or the journal can't be read is shown.
///
/// # Errors
/// The terminal can't be used, or stdout is gone.
pub async fn run(tools: &Tools, args: &TopArgs) -> Result<(), CliError> {
    let watch = Watch::new(tools, args.interval);
    if args.once || tools.output.json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        tokio::select! {
            printed = print(tools, watch, args.once) => printed,
            () = signals::asked_to_end() => Ok(()),
            () = signals::interrupted() => Err(CliError::Interrupted(None)),
        }
    } else {
        let mut screen = Screen::open()?;
        tokio::select! {
            shown = show(&mut screen, watch) => shown,
            () = signals::asked_to_end() => Ok(()),
            () = signals::interrupted() => Ok(()),
        }
    }
}

async fn print(tools: &Tools, mut watch: Watch<'_>, once: bool) -> Result<(), CliError> {
    loop {
        let picture;
        (watch, picture) = watch.next().await?;
        tools.output.document(&picture)?;
        if once {
            return Ok(());
        }
    }
}

async fn show(screen: &mut Screen, mut watch: Watch<'_>) -> Result<(), CliError> {
    let mut picture = Picture::default();
    let mut page = Page::default();
    loop {
        let mut next = pin!(watch.next());
        (watch, picture) = loop {
            screen.draw(&picture, &mut page)?;
            tokio::select! {
                seen = &mut next => break seen?,
                key = screen.key() => match key {
                    Some(key) if !page.press(key, &picture) => {}
                    _ => return Ok(()),
                },
            }
        };
    }
}

/// Looks again and again.
struct Watch<'a> {
    looker: Looker<'a>,
    interval: Duration,
    next_at: Instant,
    before: Option<Look>,
}

impl<'a> Watch<'a> {
    fn new(tools: &'a Tools, interval: Duration) -> Self {
        Self { looker: Looker::new(tools), interval, next_at: Instant::now(), before: None }
    }

    /// The next picture, when it is time for it.
    async fn next(self) -> Result<(Self, Picture), CliError> {
        sleep_until(self.next_at).await;
        let began = Instant::now();
        let (looker, look) = self.looker.look().await?;
        let picture = Picture::of(&look, self.before.as_ref());
        let next_at = began + self.interval.max(began.elapsed() * SHARE);
        Ok((Self { looker, next_at, before: Some(look), ..self }, picture))
    }
}
