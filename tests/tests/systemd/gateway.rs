//! The HTTP front as a unit: a passed socket, no network of its own.

use like_tests::process::eventually;

use crate::machine::Machine;

const GUIDE: &str = include_str!("../../../docs/http.md");
const UNIT: &str = "like-gateway.service";

/// Sends a request from inside the machine, and returns the whole answer.
fn request(machine: &Machine, first_line: &str, headers: &str) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/8080
         printf '{first_line} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n{headers}\\r\\n' >&3
         cat <&3"
    );
    machine.run(&["bash", "-euc", &script]).expect_code(0).stdout
}

#[test]
fn likes_are_served_over_http_from_a_sandbox_without_a_network_and_across_kills() {
    let Some(machine) = Machine::boot_started("gateway") else { return };
    machine.json(&["article", "create", "Title"]);
    machine.sh("systemctl start like-gateway.socket");
    let like = |user: u32| request(&machine, "POST /articles/1/like", &format!("X-User-ID: {user}\\r\\n"));
    // The first request starts the service.
    let liked = like(7);
    assert!(liked.starts_with("HTTP/1.1 200") && liked.contains("\"current_likes\":1"), "{liked}");
    assert_eq!(machine.sh(&format!("systemctl show -p ActiveState --value {UNIT}")), "active");
    assert!(like(7).starts_with("HTTP/1.1 409"), "a rule is a rule");

    // Killed, it is started again; who connects meanwhile waits in the socket.
    machine.sh(&format!("systemctl kill -s KILL {UNIT}"));
    let liked = like(8);
    assert!(liked.starts_with("HTTP/1.1 200") && liked.contains("\"current_likes\":2"), "{liked}");
    machine.sh(&format!("systemctl restart {UNIT}"));
    assert!(request(&machine, "GET /readyz", "").starts_with("HTTP/1.1 200"));
    let page = request(&machine, "GET /", "");
    assert!(page.contains("<title>Likes</title>"), "{page}");
    assert!(request(&machine, "GET /metrics", "").contains("like_service_up{service=\"user\"} 1"));
    eventually("a status for people", || {
        machine.sh(&format!("systemctl show -p StatusText --value {UNIT}")).contains("Serving").then_some(())
    });
    machine.sh("systemctl stop like-gateway.socket like-gateway.service");
    assert_eq!(machine.likes(1), 2);
    machine.promises_are_kept();
}

#[test]
fn an_enabled_front_comes_and_goes_with_everything_else() {
    let Some(machine) = Machine::boot_started("gateway-target") else { return };
    machine.sh("systemctl enable --now like-gateway.socket");
    let ready = || request(&machine, "GET /readyz", "");
    assert!(ready().starts_with("HTTP/1.1 200"));
    machine.sh("systemctl stop like.target");
    for unit in [UNIT, "like-gateway.socket"] {
        eventually("a stop", || (machine.property(unit, "ActiveState") == "inactive").then_some(()));
    }
    machine.sh("systemctl start like.target");
    assert!(ready().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_unix_socket_instead_is_for_the_group() {
    let Some(machine) = Machine::boot_started("gateway-unix") else { return };
    let place = "/run/systemd/system/like-gateway.socket.d";
    machine.sh(&format!(
        "mkdir -p {place}
         printf '[Socket]\nListenStream=\nListenStream=/run/like/gateway.sock\n' >{place}/unix.conf
         systemctl daemon-reload && systemctl start like-gateway.socket like-gateway.service"
    ));
    assert_eq!(machine.sh("stat -c '%a %U %G' /run/like/gateway.sock"), "660 root like");
    assert!(machine.is_active(UNIT));
    machine.sh("systemctl stop like-gateway.socket like-gateway.service");
    machine.sh("test ! -e /run/like/gateway.sock");
}

#[test]
fn the_guides_drop_in_switches_administration_on() {
    let Some(machine) = Machine::boot_started("gateway-admin") else { return };
    let act = |token: &str| {
        let path = "/sagas/01a202f0-374b-74df-86a9-d798188a9d09/retry";
        request(&machine, &format!("POST {path}"), &format!("Authorization: Bearer {token}\\r\\n"))
    };
    machine.sh("systemctl start like-gateway.socket");
    assert!(act("").starts_with("HTTP/1.1 403"), "nobody may");

    let token = "0123456789abcdef".repeat(2);
    machine.sh(&format!("mkdir -m 700 /etc/like && echo {token} >/etc/like/admin-token"));
    let drop_in =
        GUIDE.split("```ini\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a drop-in");
    // `printf` writes it.
    machine.override_unit(UNIT, &drop_in.replace('%', "%%"));
    machine.sh(&format!("systemctl restart {UNIT}"));
    assert!(act("").starts_with("HTTP/1.1 401"), "whoever has no token");
    let let_in = act(&token);
    assert!(let_in.starts_with("HTTP/1.1 415"), "a body is missed, not a token: {let_in}");
}
