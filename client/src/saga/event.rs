//! What can happen to a saga: the stored vocabulary of the saga log.
//!
//! These are stored types, pinned by golden bytes. Whatever is added, removed or reordered needs a new log format
//! version: a program that doesn't know an event takes its record for a torn or damaged one.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use like_protocol::ids::StoreId;
use like_protocol::message::{self, Payload};
use like_protocol::time::Deadline;

/// A name from a definition, or from a log.
pub type Name = Cow<'static, str>;

/// One thing that happened to a saga.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// The saga exists. Durable before its first request leaves.
    Begun(Arc<Begun>),
    /// An action is about to leave: from now on it may have run.
    ActionSent {
        /// Which step.
        step: u8,
        /// The how-manieth attempt, counted from 1.
        attempt: u32,
    },
    /// An action has run; what it answered.
    ActionDone {
        /// Which step.
        step: u8,
        /// Its reply.
        reply: Payload,
    },
    /// A business rule forbids an action: final.
    ActionRejected {
        /// Which step.
        step: u8,
        /// The rule, in the domain's words.
        rejection: Payload,
    },
    /// The step's history at the participant forbids the action: final.
    ActionRefused {
        /// Which step.
        step: u8,
        /// How.
        refusal: Refusal,
    },
    /// An attempt at an action came to nothing, or nothing is known of it. It will be tried again.
    ActionFailed {
        /// Which step.
        step: u8,
        /// Why.
        failure: Failure,
    },
    /// From here the saga only goes back. Durable before the first compensation leaves or a failure is told to anyone.
    TurnedBack(TurnBack),
    /// A compensation is about to leave.
    CompensationSent {
        /// Which step.
        step: u8,
        /// The how-manieth attempt, counted from 1.
        attempt: u32,
    },
    /// A step is undone, or will never be done.
    CompensationDone {
        /// Which step.
        step: u8,
    },
    /// An attempt at a compensation came to nothing. It will be tried again, without end.
    CompensationFailed {
        /// Which step.
        step: u8,
        /// How many attempts at this compensation have failed in a row.
        in_a_row: u32,
        /// Why.
        failure: Failure,
    },
    /// The saga has ended by itself. Written before anyone is told, durable before participants are settled.
    Ended(End),
    /// An operator has ended the saga. Durable before participants are settled.
    Forced {
        /// As what it counts from now on.
        end: End,
        /// Why, in the operator's words.
        reason: String,
        /// The operator's uid.
        by_uid: u32,
        /// The invariants that may be left broken.
        leaves_broken: Vec<String>,
    },
    /// Another process has taken the saga over from a dead runner.
    TakenOver {
        /// Its process id.
        by_pid: u32,
    },
    /// An operator has given the saga a new deadline, unless the one it has is later.
    Resumed {
        /// The new deadline.
        deadline: Deadline,
        /// The operator's uid.
        by_uid: u32,
    },
    /// Every participant has confirmed the end.
    Settled,
    /// A part of the saga's record was found damaged: nobody drives it until an operator forces an end.
    Quarantined {
        /// What is damaged, and where.
        detail: String,
    },
}

/// How a saga begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Begun {
    /// The kind of saga.
    pub kind: Name,
    /// The version of the kind's definition.
    pub version: u16,
    /// The parameters, as the definition encodes them.
    pub params: Payload,
    /// The services that take part, and the stores they had. The saga is never driven against others.
    pub participants: Vec<ParticipantAt>,
    /// The steps, so that a log can be read, and an end forced, by a program that doesn't know the kind.
    pub steps: Vec<PlannedStep>,
    /// The deadline that its runner set.
    pub deadline: Deadline,
    /// The uid for which it was begun.
    pub by_uid: u32,
}

impl Begun {
    /// The service of a step.
    pub fn participant_of(&self, step: usize) -> &ParticipantAt {
        &self.participants[usize::from(self.steps[step].participant)]
    }
}

/// A service as a saga found it when it began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ParticipantAt {
    /// Its role.
    pub role: Name,
    /// The store it had; unknown for a saga that is written only to force its end.
    pub store: Option<StoreId>,
}

/// A step as it was planned when its saga began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlannedStep {
    /// What it does.
    pub name: Name,
    /// The position of its service in [`Begun::participants`].
    pub participant: u8,
    /// Its number towards the participant.
    pub number: u8,
}

/// Why a saga turned back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TurnBack {
    /// A business rule forbade the step.
    Rejected {
        /// Which step.
        step: u8,
    },
    /// The step's history forbade it.
    Refused {
        /// Which step.
        step: u8,
    },
    /// The deadline passed before the step was done.
    Deadline {
        /// Which step.
        step: u8,
    },
    /// An operator chose so. Every step is compensated, whether it is known to have been sent or not.
    Operator {
        /// The operator's uid.
        by_uid: u32,
    },
}

/// How a saga ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum End {
    /// Every step is done.
    Completed,
    /// Every step that may have been done is undone.
    Compensated,
}

impl End {
    /// Its name, as people give and are told it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Compensated => "compensated",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a step's history at its participant forbids its action.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// Its compensation came first.
    Compensated,
    /// Its deadline had passed, and it had never run.
    Expired,
    /// Its saga had been ended.
    Final,
}

impl From<message::Refusal> for Refusal {
    fn from(refusal: message::Refusal) -> Self {
        match refusal {
            message::Refusal::Compensated => Self::Compensated,
            message::Refusal::Expired => Self::Expired,
            message::Refusal::Final => Self::Final,
        }
    }
}

/// Why an attempt came to nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What is known.
    pub kind: FailureKind,
    /// What happened, in words.
    pub detail: String,
}

/// What is known of an attempt that came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum FailureKind {
    /// The request never left: there was no connection.
    NotSent,
    /// Nothing is known: it may have run.
    Unknown,
    /// Another saga holds what it needs.
    Locked,
    /// The daemon's queue is full, or it is shutting down.
    Busy,
    /// The daemon is short of disk space.
    Storage,
    /// The daemon has another store than the one the saga began with.
    OtherStore,
    /// The daemon says that the request makes no sense, or answered what makes none.
    Invalid,
    /// The daemon had settled the step as final.
    Final,
    /// A row that the daemon needs for it is damaged: whether it has run is not known.
    Damaged,
}
