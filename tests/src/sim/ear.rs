//! Hears what the product says of itself: some of it must never be said.

use std::cell::RefCell;
use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// What a service says when it finds its rows other than its own rules could have left them.
const NEVER: &str = "audit the article";

thread_local! {
    static HEARD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What should never have been said, if it was since the last look.
pub(super) fn heard() -> Option<String> {
    HEARD.take()
}

/// Listens in one thread.
pub(super) struct Ear {
    /// Whether everything is repeated for a reader.
    pub aloud: bool,
}

#[derive(Default)]
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
        // Text in memory takes whatever is written.
        debug_assert!(written.is_ok());
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR || (self.aloud && metadata.target().starts_with("like"))
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        if self.aloud {
            println!(
                "                   {} {}: {}",
                event.metadata().level(),
                event.metadata().target(),
                words.0
            );
        }
        if words.0.contains(NEVER) {
            HEARD.set(Some(words.0));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
