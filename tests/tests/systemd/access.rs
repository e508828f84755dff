//! Who is served, and who is not.

use crate::machine::Machine;

/// A machine with alice and carol, who are members of group `like` besides their own, and bob, who is not.
fn boot(name: &str) -> Option<Machine> {
    let machine = Machine::boot_started(name)?;
    machine
        .sh("systemd-sysusers --inline 'u alice -' 'u bob -' 'u carol -' 'm alice like' 'm carol like' 2>&1");
    machine.json(&["article", "create", "Title"]);
    Some(machine)
}

#[test]
fn a_member_of_the_group_is_served_and_others_are_told_which_group_to_join() {
    let Some(machine) = boot("group") else { return };
    assert_eq!(machine.sh("id -gn alice"), "alice", "the group like is a supplementary one");
    let like = machine.likectl_as("alice", &["--json", "like", "1", "--user", "7"]).expect_code(0);
    assert_eq!(like.json()["current_likes"], 1);

    for arguments in
        [["like", "1", "--user", "8"], ["unlike", "1", "--user", "7"], ["user", "likes", "7", "--json"]]
    {
        let refused = machine.likectl_as("bob", &arguments).expect_code(9);
        assert!(refused.stderr.contains("group `like`"), "{refused:?}");
        assert_eq!(refused.stdout, "");
    }
    let error = machine.likectl_as("bob", &["--json", "like", "1", "--user", "8"]).expect_code(9).error();
    assert_eq!(error["error"]["kind"], "permission_denied", "{error}");
    assert_eq!(machine.likes(1), 1);
    machine.promises_are_kept();
}

#[test]
fn a_daemon_refuses_strangers_even_if_the_socket_lets_them_in() {
    let Some(machine) = boot("strangers") else { return };
    machine.sh("chmod 666 /run/like/*.sock");
    let refused = machine.likectl_as("bob", &["--json", "article", "show", "1"]).expect_code(9);
    assert_eq!(refused.error()["error"]["kind"], "permission_denied", "{refused:?}");
    assert!(refused.stderr.contains("group `like`"), "{refused:?}");
    machine.likectl_as("alice", &["article", "show", "1"]).expect_code(0);
}

#[test]
fn members_share_one_journal() {
    let Some(machine) = boot("sharing") else { return };
    // The slot that one member makes is the first free one for all others, whatever their umask.
    for (member, user) in [("alice", "1"), ("carol", "2"), ("alice", "3")] {
        machine.likectl_as(member, &["like", "1", "--user", user]).expect_code(0);
    }
    machine.sh("umask 077; likectl like 1 --user 4");
    machine.likectl_as("carol", &["like", "1", "--user", "5"]).expect_code(0);
    let slots = machine.sh("stat -c '%F %a %G' /var/lib/like/journal/*");
    assert!(slots.lines().all(|slot| slot == "directory 2770 like"), "{slots}");
    // One is enough for one runner at a time, but recovery may be looking into it just then.
    assert!(slots.lines().count() <= 2, "{slots}");
    assert_eq!(machine.likes(1), 5);
    machine.promises_are_kept();
}
