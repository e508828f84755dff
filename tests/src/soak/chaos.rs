//! Kills and stops at random.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Round;
use super::front::{FRONTS, Fronts};
use super::meter::Meter;
use crate::house::{House, Service};
use crate::process::Running;
use crate::random::Random;

/// Longer than the deadline of any saga of a user.
const PAST_ANY_DEADLINE: Duration = Duration::from_millis(3500);

/// Strikes until the round is over. Daemons and gateways run afterwards.
///
/// # Panics
/// One of them had ended by itself, or does not come up.
pub fn strike_on(
    round: &Round<'_>,
    house: &mut House,
    fronts: &mut Fronts,
    meter: &Meter,
    random: &mut Random,
) {
    let mut watcher = None;
    meter.look_at(house, fronts);
    // However slow the machine is, what must happen in every round happens first.
    let mut first = vec![0, 1];
    while round.goes_on() {
        std::thread::sleep(Duration::from_millis(random.below(60)));
        if !round.calm
            && let Some(number) = first.pop()
        {
            kill_daemon(round, house, Service::BOTH[number as usize], random);
            strike_gateway(round, house, fronts, random);
        }
        match random.below(100) {
            0..36 => strike_process(round, random),
            36..48 => pause_process(round, random),
            // Dropping the one there was kills it.
            48..53 => {
                let log = house.path().join("watch.log");
                let mut watch = house.command(&["--json", "recover", "--watch"]);
                watcher = Some(Running::start_logged(&mut watch, &log));
                round.tally.count("killed a watcher", 1);
            }
            _ if round.calm => {}
            53..78 => strike_daemon(round, house, random),
            _ => strike_gateway(round, house, fronts, random),
        }
        meter.look_at(house, fronts);
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

fn strike_daemon(round: &Round<'_>, house: &mut House, random: &mut Random) {
    let service = Service::BOTH[random.below(2) as usize];
    match random.below(100) {
        0..45 => kill_daemon(round, house, service, random),
        45..60 => {
            house.stop(service).expect_code(0);
            std::thread::sleep(Duration::from_millis(random.below(50)));
            house.start(service);
            round.tally.count("restarted a daemon by SIGTERM", 1);
        }
        _ => {
            // What a gateway gives up waiting for then is answered with 202.
            let (pause, long) = pause(round, random, 15);
            house.freeze(service);
            std::thread::sleep(pause);
            house.thaw(service);
            round.tally.count(if long { "stopped a daemon past deadlines" } else { "stopped a daemon" }, 1);
        }
    }
}

fn kill_daemon(round: &Round<'_>, house: &mut House, service: Service, random: &mut Random) {
    house.kill(service);
    std::thread::sleep(Duration::from_millis(random.below(50)));
    house.start(service);
    let is_user = service == Service::User;
    round.tally.count(if is_user { "killed the user daemon" } else { "killed the article daemon" }, 1);
}

fn strike_gateway(round: &Round<'_>, house: &House, fronts: &mut Fronts, random: &mut Random) {
    let number = random.below(FRONTS as u64) as usize;
    match random.below(100) {
        0..60 => {
            let pause = Duration::from_millis(random.below(50));
            fronts.kill(house, round.doors, number, pause);
            round.tally.count("killed a gateway", 1);
        }
        60..75 => {
            fronts.restart(house, round.doors, number);
            round.tally.count("restarted a gateway by SIGTERM", 1);
        }
        _ => {
            let (pause, long) = pause(round, random, 5);
            fronts.pause(number, pause);
            round.tally.count(if long { "stopped a gateway past deadlines" } else { "stopped a gateway" }, 1);
        }
    }
}

/// How long a process stands still: in so many of a hundred times past the deadline of everything that is under way.
fn pause(round: &Round<'_>, random: &mut Random, long_percent: u64) -> (Duration, bool) {
    let long = random.percent(long_percent);
    let pause = if long { PAST_ANY_DEADLINE } else { Duration::from_millis(random.below(300)) };
    (pause.min(round.until.saturating_duration_since(Instant::now())), long)
}
