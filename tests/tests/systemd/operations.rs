//! What the operations guide tells people to type, typed.

use like_tests::process::Ended;
use serde_json::Value;

use crate::machine::{ARTICLE, Machine, USER};
use crate::recovery::{in_state, runner_that_waits_for_a_frozen_user_service};

const GUIDE: &str = include_str!("../../../docs/operations.md");

/// The commands in the guide's section of this title.
fn commands(title: &str) -> String {
    let section = GUIDE.split("\n## ").find(|section| section.starts_with(&format!("{title}\n")));
    let section = section.unwrap_or_else(|| panic!("no section {title}"));
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.collect::<Vec<_>>().concat()
}

/// Types commands in a directory, and insists that each succeeds.
#[track_caller]
fn typed(machine: &Machine, directory: &str, commands: &str) -> Ended {
    machine.run(&["bash", "-euxc", &format!("cd {directory}\n{commands}")]).expect_code(0)
}

#[test]
fn the_guide_installs_upgrades_and_wires_the_alarm() {
    let Some(machine) = Machine::boot_with_checkout("install") else { return };
    let checkout = Machine::CHECKOUT;
    let install = commands("Install").replace("cargo build --release --bins --locked\n", "");
    let said = typed(&machine, checkout, &install);
    assert!(said.stdout.contains("article") && said.stdout.contains("up"), "{said:?}");
    assert_eq!(machine.sh("systemctl is-enabled like.target"), "enabled");
    machine.json(&["article", "create", "Title"]);
    machine.json(&["like", "1", "--user", "7"]);

    machine.sh("systemctl enable --now like-gateway.socket && systemctl start like-gateway.service");

    typed(&machine, checkout, &commands("Wire the alarm"));
    let on_failure = machine.property("like-check.service", "OnFailure");
    assert_eq!(on_failure, "like-alarm@like-check.service.service");

    let units = [ARTICLE, USER, "like-recover.service", "like-gateway.service"];
    let pids = || units.map(|unit| machine.property(unit, "MainPID"));
    let before = pids();
    typed(&machine, checkout, &commands("Upgrade"));
    assert!(pids().iter().zip(&before).all(|(now, then)| now != then), "all are to run the new binaries");
    assert!(machine.is_active("like-check.timer"));
    assert_eq!(machine.likes(1), 1);
    machine.promises_are_kept();
}

#[test]
fn the_guide_brings_stores_back_from_a_backup() {
    let Some(machine) = Machine::boot_started("restore") else { return };
    machine.json(&["article", "create", "--id", "1", "Title"]);
    for user in ["1", "2", "3"] {
        machine.json(&["like", "1", "--user", user]);
    }
    let stores = || -> Vec<Value> {
        let status = machine.json(&["status"]);
        let services = status["services"].as_array().expect("services");
        services.iter().map(|service| service["store_id"].clone()).collect()
    };
    let originals = stores();
    typed(&machine, "/root", &commands("Back up"));

    // What happens after the backup will be lost, and a saga is under way when it is.
    machine.json(&["like", "1", "--user", "4"]);
    machine.json(&["unlike", "1", "--user", "1"]);
    runner_that_waits_for_a_frozen_user_service(&machine, "runner", "60s");
    machine.sh("systemctl stop like-recover.service");
    machine.signal("runner.service", "KILL");
    machine.signal(USER, "CONT");
    assert!(!in_state(&machine, "running").is_empty());

    let restore = commands("Restore").replace("2026-01-31", "$(date +%F)");
    typed(&machine, "/root", &restore);
    let restored = stores();
    assert!(originals.iter().all(|store| !restored.contains(store)), "{originals:?} {restored:?}");
    machine.sh(&format!("systemctl restart {ARTICLE} {USER}"));
    assert_eq!(stores(), restored, "the ids are redrawn once");
    assert_eq!(machine.likes(1), 3);
    let likers = machine.json(&["article", "likers", "1"]);
    assert_eq!(likers.as_array().map(Vec::len), Some(3), "{likers}");

    // As the guide says: what was under way is ended by hand, with recovery out of the way.
    machine.sh("systemctl stop like-recover.service");
    let unfinished = in_state(&machine, "running");
    assert!(!unfinished.is_empty());
    for saga in &unfinished {
        let id = saga["saga_id"].as_str().expect("an id");
        let force = ["saga", "force", id, "--as", "compensated", "--reason", "restored from backup"];
        machine.likectl(&force).expect_code(0);
    }
    let audit = machine.json(&["audit", "--repair", "--yes"]);
    assert_eq!(audit["unfinished_sagas"], 0, "{audit}");
    machine.json(&["audit"]);
    machine.sh("systemctl start like-recover.service");
    assert_eq!(machine.likes(1), 3);
    machine.json(&["like", "1", "--user", "4"]);
    machine.sh("systemctl start like-check.service");
}

#[test]
fn the_guide_lets_daemons_end_before_their_stores_are_touched() {
    let Some(machine) = Machine::boot_started("ended") else { return };
    machine.override_unit(ARTICLE, "[Service]\nExecStop=/bin/sleep 0.5\n");
    for title in ["Back up", "Restore"] {
        machine.json(&["article", "list"]);
        let commands = commands(title);
        let stop = commands.lines().next().expect("a command");
        typed(&machine, "/root", stop);
        assert_eq!(machine.property(ARTICLE, "ActiveState"), "inactive", "{stop}");
        machine.sh("systemctl start like.target");
    }
}
