//! Runners that die, sagas that are stuck, and who is told.

use like_tests::process::eventually;
use serde_json::Value;

use crate::machine::{Machine, USER, message};

/// Starts a runner with many likes in flight, and freezes the user service under it. Returns once a like waits for that.
pub fn runner_that_waits_for_a_frozen_user_service(machine: &Machine, runner: &str, timeout: &str) {
    let before = sagas(machine).len();
    machine
        .start_runner(runner, &["--timeout", timeout, "bench", "--likes", "1000000", "--concurrency", "8"]);
    eventually("likes of a runner", || (sagas(machine).len() > before + 50).then_some(()));
    machine.signal(USER, "STOP");
    eventually("a like that waits for the user service", || {
        in_state(machine, "running").iter().any(waits_for_the_user_service).then_some(())
    });
}

/// Whether a like's second step was sent, and not answered.
fn waits_for_the_user_service(saga: &Value) -> bool {
    saga["steps"][1]["action"] == "in_doubt"
}

fn sagas(machine: &Machine) -> Vec<Value> {
    machine.json(&["saga", "list"]).as_array().expect("a list").clone()
}

/// The sagas in a state.
pub fn in_state(machine: &Machine, state: &str) -> Vec<Value> {
    machine.json(&["saga", "list", "--state", state]).as_array().expect("a list").clone()
}

/// What the recovery service has printed: one JSON object a line.
fn printed_by_recovery(machine: &Machine) -> Vec<(u64, Value)> {
    let entries = machine.journal(&["--unit", "like-recover.service"]);
    let parsed = |entry: &Value| Some((at_us(entry), serde_json::from_str(message(entry)).ok()?));
    entries.iter().filter_map(parsed).collect()
}

fn at_us(entry: &Value) -> u64 {
    entry["__MONOTONIC_TIMESTAMP"].as_str().expect("a time").parse().expect("a number")
}

/// When a runner's unit was seen to have been killed.
fn killed_at_us(machine: &Machine, runner: &str) -> u64 {
    let unit = format!("{runner}.service");
    let seen = || {
        let entries = machine.journal(&["--unit", &unit]);
        entries.iter().find(|entry| message(entry).contains("code=killed")).map(at_us)
    };
    eventually("the end of a runner", seen)
}

#[test]
fn recovery_finishes_the_sagas_of_a_killed_runner_at_once() {
    let Some(machine) = Machine::boot_started("takeover") else { return };
    runner_that_waits_for_a_frozen_user_service(&machine, "runner", "60s");
    machine.signal("runner.service", "KILL");
    let killed_us = killed_at_us(&machine, "runner");
    let (taken_us, taken) = eventually("a takeover", || {
        printed_by_recovery(&machine).into_iter().find(|(_, line)| line["event"] == "taken_over")
    });
    assert!(taken["unfinished"].as_u64().is_some_and(|many| many > 0), "{taken}");
    assert!(taken_us < killed_us + 1_000_000, "taken over after {} us", taken_us - killed_us);

    machine.signal(USER, "CONT");
    eventually("an end of all sagas", || in_state(&machine, "running").is_empty().then_some(()));
    let let_go = eventually("a slot that is let go", || {
        printed_by_recovery(&machine).into_iter().find(|(_, line)| line["event"] == "let_go")
    });
    assert_eq!(let_go.1["completed"], taken["unfinished"], "it was going forward, so it goes on forward");
    assert_eq!(machine.likes(1), sagas(&machine).len() as u64);
    machine.promises_are_kept();
}

#[test]
fn a_stuck_saga_raises_the_alarm_while_recovery_goes_on() {
    let Some(machine) = Machine::boot("stuck") else { return };
    machine.sh("cd /etc/systemd/system
         cp examples/like-alarm@.service .
         cp -r examples/like-check.service.d .
         systemctl daemon-reload
         systemctl start like.target like-check.service");
    // Likes whose time runs out while the user service may have them in its hands: they turn back.
    runner_that_waits_for_a_frozen_user_service(&machine, "first", "1s");
    eventually("a saga that turns back", || {
        in_state(&machine, "compensating").first().map(|saga| saga["saga_id"].clone())
    });
    // A benchmark that is not answered gives up by itself, too.
    machine.sh(
        "systemctl kill --kill-who=main --signal=KILL first.service || systemctl is-failed first.service",
    );
    // They will never be answered: the store they were begun with is gone.
    machine.sh(&format!(
        "systemctl kill --signal=KILL {USER}
         systemctl stop like-user.socket {USER}
         rm -r /var/lib/private/like-user
         systemctl start like-user.socket {USER}"
    ));
    let stuck = || {
        let listed = machine.json(&["saga", "list", "--needs-attention"]);
        listed.as_array().expect("a list").clone()
    };
    let first = eventually("a stuck saga", || stuck().into_iter().next());
    let id = first["saga_id"].as_str().expect("an id");

    let check = machine.run(&["systemctl", "start", "like-check.service"]);
    assert_ne!(check.code(), Some(0), "the check is to fail");
    assert_eq!(machine.property("like-check.service", "ExecMainStatus"), "7");
    eventually("an alarm that names the saga", || {
        let alarms = machine.journal(&["--identifier", "like-alarm", "--priority", "alert"]);
        alarms.iter().any(|alarm| message(alarm).contains(id)).then_some(())
    });

    // Recovery has not ended over it, and serves the next dead runner.
    assert!(machine.is_active("like-recover.service"));
    assert_eq!(machine.property("like-recover.service", "NRestarts"), "0");
    runner_that_waits_for_a_frozen_user_service(&machine, "second", "60s");
    machine.signal("second.service", "KILL");
    machine.signal(USER, "CONT");
    let begun_with_this_store =
        |saga: &Value| !stuck().iter().any(|other| other["saga_id"] == saga["saga_id"]);
    eventually("an end of the second runner's sagas", || {
        let running = in_state(&machine, "running");
        running.iter().all(|saga| !begun_with_this_store(saga)).then_some(())
    });

    // An operator ends what is stuck, and the alarm falls silent.
    for saga in sagas(&machine) {
        if matches!(saga["state"].as_str(), Some("running" | "compensating")) {
            let id = saga["saga_id"].as_str().expect("an id");
            let force = ["saga", "force", id, "--as", "compensated", "--reason", "the store is lost"];
            eventually("a forced end", || (machine.likectl(&force).code() == Some(0)).then_some(()));
        }
    }
    machine.sh("systemctl start like-check.service");
}
