//! One saga, drawn for a person: what it is, how its steps stand, what happened when, and what may be done next.

use super::output::{BAD, Column, DIM, GOOD, STRONG, WARN, paint, printable, table};
use crate::log::Owner;
use crate::view::advice::advice;
use crate::view::{HistoryLine, SagaView, StepView, Tone, duration, moment};

/// Draws a saga. `owner` is the live process that holds its slot, if one does.
pub fn draw(saga: &SagaView, slot: u32, owner: Option<&Owner>) -> String {
    let mut text = paint(STRONG, saga.title());
    let owned = match owner {
        Some(owner) if saga.is_open() => format!("slot {slot}, owned by {owner}"),
        _ => format!("slot {slot}"),
    };
    text.push_str(&format!(
        "\n  saga     {}\n  state    {}\n  started  {}\n  ended    {}\n  log      {owned}\n",
        saga.saga_id,
        state(saga),
        saga.started_at,
        ended(saga),
    ));
    if !saga.steps.is_empty() {
        text.push('\n');
        text.push_str(&indent(&steps(&saga.steps)));
    }
    text.push_str("\n\n");
    text.push_str(&indent(&timeline(saga)));
    text.push_str(&format!("\n\n{}\n", paint(STRONG, "What may be done next")));
    let advice = advice(saga, owner).into_iter().map(|line| format!("  {}", printable(&line)));
    text.push_str(&advice.collect::<Vec<_>>().join("\n"));
    text
}

/// A saga's state with all that is to be said about it.
pub fn state(saga: &SagaView) -> String {
    let style = match saga.state {
        "completed" => GOOD,
        "compensated" | "forced_completed" | "forced_compensated" => WARN,
        "quarantined" => BAD,
        _ if saga.needs_attention => BAD,
        _ => WARN,
    };
    let mut text = paint(style, saga.state);
    if saga.needs_attention {
        text.push_str(&paint(BAD, ", needs attention"));
    }
    if saga.is_unsettled() {
        text.push_str(", unsettled (not every service has been told yet)");
    }
    text
}

fn ended(saga: &SagaView) -> String {
    match (saga.ended_ms, &saga.ended_at) {
        (Some(ended_ms), Some(at)) => {
            format!("{at}, after {}", duration::show_ms(ended_ms.saturating_sub(saga.started_ms)))
        }
        _ => {
            let open_ms = moment::now_ms().saturating_sub(saga.started_ms);
            format!("not yet, open for {}", duration::show_ms(open_ms))
        }
    }
}

fn steps(steps: &[StepView]) -> String {
    let columns =
        [Column::Left("STEP"), Column::Left("SERVICE"), Column::Left("ACTION"), Column::Left("COMPENSATION")];
    let attempts = |count: u32| if count > 1 { format!(" ({count} attempts)") } else { String::new() };
    let rows = steps.iter().map(|step| {
        let compensation = match (step.compensation, step.compensation_failures) {
            (Some("failed"), many @ 2..) => format!("failed ({many} in a row)"),
            (compensation, _) => {
                format!("{}{}", compensation.unwrap_or("-"), attempts(step.compensation_attempts))
            }
        };
        vec![
            step.name.clone(),
            step.service.clone(),
            format!("{}{}", step.action.replace('_', " "), attempts(step.attempts)),
            compensation,
        ]
    });
    table(&columns, rows)
}

fn timeline(saga: &SagaView) -> String {
    let columns = [
        Column::Right("AFTER"),
        Column::Left("SERVICE"),
        Column::Left("STEP"),
        Column::Left("WHAT HAPPENED"),
    ];
    let lines = without_repeats(&saga.history);
    // To the millisecond while these matter; who has waited for longer would have to count digits.
    let after = |line: &HistoryLine| match line.after_ms {
        ms @ 0..60_000 => format!("{ms} ms"),
        ms => duration::show_ms(ms),
    };
    let rows = lines.iter().map(|Repeated { first, last, times }| {
        let mark = match first.tone {
            Tone::Good => "✓ ",
            Tone::Bad => "✗ ",
            Tone::Turn => "● ",
            Tone::Plain => "  ",
        };
        let again = match times {
            1 => String::new(),
            _ if first.what == last.what => format!(" ({times} times, last after {})", after(last)),
            _ => format!(" (last after {})", after(last)),
        };
        vec![
            after(first),
            first.service.clone().unwrap_or_default(),
            first.step.clone().unwrap_or_default(),
            format!("{mark}{}{again}", last.what),
        ]
    });
    let drawn = table(&columns, rows);
    // Styled line by line: a table can't measure styled cells.
    let styled = drawn.lines().enumerate().map(|(at, line)| match lines.get(at.wrapping_sub(1)) {
        Some(Repeated { first, .. }) => match first.tone {
            Tone::Bad => paint(BAD, line),
            Tone::Turn => paint(STRONG, line),
            Tone::Plain => paint(DIM, line),
            Tone::Good => line.to_owned(),
        },
        None => line.to_owned(),
    });
    styled.collect::<Vec<_>>().join("\n")
}

/// A line of a saga's history that came several times in a row.
struct Repeated<'a> {
    first: &'a HistoryLine,
    last: &'a HistoryLine,
    times: usize,
}

/// Failures that only repeat the one before are told once, those that are counted with their last count.
fn without_repeats(history: &[HistoryLine]) -> Vec<Repeated<'_>> {
    fn why(line: &HistoryLine) -> Option<&str> {
        line.what.split_once(": ").map(|(_, why)| why)
    }
    let mut lines: Vec<Repeated<'_>> = Vec::new();
    for line in history {
        match lines.last_mut() {
            Some(Repeated { first, last, times })
                if line.tone == Tone::Bad && why(line) == why(first) && line.step == first.step =>
            {
                *last = line;
                *times += 1;
            }
            _ => lines.push(Repeated { first: line, last: line, times: 1 }),
        }
    }
    lines
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
