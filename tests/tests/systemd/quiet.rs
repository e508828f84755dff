//! What the daemons cost when nothing happens, and what they say.

use std::thread;
use std::time::Duration;

use crate::machine::{ARTICLE, Machine, USER};

/// How long an idle daemon is looked at. Its watchdog is fed every 15 seconds.
const LOOK: Duration = Duration::from_secs(5);

/// How much memory an idle daemon may have in use.
const RESIDENT_KIB_MAX: u64 = 20 * 1024;

/// How often the threads of a daemon have been given the processor: those of sled's pool, and all others. The former
/// are seven and look for work about once a second whenever the processor is awake anyway, so how often depends on what
/// else the machine does.
fn switches(machine: &Machine, unit: &str) -> (u64, u64) {
    let pid = machine.property(unit, "MainPID");
    let script = format!(
        "for task in /proc/{pid}/task/*; do
             echo $(cat $task/comm) $(awk '/ctxt_switches/ {{ sum += $2 }} END {{ print sum }}' $task/status)
         done"
    );
    let (mut pool, mut others) = (0, 0);
    for line in machine.sh(&script).lines() {
        let (name, switches) = line.rsplit_once(' ').expect("a name and a number");
        let kind = if name.starts_with("sled-io-") { &mut pool } else { &mut others };
        *kind += switches.parse::<u64>().expect("a number");
    }
    (pool, others)
}

fn resident_kib(machine: &Machine, unit: &str) -> u64 {
    let pid = machine.property(unit, "MainPID");
    machine.sh(&format!("awk '/^VmRSS:/ {{ print $2 }}' /proc/{pid}/status")).parse().expect("a number")
}

#[test]
fn an_idle_daemon_wakes_up_for_its_watchdog_only_and_stays_small() {
    let Some(machine) = Machine::boot_started("idle") else { return };
    // Some work before, and time for what it leaves to be collected: a second after the deadlines, so two seconds at the
    // latest, and as much again. There is nothing to wait for instead: no command shows how many records wait for that, and
    // daemons that have nothing to do just then are as quiet as those that are done.
    machine.json(&["--timeout", "1s", "bench", "--likes", "2000", "--concurrency", "32"]);
    thread::sleep(Duration::from_secs(4));
    let before = [ARTICLE, USER].map(|unit| switches(&machine, unit));
    thread::sleep(LOOK);
    for (unit, before) in [ARTICLE, USER].into_iter().zip(before) {
        let (pool, others) = switches(&machine, unit);
        let (pool, others) = (pool - before.0, others - before.1);
        assert!(others <= 2, "{unit} was woken {others} times in {LOOK:?}");
        assert!(pool <= 7 * 10, "{unit} had its pool woken {pool} times in {LOOK:?}");
        // Without optimisation sled alone takes more.
        let resident_kib = resident_kib(&machine, unit);
        let counts = Machine::has_release_build();
        assert!(!counts || resident_kib < RESIDENT_KIB_MAX, "{unit} has {resident_kib} KiB in use");
    }
}

#[test]
fn one_saga_can_be_followed_through_both_daemons_logs() {
    let Some(machine) = Machine::boot("fields") else { return };
    for unit in [ARTICLE, USER] {
        machine.override_unit(unit, "[Service]\\nEnvironment=RUST_LOG=debug\\n");
    }
    machine.sh("systemctl start like.target");
    machine.json(&["article", "create", "Title"]);
    let like = machine.json(&["like", "1", "--user", "7"]);
    machine.json(&["like", "1", "--user", "8"]);
    let saga = like["saga_id"].as_str().expect("an id");
    let entries = machine.journal(&[&format!("F_SAGA_ID={saga}")]);
    for unit in [ARTICLE, USER] {
        assert!(
            entries.iter().any(|entry| entry["_SYSTEMD_UNIT"] == unit),
            "{unit} says nothing: {entries:?}"
        );
    }
    assert!(entries.iter().all(|entry| entry["F_STEP"].is_string()), "{entries:?}");
}

#[test]
fn without_a_reason_the_daemons_say_nothing() {
    let Some(machine) = Machine::boot_started("silence") else { return };
    machine.json(&["bench", "--likes", "500", "--concurrency", "32"]);
    for unit in [ARTICLE, USER] {
        let pid = machine.property(unit, "MainPID");
        let entries = machine.journal(&[&format!("_PID={pid}")]);
        assert!(entries.len() <= 5, "{unit} is chatty: {entries:?}");
        let loud = machine.journal(&["--unit", unit, "--priority", "warning"]);
        assert!(loud.is_empty(), "{loud:?}");
    }
}
