//! A short soak: runners, gateways and both daemons are killed and stopped at random while users like, unlike and read, by
//! command and by HTTP, and an operator recovers, acts and audits; then it is recovered, and everything that anybody was
//! told must be so.
//!
//! ```text
//! cargo soak --minutes 30 --seed 42
//! ```

use std::io::Write;
use std::time::Duration;

use like_tests::soak::{Settings, soak};

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");

/// On a slow machine it takes more rounds until everything has happened that is to happen.
const ROUNDS: u64 = 5;

#[test]
fn no_kill_at_any_moment_breaks_a_promise() {
    let seed = u64::from(std::process::id());
    for round in 0..ROUNDS {
        let settings = Settings {
            program: PROGRAM.into(),
            time: Duration::from_secs(8),
            round: Duration::from_secs(4),
            seed: seed + round,
            clients: 3,
            web_clients: 6,
        };
        let report = soak(&settings, &|_| {});
        // Past the harness's capture: what was tried is part of the result.
        let _ = writeln!(std::io::stderr(), "{report}");
        assert_eq!(report.verdict, Ok(()), "seed {}", settings.seed);
        if report.everything_happened() {
            return;
        }
    }
    panic!("a run in which nothing fails proves nothing");
}
