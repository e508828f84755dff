//! The worlds: who asks for what, and how much may happen.
//!
//! A world is finite by what stands here and by nothing else: runners may die and sagas be taken over any number of times,
//! and a message may arrive any number of times. Each world names its bound.

use like_protocol::likes::user::KeyUse;

/// How many sagas a world has at most.
pub const SAGAS_MAX: usize = 4;

/// What one caller asks for, once. A retry is one ask more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Like or unlike.
    pub usage: KeyUse,
    /// Who.
    pub user: u64,
    /// Which article.
    pub article: u64,
    /// The caller's idempotency key.
    pub key: Option<u8>,
}

/// One world.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What callers ask for, each at any moment.
    pub asks: &'static [Ask],
    /// Whether user 1 likes article 1 from the beginning.
    pub liked: bool,
    /// How many instants a boot has. A saga's deadline is the instant after the one at which it begins or is resumed.
    pub instants: u8,
    /// How many power losses there may be.
    pub power_losses: u8,
    /// Whether runners may die.
    pub kills: bool,
    /// How many sagas an operator may resume with a new deadline.
    pub resumes: u8,
    /// How many an operator may turn back.
    pub compensates: u8,
    /// How many an operator may end by force.
    pub forces: u8,
    /// Whether an audit may look, any number of times.
    pub audits: bool,
    /// Whether callers' checks before a saga may be answered.
    pub checks: bool,
    /// Whether the user service is down all the time.
    pub users_down: bool,
    /// Whether the default test searches it.
    pub small: bool,
}

const fn like(key: Option<u8>) -> Ask {
    Ask { usage: KeyUse::Like, user: 1, article: 1, key }
}

const fn unlike(key: Option<u8>) -> Ask {
    Ask { usage: KeyUse::Unlike, user: 1, article: 1, key }
}

/// A world in which nothing but processes of its own may go wrong.
const PLAIN: World = World {
    name: "",
    about: "",
    asks: &[],
    liked: false,
    instants: 2,
    power_losses: 0,
    kills: true,
    resumes: 0,
    compensates: 0,
    forces: 0,
    audits: false,
    checks: false,
    users_down: false,
    small: false,
};

/// A world of several asks in which runners die only with the power.
const SEVERAL: World = World { kills: false, ..PLAIN };

/// All worlds, the small ones first.
pub const WORLDS: &[World] = &[
    World {
        name: "one-like",
        about: "one like, a power loss, resumed once",
        asks: &[like(None)],
        power_losses: 1,
        resumes: 1,
        small: true,
        ..PLAIN
    },
    World {
        name: "one-unlike",
        about: "one unlike of an old like, a power loss",
        asks: &[unlike(None)],
        liked: true,
        power_losses: 1,
        small: true,
        ..PLAIN
    },
    World {
        name: "operator",
        about: "one like that an operator may turn back, a power loss",
        asks: &[like(None)],
        power_losses: 1,
        compensates: 1,
        small: true,
        ..PLAIN
    },
    World {
        name: "forced",
        about: "one like that an operator may resume, and end by force",
        asks: &[like(None)],
        resumes: 1,
        forces: 1,
        small: true,
        ..PLAIN
    },
    World {
        name: "users-down",
        about: "a like while the user service is down all the time",
        asks: &[like(None)],
        users_down: true,
        small: true,
        ..SEVERAL
    },
    World {
        name: "audited",
        about: "a like beside that of another user, audited at any moment",
        asks: &[Ask { user: 2, ..like(None) }],
        liked: true,
        audits: true,
        small: true,
        ..SEVERAL
    },
    World {
        name: "two-users",
        about: "a like, and an unlike of the old like of another user",
        asks: &[Ask { user: 2, ..like(None) }, unlike(None)],
        liked: true,
        ..SEVERAL
    },
    World {
        name: "like-unlike",
        about: "a like and an unlike of the same, with checks",
        asks: &[like(None), unlike(None)],
        checks: true,
        small: true,
        ..SEVERAL
    },
    World {
        name: "two-unlikes",
        about: "two unlikes of one old like, with checks",
        asks: &[unlike(None), unlike(None)],
        liked: true,
        checks: true,
        small: true,
        ..SEVERAL
    },
    World {
        name: "same-key",
        about: "one key in two likes at once, with checks",
        asks: &[like(Some(1)), like(Some(1))],
        checks: true,
        small: true,
        ..SEVERAL
    },
    World {
        name: "key-of-another",
        about: "one key in likes of two articles at once, with checks",
        asks: &[like(Some(1)), Ask { article: 2, ..like(Some(1)) }],
        checks: true,
        ..SEVERAL
    },
    World {
        name: "forced-power",
        about: "one like that an operator may turn back or end by force, a power loss",
        asks: &[like(None)],
        power_losses: 1,
        compensates: 1,
        forces: 1,
        ..PLAIN
    },
    World {
        name: "one-like-long",
        about: "one like, two power losses, resumed once",
        asks: &[like(None)],
        power_losses: 2,
        resumes: 1,
        ..PLAIN
    },
    World {
        name: "one-unlike-long",
        about: "one unlike of an old like, two power losses, resumed once",
        asks: &[unlike(None)],
        liked: true,
        power_losses: 2,
        resumes: 1,
        ..PLAIN
    },
    World {
        name: "like-unlike-kills",
        about: "a like and an unlike of the same, with checks; runners die",
        asks: &[like(None), unlike(None)],
        checks: true,
        ..PLAIN
    },
    World {
        name: "like-unlike-power",
        about: "a like and an unlike of the same, a power loss",
        asks: &[like(None), unlike(None)],
        power_losses: 1,
        ..SEVERAL
    },
    World {
        name: "two-likes-kills",
        about: "two likes of the same; runners die",
        asks: &[like(None), like(None)],
        ..PLAIN
    },
    World {
        name: "two-unlikes-kills",
        about: "two unlikes of one old like, with checks; runners die",
        asks: &[unlike(None), unlike(None)],
        liked: true,
        checks: true,
        ..PLAIN
    },
    World {
        name: "same-key-power",
        about: "one key in two likes at once, a power loss, with checks",
        asks: &[like(Some(1)), like(Some(1))],
        instants: 1,
        power_losses: 1,
        checks: true,
        ..SEVERAL
    },
    World {
        name: "two-users-audited",
        about: "a like, and an unlike of the old like of another user, audited at any moment",
        asks: &[Ask { user: 2, ..like(None) }, unlike(None)],
        liked: true,
        audits: true,
        ..SEVERAL
    },
    World {
        name: "like-like-unlike",
        about: "two likes and an unlike of the same",
        asks: &[like(None), like(None), unlike(None)],
        ..SEVERAL
    },
    World {
        name: "like-like-power",
        about: "two likes of the same, a power loss",
        asks: &[like(None), like(None)],
        instants: 1,
        power_losses: 1,
        ..SEVERAL
    },
    World {
        name: "keys",
        about: "one key in two likes and an unlike of the same, with checks",
        asks: &[like(Some(1)), like(Some(1)), unlike(Some(1))],
        instants: 1,
        checks: true,
        ..SEVERAL
    },
];

/// The world of a name.
pub fn find(name: &str) -> Option<&'static World> {
    WORLDS.iter().find(|world| world.name == name)
}

impl World {
    /// Its bound, in words.
    pub fn bound(&self) -> String {
        let mut bound = format!(
            "{} asks, {} instants in each of {} boots",
            self.asks.len(),
            self.instants,
            self.power_losses + 1
        );
        for (what, times) in
            [("resumed", self.resumes), ("turned back", self.compensates), ("forced", self.forces)]
        {
            if times > 0 {
                bound += &format!(", {what} at most {times} times");
            }
        }
        if !self.kills {
            bound += ", no runner dies but by power loss";
        }
        if self.users_down {
            bound += ", the user service is down";
        }
        bound
    }
}
