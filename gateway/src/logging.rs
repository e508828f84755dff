//! Where log lines go. Saga ids are fields of their own (`saga_id`; `F_SAGA_ID` in the journal).

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::flags::LogFormat;

/// Sends log lines where `format` says, from level `info` on unless `RUST_LOG` says otherwise. To be called once.
///
/// # Errors
/// The journal does not listen.
pub fn start(format: LogFormat) -> io::Result<()> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let registry = tracing_subscriber::registry().with(filter);
    let text = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    // Only a second subscriber in one process is refused, and then the first one serves.
    let _first_one_serves = match format {
        LogFormat::Text => registry.with(text.with_ansi(io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(text.json()).try_init(),
        LogFormat::Journald => registry.with(tracing_journald::layer()?).try_init(),
    };
    Ok(())
}
