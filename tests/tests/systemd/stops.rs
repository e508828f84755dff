//! Orderly stops: nothing that was accepted is dropped, and nothing that was acknowledged is gone.

use like_tests::process::eventually;

use crate::machine::{ARTICLE, BENCH_LIKES, Machine, USER, message};

#[test]
fn a_restart_under_load_drains_and_fails_nobody() {
    let Some(machine) = Machine::boot_started("drain") else { return };
    let bench = machine.start_bench();
    for round in 1..=2 {
        let unit = [ARTICLE, USER][round % 2];
        let pid = machine.property(unit, "MainPID");
        like_tests::process::eventually("more likes", || {
            (machine.likes(1) > round as u64 * 200).then_some(())
        });
        machine.sh(&format!("systemctl restart {unit}"));
        let said = machine.journal(&[&format!("_PID={pid}")]);
        let said: Vec<_> = said.iter().map(message).collect();
        assert!(said.contains(&"stopping: no new work") && said.contains(&"stopped"), "{said:?}");
        assert_eq!(machine.property(unit, "Result"), "success");
    }
    assert!(machine.likes(1) < BENCH_LIKES, "all restarts were to happen under load");
    let measured = bench.end().expect_code(0).json();
    assert_eq!(measured["failed"], 0, "{measured}");
    assert_eq!(machine.likes(1), BENCH_LIKES);
    machine.promises_are_kept();
}

#[test]
fn a_stopped_daemon_exits_with_0_and_its_next_caller_starts_it_again() {
    let Some(machine) = Machine::boot_started("stop") else { return };
    machine.json(&["article", "create", "Title"]);
    machine.sh(&format!("systemctl stop {ARTICLE}"));
    let ended = ["ActiveState", "Result", "ExecMainCode", "ExecMainStatus"]
        .map(|name| machine.property(ARTICLE, name));
    // 1 is CLD_EXITED: it was not killed.
    assert_eq!(ended, ["inactive", "success", "1", "0"]);
    assert!(machine.is_active("like-article.socket"));
    assert_eq!(machine.json(&["article", "show", "1"])["title"], "Title");
    assert!(machine.is_active(ARTICLE));
}

#[test]
fn state_survives_restarts_kills_and_a_stop_of_everything() {
    let Some(machine) = Machine::boot_started("state") else { return };
    machine.json(&["article", "create", "Title"]);
    let like = machine.json(&["like", "1", "--user", "7"]);
    let seen = || {
        let article = machine.json(&["article", "show", "1"]);
        let records = machine.json(&["user", "likes", "7"]);
        let sagas = machine.json(&["saga", "list"]);
        (article, records, sagas)
    };
    let before = seen();
    assert_eq!(before.0["likes"], 1);
    assert_eq!(before.1[0]["user_record_id"], like["user_record_id"]);

    machine.sh(&format!("systemctl restart {ARTICLE} {USER}"));
    assert_eq!(seen(), before);
    machine.kill(ARTICLE);
    machine.kill(USER);
    assert_eq!(seen(), before);

    machine.sh("systemctl stop like.target");
    for unit in
        [ARTICLE, USER, "like-article.socket", "like-user.socket", "like-recover.service", "like-check.timer"]
    {
        eventually("a stop", || (machine.property(unit, "ActiveState") == "inactive").then_some(()));
    }
    machine.likectl(&["like", "1", "--user", "8"]).expect_code(8);
    machine.sh("systemctl start like.target");
    assert_eq!(seen(), before);
    machine.promises_are_kept();
}
