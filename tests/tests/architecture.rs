//! The shape of the house, held by what is absent: each rule says which code may not name what, where, and why.
//!
//! A rule looks at code alone: not at comments, the text of strings, or tests. A file that is excepted from a rule must
//! need its exception.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::process::Command;

use like_tests::source::{self, Source};
use serde_json::Value;

/// Longer files are read by nobody. 400 lines are plenty; the rest is room for what belongs together.
const LINES_MAX: usize = 500;

const PRODUCT: &[&str] = &["protocol/src", "process/src", "daemon/src", "client/src", "gateway/src"];

const ENGINE: &[&str] = &[
    "protocol/src/codec.rs",
    "protocol/src/ids.rs",
    "protocol/src/message.rs",
    "protocol/src/time.rs",
    "process/src",
    "client/src/saga",
    "client/src/log",
    "client/src/runner",
    "client/src/rpc",
    "daemon/src/participant",
    "daemon/src/store",
    "daemon/src/commit",
    "daemon/src/net",
    "daemon/src/service",
];

/// What may not be named where, but for some files, and why.
struct Absence {
    why: &'static str,
    patterns: &'static [&'static str],
    within: &'static [&'static str],
    except: &'static [&'static str],
}

const ABSENCES: &[Absence] = &[
    Absence {
        why: "engines know nothing about likes: the domain plugs into them",
        patterns: &[
            "likes",
            "Likes",
            "article",
            "articles",
            "Article",
            "Articles",
            "ArticleId",
            "UserId",
            "CallerKey",
            "LikeTarget",
            "ARTICLE_ROLE",
            "USER_ROLE",
        ],
        within: ENGINE,
        except: &[],
    },
    Absence {
        why: "the protocol opens no sockets, keeps no store, touches no terminal",
        patterns: &[
            "UnixStream",
            "UnixListener",
            "TcpStream",
            "TcpListener",
            "sled",
            "clap",
            "stdout",
            "println",
        ],
        within: &["protocol/src"],
        // It watches one that somebody else has opened.
        except: &["protocol/src/socket.rs"],
    },
    Absence {
        why: "a daemon never dials anyone; it is looked in one place whether somebody listens where it wants to",
        patterns: &["UnixStream::connect", "TcpStream", "UnixSocket", "connect"],
        within: &["daemon/src", "process/src"],
        except: &["process/src/socket.rs"],
    },
    Absence {
        why: "a client listens to nobody, and dials in one place",
        patterns: &["UnixStream", "UnixListener", "TcpStream", "TcpListener", "bind"],
        within: &["client/src"],
        except: &["client/src/rpc/dial.rs"],
    },
    Absence {
        why: "the gateway listens in one place, and dials nobody: like-client does",
        patterns: &["UnixStream", "UnixListener", "TcpStream", "TcpListener", "bind", "Remote", "connect"],
        within: &["gateway/src"],
        except: &["gateway/src/listen.rs", "gateway/src/host.rs"],
    },
    Absence {
        why: "the gateway writes no saga and tells no participant anything: it asks runners and services to",
        patterns: &["SlotLock", "SagaLog", "take_over", "claim", "RequestBody", "StepRequest", "Settlement"],
        within: &["gateway/src"],
        except: &[],
    },
    Absence {
        why: "fronts have `like_client::view` in common, not each other",
        patterns: &["like_client::cli"],
        within: &["gateway/src"],
        except: &[],
    },
    Absence {
        why: "sled is named in one file, so that other stores can stand in",
        patterns: &["sled"],
        within: PRODUCT,
        except: &["daemon/src/store/base.rs"],
    },
    Absence {
        why: "bincode is named in one file, so that it can be replaced",
        patterns: &["bincode", "Bincode"],
        within: PRODUCT,
        except: &["protocol/src/codec.rs"],
    },
    Absence {
        why: "files are written, synced and removed by those who own them alone: a crash test knows every place",
        patterns: &[
            "sync_data",
            "sync_all",
            "fdatasync",
            "fsync",
            "File::create",
            "OpenOptions",
            "create_new",
            "write_all",
            "fs::write",
            "fs::rename",
            "fs::copy",
            "set_len",
            "remove_file",
            "remove_dir_all",
            "apply_batch",
            "Write",
            "AsyncWriteExt",
            "db.flush",
        ],
        within: PRODUCT,
        except: &[
            // The saga log.
            "client/src/log/disk.rs",
            "client/src/log/segment.rs",
            "client/src/log/writer.rs",
            "client/src/log/writer/syncs.rs",
            // Hands on what the log writes and syncs, and times it.
            "gateway/src/timed.rs",
            // The store.
            "daemon/src/store/base.rs",
            "daemon/src/store/data_dir.rs",
            "daemon/src/store/disk.rs",
            "daemon/src/store/opening.rs",
            // A daemon's or the gateway's own socket file.
            "process/src/socket.rs",
            // A socket, not a file.
            "protocol/src/socket.rs",
            // What is said to who is turned away.
            "gateway/src/serve.rs",
            // What is said at the end.
            "process/src/end.rs",
            // What people asked to be written: results, manual pages, the demo's word to its runner.
            "client/src/cli/output.rs",
            "client/src/cli/commands/man.rs",
            "client/src/cli/demo/mod.rs",
            // How far an import has come, and what it left out.
            "client/src/cli/commands/import/note.rs",
            "client/src/cli/commands/import/rejects.rs",
            // The mark of a failpoint.
            "protocol/src/failpoint.rs",
        ],
    },
    Absence {
        why: "the saga log touches its host's files, clock and threads in one place, so that it can be kept on any disk; \
              who owns a slot is the kernel's to show",
        patterns: &[
            "std::fs",
            "fs::",
            "File",
            "rustix",
            "SystemTime",
            "Instant",
            "std::thread",
            "tokio::spawn",
        ],
        within: &["client/src/log"],
        except: &["client/src/log/disk.rs", "client/src/log/disk", "client/src/log/owner.rs"],
    },
    Absence {
        why: "the store's own files are touched in one place, so that they can be kept on any disk; what has real files is \
              sled, what is kept for its sake, and the directory that all of it lives in",
        patterns: &["std::fs", "fs::", "File", "rustix", "SystemTime", "Instant", "thread::"],
        within: &["daemon/src/store"],
        except: &[
            "daemon/src/store/base.rs",
            "daemon/src/store/data_dir.rs",
            "daemon/src/store/disk.rs",
            "daemon/src/store/opening.rs",
            // Waits for the thread that it was given.
            "daemon/src/store/aside.rs",
        ],
    },
    Absence {
        why: "requests are sent by those who have written first that they are sent: attempts and settlements; and \
              outside any saga by the one that asks",
        patterns: &[".call(", ".call_on("],
        within: PRODUCT,
        except: &["client/src/runner/attempt.rs", "client/src/runner/settle.rs", "client/src/likes/ask.rs"],
    },
    Absence {
        why: "frames are sent by connections and sessions alone",
        patterns: &["SinkExt", "client_end", "daemon_end"],
        within: PRODUCT,
        except: &[
            "protocol/src/codec.rs",
            "client/src/rpc/connection.rs",
            "client/src/rpc/remote.rs",
            "daemon/src/net/session.rs",
        ],
    },
    Absence {
        why: "participants are told of an end in one place, where it is known to be durable",
        patterns: &["RequestBody::Settle"],
        within: &["client/src"],
        except: &["client/src/runner/settle.rs"],
    },
    Absence {
        why: "only the command line, and a daemon at its start and end, talk to a terminal",
        patterns: &["println", "print", "eprintln", "eprint", "stdout", "stderr", "anstream", "anstyle"],
        within: PRODUCT,
        except: &[
            "client/src/cli",
            "daemon/src/service/logging.rs",
            "daemon/src/service/mod.rs",
            "gateway/src/logging.rs",
            "process/src/end.rs",
            "protocol/src/failpoint.rs",
        ],
    },
    Absence {
        why: "two calls that no safe library offers (SO_PEERGROUPS, watching a socket for one direction) are unsafe, and the recorder of the tests",
        patterns: &["unsafe"],
        within: &["protocol", "process", "daemon", "client", "gateway", "tests", "threads"],
        except: &[
            "daemon/src/net/peer.rs",
            "protocol/src/socket.rs",
            "tests/src/bin/like-recorded/interpose.rs",
        ],
    },
    Absence {
        why: "wall time is only shown to people, and ages their history: no rule of safety reads it",
        patterns: &["SystemTime"],
        within: PRODUCT,
        except: &["protocol/src/ids.rs", "client/src/log/disk.rs", "client/src/view/moment.rs"],
    },
    Absence {
        why: "what is pure stays pure: no time, thread, file, wait or failpoint in what a saga or a participant decides",
        patterns: &[
            "Instant",
            "SystemTime",
            "thread",
            "spawn",
            "File",
            "fs",
            "tokio",
            "async",
            "await",
            "reach",
        ],
        within: &[
            "client/src/saga",
            "daemon/src/participant",
            "client/src/log/story.rs",
            "client/src/log/record.rs",
        ],
        except: &[],
    },
    // Layers: what is below doesn't know what is above.
    Absence {
        why: "a saga is what it is without log, wire and runner",
        patterns: &["crate::log", "crate::rpc", "crate::runner", "crate::likes", "crate::view", "crate::cli"],
        within: &["client/src/saga"],
        except: &[],
    },
    Absence {
        why: "the log keeps events and sends nothing",
        patterns: &["crate::rpc", "crate::runner", "crate::likes", "crate::view", "crate::cli"],
        within: &["client/src/log"],
        except: &[],
    },
    Absence {
        why: "a connection knows nothing of what is said on it",
        patterns: &[
            "crate::saga",
            "crate::log",
            "crate::runner",
            "crate::likes",
            "crate::view",
            "crate::cli",
        ],
        within: &["client/src/rpc"],
        except: &[],
    },
    Absence {
        why: "the runner knows no domain, and not how it is shown",
        patterns: &["crate::likes", "crate::view", "crate::cli"],
        within: &["client/src/runner"],
        except: &[],
    },
    Absence {
        why: "likes are what they are, however they are shown",
        patterns: &["crate::view", "crate::cli"],
        within: &["client/src/likes"],
        except: &[],
    },
    Absence {
        why: "nobody but the command line knows the command line",
        patterns: &["crate::cli"],
        within: &["client/src/view"],
        except: &[],
    },
    Absence {
        why: "a store is rows of bytes",
        patterns: &[
            "crate::participant",
            "crate::commit",
            "crate::net",
            "crate::service",
            "crate::likes",
            "crate::cli",
        ],
        within: &["daemon/src/store"],
        except: &[],
    },
    Absence {
        why: "a participant decides; it neither commits nor answers",
        patterns: &["crate::commit", "crate::net", "crate::service", "crate::likes", "crate::cli"],
        within: &["daemon/src/participant"],
        except: &[],
    },
    Absence {
        why: "the commit loop knows no connection and no process",
        patterns: &["crate::net", "crate::service", "crate::likes", "crate::cli"],
        within: &["daemon/src/commit"],
        except: &[],
    },
    Absence {
        why: "a domain is free of sockets, queues and processes",
        patterns: &["crate::commit", "crate::net", "crate::service", "crate::cli", "tokio", "sled"],
        within: &["daemon/src/likes"],
        except: &[],
    },
];

fn is_at(source: &Source, places: &[&str]) -> bool {
    places.iter().any(|place| {
        let below = source.path.strip_prefix(place);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

#[test]
fn what_must_be_absent_is_absent() {
    let all: Vec<_> = ["protocol", "process", "daemon", "client", "gateway", "tests", "threads"]
        .iter()
        .flat_map(|member| source::below(&format!("{member}/src"), false))
        .collect();
    let mut broken = Vec::new();
    for rule in ABSENCES {
        let looked_at: Vec<_> = all.iter().filter(|source| is_at(source, rule.within)).collect();
        for place in rule.within {
            let any = looked_at.iter().any(|source| is_at(source, &[place]));
            assert!(any, "a rule looks at {place}, where nothing is: {}", rule.why);
        }
        for source in looked_at.iter().filter(|source| !is_at(source, rule.except)) {
            let found = rule.patterns.iter().filter(|pattern| source.has(pattern));
            broken.extend(found.map(|pattern| format!("{}: `{pattern}`: {}", source.path, rule.why)));
        }
        for place in rule.except {
            let mut excepted = looked_at.iter().filter(|source| is_at(source, &[place]));
            let needed = excepted.any(|source| rule.patterns.iter().any(|pattern| source.has(pattern)));
            if !needed {
                broken.push(format!("{place} needs no exception: {}", rule.why));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn files_are_short_enough_to_be_read() {
    let members = ["protocol", "process", "daemon", "client", "gateway", "tests", "threads"];
    let all = members.iter().flat_map(|member| source::below(member, true));
    let long: Vec<_> = all
        .filter(|source| source.lines > LINES_MAX)
        .map(|s| format!("{}: {} lines", s.path, s.lines))
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

/// Dependencies of one package: name, and whether it is needed for tests alone.
fn dependencies(metadata: &Value, package: &str) -> Vec<(String, bool)> {
    let packages = metadata["packages"].as_array().expect("packages");
    let found = packages.iter().find(|p| p["name"] == package).expect("a member of the workspace");
    let dependencies = found["dependencies"].as_array().expect("dependencies");
    let name = |d: &Value| d["name"].as_str().expect("a name").to_owned();
    dependencies.iter().map(|d| (name(d), d["kind"] == "dev")).collect()
}

#[test]
fn packages_depend_on_each_other_one_way() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(source::root())
        .output()
        .expect("cargo runs");
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let forbidden = [
        (
            "like-protocol",
            &["like-process", "like-daemon", "like-client", "like-gateway", "like-tests", "sled", "clap"][..],
        ),
        (
            "like-process",
            &[
                "like-protocol",
                "like-daemon",
                "like-client",
                "like-gateway",
                "like-tests",
                "sled",
                "clap",
                "tokio",
            ],
        ),
        ("like-daemon", &["like-client", "like-gateway", "like-tests", "like-threads"]),
        (
            "like-client",
            &["like-process", "like-daemon", "like-gateway", "like-tests", "like-threads", "sled"],
        ),
        ("like-gateway", &["like-daemon", "like-tests", "like-threads", "sled"]),
    ];
    for (package, absent) in forbidden {
        for (name, _) in dependencies(&metadata, package) {
            assert!(!absent.contains(&name.as_str()), "{package} depends on {name}");
        }
    }
    for (package, only_here) in
        [("like-daemon", "sled"), ("like-protocol", "bincode"), ("like-protocol", "fail")]
    {
        for member in ["like-protocol", "like-process", "like-daemon", "like-client", "like-gateway"] {
            let has = dependencies(&metadata, member).iter().any(|(name, _)| name == only_here);
            assert_eq!(has, member == package, "{member} and {only_here}");
        }
    }
}

#[test]
fn failpoints_are_turned_on_by_tests_alone() {
    for member in ["protocol", "process", "daemon", "client", "gateway", "tests"] {
        let manifest =
            std::fs::read_to_string(source::root().join(member).join("Cargo.toml")).expect("a manifest");
        let before_tests = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        let turned_on = before_tests
            .lines()
            .filter(|line| line.contains("features = [") && line.contains("\"failpoints\""));
        assert_eq!(turned_on.count(), 0, "{member} turns failpoints on");
    }
}
