//! Kills and stops at random.

use std::time::Duration;

use rustix::process::Signal;

use super::Round;
use super::meter::Meter;
use crate::house::{House, Service};
use crate::process::Running;
use crate::random::Random;

/// Longer than the deadline of any saga of a user.
const PAST_ANY_DEADLINE: Duration = Duration::from_millis(3500);

/// Strikes until the round is over. Both daemons run afterwards.
pub fn strike_on(round: &Round<'_>, house: &mut House, meter: &Meter, random: &mut Random) {
    let mut watcher = None;
    meter.look_at(house);
    while round.goes_on() {
        std::thread::sleep(Duration::from_millis(random.below(60)));
        let service = Service::BOTH[random.below(2) as usize];
        match random.below(100) {
            0..45 => strike_process(round, random),
            45..60 => pause_process(round, random),
            // Dropping the one there was kills it.
            60..66 => {
                let log = house.path().join("watch.log");
                let mut watch = house.command(&["--json", "recover", "--watch"]);
                watcher = Some(Running::start_logged(&mut watch, &log));
                round.tally.count("killed a watcher", 1);
            }
            _ if round.calm => {}
            66..81 => {
                house.kill(service);
                std::thread::sleep(Duration::from_millis(random.below(50)));
                house.start(service);
                round.tally.count(
                    if service == Service::User {
                        "killed the user daemon"
                    } else {
                        "killed the article daemon"
                    },
                    1,
                );
            }
            81..86 => {
                house.stop(service).expect_code(0);
                std::thread::sleep(Duration::from_millis(random.below(50)));
                house.start(service);
                round.tally.count("restarted a daemon by SIGTERM", 1);
            }
            _ => {
                house.freeze(service);
                // Now and then past the deadline of everything that is under way.
                let long = random.percent(5);
                let pause = if long { PAST_ANY_DEADLINE } else { Duration::from_millis(random.below(300)) };
                std::thread::sleep(
                    pause.min(round.until.saturating_duration_since(std::time::Instant::now())),
                );
                house.thaw(service);
                round
                    .tally
                    .count(if long { "stopped a daemon past deadlines" } else { "stopped a daemon" }, 1);
            }
        }
        meter.look_at(house);
    }
    drop(watcher);
}

fn strike_process(round: &Round<'_>, random: &mut Random) {
    let stage = &round.stages[random.below(round.stages.len() as u64) as usize];
    let killed = stage.signal(Signal::KILL);
    round.tally.count("killed a likectl", u32::from(killed));
}

fn pause_process(round: &Round<'_>, random: &mut Random) {
    let stage = &round.stages[random.below(round.stages.len() as u64) as usize];
    let stopped = stage.signal(Signal::STOP);
    let long = stopped && random.percent(4);
    let pause = if long { PAST_ANY_DEADLINE } else { Duration::from_millis(random.below(150)) };
    std::thread::sleep(pause);
    stage.signal(Signal::CONT);
    let what = if long { "stopped a likectl past its deadline" } else { "stopped a likectl" };
    round.tally.count(what, u32::from(stopped));
}
