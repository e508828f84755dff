//! Sockets first, and ready only when it is true.

use like_tests::process::eventually;

use crate::machine::{ARTICLE, Machine, USER, message};

#[test]
fn the_first_connection_starts_a_daemon_and_is_answered() {
    let Some(machine) = Machine::boot("first-connection") else { return };
    machine.sh("systemctl start like-article.socket like-user.socket");
    assert_eq!([ARTICLE, USER].map(|unit| machine.property(unit, "ActiveState")), ["inactive", "inactive"]);

    let article = machine.json(&["article", "create", "First of all"]);
    assert_eq!(article["article_id"], 1);
    assert_eq!([ARTICLE, USER].map(|unit| machine.property(unit, "ActiveState")), ["active", "inactive"]);

    let like = machine.json(&["like", "1", "--user", "7"]);
    assert_eq!(like["current_likes"], 1);
    assert!(machine.is_active(USER));
    machine.promises_are_kept();
}

#[test]
fn the_target_starts_everything_and_the_sockets_are_the_groups() {
    let Some(machine) = Machine::boot("target") else { return };
    machine.sh("systemctl enable --now --quiet like.target");
    let units = [
        "like-article.socket",
        "like-user.socket",
        ARTICLE,
        USER,
        "like-recover.service",
        "like-check.timer",
        "like.target",
    ];
    for unit in units {
        assert!(machine.is_active(unit), "{unit} is {}", machine.property(unit, "ActiveState"));
    }
    for socket in ["article.sock", "user.sock"] {
        let stat = machine.sh(&format!("stat -c '%F %a %U %G' /run/like/{socket}"));
        assert_eq!(stat, "socket 660 root like");
    }
    assert_eq!(machine.sh("stat -c '%a %G' /var/lib/like/journal"), "2770 like");
    assert_eq!(
        machine.sh("stat -Lc %a /var/lib/private/like-article /var/lib/private/like-user"),
        "700\n700"
    );
    machine.sh("systemctl start like-check.service");
}

#[test]
fn a_daemon_is_ready_only_after_it_has_read_its_store_and_callers_wait_for_that() {
    let Some(machine) = Machine::boot_started("ready") else { return };
    machine.json(&["article", "create", "Title"]);
    // A file of the store that hangs whoever reads it, until somebody fills it.
    machine.sh(&format!(
        "systemctl stop like-article.socket {ARTICLE}
         cd /var/lib/private/like-article
         mv like-store /root
         mkfifo like-store
         chown --reference=. like-store
         systemctl start like-article.socket"
    ));
    let caller = machine.start(&["likectl", "--json", "--timeout", "60s", "article", "show", "1"]);
    let state = eventually("a start", || {
        Some(machine.property(ARTICLE, "ActiveState")).filter(|state| state != "inactive")
    });
    assert_eq!(state, "activating");
    // It can be filled only while somebody reads it.
    eventually("a daemon that reads its store", || {
        assert_ne!(machine.property(ARTICLE, "ActiveState"), "active", "ready before it has read its store");
        let fill =
            ["dd", "if=/root/like-store", "of=/var/lib/private/like-article/like-store", "oflag=nonblock"];
        (machine.run(&fill).code() == Some(0)).then_some(())
    });
    assert_eq!(caller.end().expect_code(0).json()["title"], "Title");
    assert!(machine.is_active(ARTICLE));
    let status = machine.property(ARTICLE, "StatusText");
    assert!(status.starts_with("Serving the article store "), "{status}");
}

#[test]
fn a_daemon_whose_store_is_damaged_never_becomes_ready_and_says_what_to_do() {
    let Some(machine) = Machine::boot_started("damaged") else { return };
    machine.json(&["article", "create", "Title"]);
    machine.sh(&format!("systemctl stop like-article.socket {ARTICLE}"));
    let damage =
        "cd /var/lib/private/like-article; cp -a db /root/db; dd if=/dev/urandom of=db bs=4096 count=16 2>&1";
    machine.sh(damage);
    machine.sh(&format!("systemctl start like-article.socket; systemctl start --no-block {ARTICLE}"));
    eventually("several vain starts", || {
        assert!(!machine.is_active(ARTICLE), "active with a damaged store");
        (machine.property(ARTICLE, "NRestarts").parse::<u32>().expect("a number") >= 3).then_some(())
    });
    let said = machine.journal(&["--unit", ARTICLE]);
    let advice = said.iter().map(message).find(|line| line.contains("backup"));
    assert!(advice.is_some(), "no advice in {:?}", said.iter().map(message).collect::<Vec<_>>());

    // The repair is all it takes: no unit has given up.
    machine.sh("cp -a /root/db /var/lib/private/like-article/db");
    eventually("a daemon that serves again", || machine.is_active(ARTICLE).then_some(()));
    assert_eq!(machine.json(&["article", "show", "1"])["title"], "Title");
}
