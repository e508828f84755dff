//! Puts a picture on a screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{List, ListState, Paragraph};

use super::page::{Page, Part};
use super::picture::{Lately, Picture, SagaPicture, ServiceAnswer, ServicePicture};
use crate::cli::output::{bytes, printable};
use crate::view::{Counts, Tone, duration};

/// From this width on services stand in columns.
const WIDE: u16 = 90;

const KEYS: &str = "q quit  ↑↓ choose  Enter timeline  ? help";
const KEYS_BACK: &str = "q quit  ↑↓ scroll  Esc back  ? help";

const HELP: &str = "\
Keys
  ↑ ↓ j k    the saga above, below
  Tab        the next saga, round and round
  Enter      the chosen saga's timeline, and what may be done
  Esc        back to all sagas
  q Ctrl-C   quit

Services
  req/s      requests made durable a second
  group      how many of them one sync carried
  queue      how many wait, of how many that may
  unsettled  steps whose saga's end is not known there yet

Sagas
  Those that need an operator come first, then what is under
  way, then what has ended and is being told to the services.
  → is the command that helps. Rates are of the last ten
  seconds, latencies of what ended in the last minute, both
  by the saga log.";

/// How things are to look.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// Whether colours are wanted.
    pub colored: bool,
}

impl Theme {
    fn color(self, color: Color) -> Style {
        if self.colored { Style::new().fg(color) } else { Style::new() }
    }

    fn good(self) -> Style {
        self.color(Color::Green)
    }

    fn bad(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn warn(self) -> Style {
        self.color(Color::Yellow)
    }

    fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
}

/// Draws what the page shows of a picture. A text is never scrolled further than its end.
pub fn draw(frame: &mut Frame<'_>, picture: &Picture, page: &mut Page, theme: Theme) {
    let [body, footer] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    let keys = if page.part == Part::Sagas { KEYS } else { KEYS_BACK };
    frame.render_widget(Line::styled(keys, theme.dim()), footer);
    let lines = match page.part {
        Part::Sagas => return draw_sagas(frame, body, picture, page, theme),
        Part::Help => HELP.lines().map(Line::raw).collect(),
        Part::Timeline => match page.chosen(picture) {
            Some(saga) => timeline(saga, body.width, theme),
            None => {
                let id = page.chosen_id().unwrap_or_default();
                wrapped(
                    "",
                    &format!("This saga is no longer among the last ones: likectl saga show {id}"),
                    body.width,
                )
                .map(Line::raw)
                .collect()
            }
        },
    };
    let hidden = lines.len().saturating_sub(usize::from(body.height));
    page.scrolled = page.scrolled.min(u16::try_from(hidden).unwrap_or(u16::MAX));
    frame.render_widget(Paragraph::new(lines).scroll((page.scrolled, 0)), body);
}

fn draw_sagas(frame: &mut Frame<'_>, area: Rect, picture: &Picture, page: &Page, theme: Theme) {
    let mut head = vec![Line::from(vec![
        Span::styled("likectl top", theme.strong()),
        Span::styled(format!("  {}", seconds_of(&picture.at)), theme.dim()),
    ])];
    if picture.at.is_empty() {
        head.push(Line::raw("looking…"));
        return frame.render_widget(Paragraph::new(head), area);
    }
    let style = if picture.counts.needs_attention > 0 { theme.bad() } else { Style::new() };
    head.extend(wrapped("", &counted(&picture.counts), area.width).map(|line| Line::styled(line, style)));
    head.extend(wrapped("", &rates(&picture.lately), area.width).map(Line::raw));
    head.push(Line::raw(""));
    for problem in &picture.journal_problems {
        head.extend(wrapped("✗ ", problem, area.width).map(|line| Line::styled(line, theme.bad())));
    }
    head.extend(services(&picture.services, area.width, theme));
    head.push(Line::raw(""));
    // However much there is to say, sagas keep a third of the screen.
    let height = u16::try_from(head.len()).unwrap_or(u16::MAX).min(area.height - area.height / 3);
    let [above, below] = Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(head), above);
    let chosen = page.chosen_at(picture);
    let items = picture.sagas().enumerate().map(|(at, saga)| {
        let mut lines = Vec::new();
        let is_recent = at >= picture.open.len();
        if at == 0 && !is_recent {
            lines.push(Line::styled("OPEN", theme.strong()));
        }
        if at == picture.open.len() {
            lines.push(Line::styled("ENDED LAST", theme.strong()));
        }
        lines.extend(saga_lines(saga, chosen == Some(at), below.width, theme));
        Text::from(lines)
    });
    let mut state = ListState::default().with_selected(chosen);
    frame.render_stateful_widget(List::new(items), below, &mut state);
}

/// `2025-11-22T10:00:00.123Z` without what changes too fast to be read.
fn seconds_of(at: &str) -> String {
    at.split('.').next().unwrap_or_default().replace('T', " ")
}

fn services(services: &[ServicePicture], width: u16, theme: Theme) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if width >= WIDE {
        let names = ["SERVICE", "", "UP", "REQ/S", "GROUP", "QUEUE", "UNSETTLED", "STORE", "FREE"];
        lines.push(Line::styled(columns(&names.map(str::to_owned)), theme.strong()));
    }
    for service in services {
        let name = service.service;
        let Some(answer) = &service.answer else {
            let problem = service.problem.clone().unwrap_or_default();
            let down = wrapped(&format!("{name:<8} "), &format!("DOWN: {}", printable(&problem)), width);
            lines.extend(down.map(|line| Line::styled(line, theme.bad())));
            if let Some(hint) = &service.hint {
                lines.extend(wrapped("  → ", hint, width).map(Line::raw));
            }
            continue;
        };
        if width >= WIDE {
            lines.push(Line::raw(columns(&cells(name, answer))));
        } else {
            let [name, up, up_for, rate, group, queue, unsettled, store, free] = cells(name, answer);
            let told = format!(
                "{up} {up_for}, {rate} req/s, groups {group}, queue {queue}, unsettled {unsettled}, store {store}, free {free}"
            );
            lines.extend(wrapped(&format!("{name:<8} "), &told, width).map(Line::raw));
        }
        if answer.status.storage_low {
            let low =
                format!("the {name} service refuses new actions: its disk space is short, or can't be told");
            lines.extend(wrapped("! ", &low, width).map(|line| Line::styled(line, theme.warn())));
        }
        if answer.status.damaged > 0 {
            let damaged = format!(
                "the {name} service's store is damaged ({} rows): see likectl status",
                answer.status.damaged
            );
            lines.extend(wrapped("✗ ", &damaged, width).map(|line| Line::styled(line, theme.bad())));
        }
    }
    lines
}

fn cells(service: &str, answer: &ServiceAnswer) -> [String; 9] {
    let or_dash = |number: Option<f64>, digits| number.map_or("-".to_owned(), |n| format!("{n:.digits$}"));
    [
        service.to_owned(),
        "up".to_owned(),
        duration::show_ms(answer.status.up_ms / 1000 * 1000),
        or_dash(answer.requests_per_s, 0),
        or_dash(answer.group_size, 1),
        format!("{}/{}", answer.status.queued, answer.status.queue_limit),
        answer.status.unsettled.to_string(),
        bytes(answer.status.store_bytes),
        bytes(answer.status.free_bytes),
    ]
}

fn columns(cells: &[String; 9]) -> String {
    let [service, up, up_for, rate, group, queue, unsettled, store, free] = cells;
    format!(
        "{service:<8} {up:<3} {up_for:>11} {rate:>7} {group:>6} {queue:>10} {unsettled:>9} {store:>10} {free:>10}"
    )
}

fn rates(lately: &Lately) -> String {
    let mut text = format!("{:.1}/s completed", lately.completed_per_s);
    if lately.undone_per_s > 0.0 {
        text.push_str(&format!(", {:.1}/s undone", lately.undone_per_s));
    }
    if let (Some(p50), Some(p99), Some(max)) = (lately.p50_ms, lately.p99_ms, lately.max_ms) {
        let [p50, p99, max] = [p50, p99, max].map(duration::show_ms);
        text.push_str(&format!(
            "   p50 {p50}   p99 {p99}   max {max}   ({} ended in a minute)",
            lately.ended
        ));
    }
    text
}

fn counted(counts: &Counts) -> String {
    let all = [
        (counts.needs_attention, "NEED ATTENTION"),
        (counts.running, "running"),
        (counts.compensating, "compensating"),
        (counts.quarantined, "quarantined"),
        (counts.unsettled, "ended, not settled"),
        (counts.hanging, "open for over five minutes"),
    ];
    let some: Vec<_> =
        all.iter().filter(|(many, _)| *many > 0).map(|(many, what)| format!("{many} {what}")).collect();
    if some.is_empty() { "nothing unfinished".to_owned() } else { some.join(", ") }
}

fn saga_lines(saga: &SagaPicture, chosen: bool, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let mark = if chosen { "> " } else { "  " };
    let style = state_style(saga, theme);
    let style = if chosen { style.add_modifier(Modifier::REVERSED) } else { style };
    let title = format!("{}, {}, {}", saga.title, state(saga), duration::show_ms(saga.took_ms));
    let mut lines: Vec<_> = wrapped(mark, &title, width).map(|line| Line::styled(line, style)).collect();
    if let Some(trouble) = &saga.trouble {
        lines.extend(wrapped("    ✗ ", &printable(trouble), width).map(Line::raw));
    }
    if let Some(command) = &saga.command {
        lines.extend(wrapped("    → ", command, width).map(|line| Line::styled(line, theme.strong())));
    }
    lines
}

fn state(saga: &SagaPicture) -> String {
    let summary = &saga.summary;
    let mut state = summary.state.replace('_', " ");
    if summary.is_unsettled() {
        state.push_str(" (not settled)");
    }
    if summary.needs_attention {
        state.push_str(", NEEDS ATTENTION");
    } else if saga.hangs {
        state.push_str(", hangs");
    }
    state
}

fn state_style(saga: &SagaPicture, theme: Theme) -> Style {
    match saga.summary.state {
        _ if saga.summary.needs_attention => theme.bad(),
        "completed" => theme.good(),
        _ => theme.warn(),
    }
}

fn timeline(saga: &SagaPicture, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let mut lines = vec![
        Line::styled(saga.title.clone(), theme.strong()),
        Line::raw(format!("  saga     {}", saga.summary.saga_id)),
        Line::styled(format!("  state    {}", state(saga)), state_style(saga, theme)),
        Line::raw(format!("  started  {}", saga.summary.started_at)),
        Line::raw(match &saga.summary.ended_at {
            Some(at) => format!("  ended    {at}, after {}", duration::show_ms(saga.took_ms)),
            None => format!("  ended    not yet, open for {}", duration::show_ms(saga.took_ms)),
        }),
        Line::raw(""),
    ];
    for happened in &saga.history {
        let after = duration::show_ms(happened.after_ms);
        let mark = match happened.tone {
            Tone::Good => '✓',
            Tone::Bad => '✗',
            Tone::Turn => '●',
            Tone::Plain => ' ',
        };
        let style = match happened.tone {
            Tone::Good => theme.good(),
            Tone::Bad => theme.bad(),
            Tone::Turn => theme.strong(),
            Tone::Plain => theme.dim(),
        };
        let at_step = happened.step.as_ref().map(|step| format!("{step}: ")).unwrap_or_default();
        let told = printable(&format!("{at_step}{}", happened.what));
        let told = wrapped(&format!("{after:>12} {mark} "), &told, width);
        lines.extend(told.map(|line| Line::styled(line, style)));
    }
    lines.extend([Line::raw(""), Line::styled("What may be done next", theme.strong())]);
    for advice in &saga.advice {
        lines.extend(wrapped("  ", &printable(advice), width).map(Line::raw));
    }
    lines
}

/// A text broken between words into lines of this width. The first begins with `lead`, the others are indented as far.
fn wrapped(lead: &str, text: &str, width: u16) -> impl Iterator<Item = String> + use<> {
    let indent = lead.chars().count();
    let room = usize::from(width).saturating_sub(indent).max(8);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        let mut rest: Vec<_> = word.chars().collect();
        if line > 0 && line + 1 + rest.len() > room {
            lines.push(String::new());
        } else if line > 0
            && let Some(line) = lines.last_mut()
        {
            line.push(' ');
        }
        // A word longer than a line is broken where it must be.
        while rest.len() > room {
            let next = rest.split_off(room);
            lines.last_mut().into_iter().for_each(|line| line.extend(&rest));
            lines.push(String::new());
            rest = next;
        }
        lines.last_mut().into_iter().for_each(|line| line.extend(&rest));
    }
    let lead = lead.to_owned();
    lines.into_iter().enumerate().map(move |(at, line)| {
        if at == 0 { format!("{lead}{line}") } else { format!("{:indent$}{line}", "") }
    })
}
