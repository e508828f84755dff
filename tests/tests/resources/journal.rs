//! A runner whose log can't be written or synced: it ends, sends nothing more, and recovery finishes its saga.

use like_client::log::{Journal, history};
use like_tests::house::{House, Service};
use like_tests::power::faults::{ArmedDisk, DiskFault};
use like_tests::process::Ended;
use like_tests::promises;

use super::say;

const RECORDED: &str = env!("CARGO_BIN_EXE_like-recorded");

/// A like of `user` by a runner whose journal fails so; how it ended, and whether the fault happened.
fn like_with(house: &House, user: u64, fault: DiskFault) -> (Ended, bool) {
    let mut command =
        house.command(&["--json", "--timeout", "10m", "like", "1", "--user", &user.to_string()]);
    let armed = ArmedDisk::arm(&mut command, &house.journal(), house.path(), fault);
    let ended = Ended::of(&mut command);
    (ended, armed.fired() > 0)
}

/// Checks what a runner left behind: it has not sent what is not in its log, and what it told was so.
fn left_well(house: &House, user: u64, ended: &Ended) {
    let records = house.json(&["user", "likes", &user.to_string()]);
    let likes = house.likes(1);
    let journal = Journal::open_existing(&house.journal()).expect("a journal");
    let history = history::read(&journal).expect("a journal that can be read");
    let steps = history.sagas.first().and_then(|(_, story)| story.state.as_ref()).map(|state| &state.steps);
    let sent = |step: usize| steps.is_some_and(|steps| steps[step].action_attempts > 0);
    assert!(sent(0) || likes == 0, "counted, but never sent: {ended:?}");
    assert!(sent(1) || records == serde_json::json!([]), "recorded, but never sent: {ended:?}");
    if ended.code() == Some(0) {
        assert_eq!(likes, 1, "told, but not so: {ended:?}");
    } else {
        assert!(ended.code().is_some(), "it ends by itself: {ended:?}");
    }
}

/// Fails at one place after the other until nothing fails any more; how often it failed, and how often the like was told
/// to have happened all the same.
fn fails_everywhere(faults: impl Iterator<Item = DiskFault>) -> (u32, u32) {
    let mut house = House::closed(RECORDED);
    Service::BOTH.into_iter().for_each(|service| house.start(service));
    house.article(1);
    let (mut fired, mut told) = (0, 0);
    for (user, fault) in (10..).zip(faults) {
        house.turn_page();
        std::fs::create_dir(house.journal()).expect("a journal");
        let (ended, failed) = like_with(&house, user, fault);
        if !failed {
            ended.expect_code(0);
            return (fired, told);
        }
        fired += 1;
        told += u32::from(ended.code() == Some(0));
        left_well(&house, user, &ended);
        promises::kept(&house);
        let liked = promises::likes_at_most_once(&house, user, 1);
        assert!(liked || ended.code() != Some(0), "told and lost: {fault:?} {ended:?}");
        if liked {
            house.json(&["unlike", "1", "--user", &user.to_string()]);
        }
    }
    panic!("it never came through");
}

#[test]
fn a_runner_whose_log_can_not_be_synced_ends_and_recovery_finishes() {
    let (fired, told) = fails_everywhere((1..).map(DiskFault::SyncFails));
    say(&format!("a sync of the runner's log failed at {fired} places; {told} times the like had been told"));
    assert!(fired >= 4, "{fired}");
}

#[test]
fn a_runner_whose_disk_is_full_ends_and_recovery_finishes() {
    let (fired, told) = fails_everywhere((0..).step_by(47).map(DiskFault::Full));
    say(&format!("the journal's disk was full at {fired} places; {told} times the like had been told"));
    assert!(fired >= 8, "{fired}");
}

#[test]
fn a_runner_whose_write_is_cut_short_ends_and_recovery_finishes() {
    let (fired, told) = fails_everywhere((0..).step_by(53).map(DiskFault::Short));
    say(&format!(
        "a write to the journal was cut short at {fired} places; {told} times the like had been told"
    ));
    assert!(fired >= 8, "{fired}");
}

/// By itself the system would end it with a signal.
#[test]
fn a_runner_whose_log_may_not_grow_ends_with_a_word() {
    let house = House::open(env!("CARGO_BIN_EXE_like-multicall"));
    house.article(1);
    let like = house.command(&["--json", "like", "1", "--user", "7"]);
    let mut limited = std::process::Command::new("prlimit");
    limited.args(["--fsize=100", "--"]).arg(like.get_program()).args(like.get_args());
    let ended = Ended::of(&mut limited).expect_code(1);
    assert_eq!(ended.error()["error"]["kind"], "internal", "{ended:?}");
    assert!(ended.stderr.contains("File too large"), "{ended:?}");
    assert_eq!(house.likes(1), 0);
}
