//! A state of the model, and the steps between states.

use super::world::SAGAS_MAX;

/// What is true of an ask and its saga, as bits.
pub mod flag {
    /// The ask has been made.
    pub const ASKED: u16 = 1;
    /// A runner drives the saga.
    pub const LIVE: u16 = 1 << 1;
    /// The article service, and the user service one bit higher, has confirmed the end to the runner at work.
    pub const CONFIRMED: u16 = 1 << 2;
    /// Both have.
    pub const CONFIRMED_BOTH: u16 = CONFIRMED | CONFIRMED << 1;
    /// The saga's step at the article service, and that at the user service one bit higher, has taken effect.
    pub const EFFECT: u16 = 1 << 4;
    /// Both have.
    pub const EFFECT_BOTH: u16 = EFFECT | EFFECT << 1;
    /// Someone was told in this boot that the saga's effects stand.
    pub const AFFIRMED: u16 = 1 << 6;
    /// Someone was told so in an earlier boot.
    pub const AFFIRMED_BEFORE: u16 = 1 << 7;
    /// Someone was told that the saga has no effect.
    pub const DENIED: u16 = 1 << 8;
}

/// One ask and its saga.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct SagaPart {
    /// Its log, by number; 0 is an empty one.
    pub log: u32,
    /// The requests of it that are on their way, as a set's number: each may arrive any number of times.
    pub sent: u32,
    /// What its caller was told, by number; 0 is nothing.
    pub told: u16,
    /// See [`flag`].
    pub flags: u16,
}

impl SagaPart {
    /// Whether all of these bits are set.
    pub fn is(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// Sets or clears bits.
    pub fn set(&mut self, flags: u16, on: bool) {
        self.flags = if on { self.flags | flags } else { self.flags & !flags };
    }
}

/// A state of the whole world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct State {
    /// Which boot, counted from 0.
    pub boot: u8,
    /// Which instant of the boot, counted from 0.
    pub instant: u8,
    /// How many sagas were resumed, turned back and forced by an operator.
    pub orders: [u8; 3],
    /// What the article and the user service have stored, by number.
    pub stores: [u32; 2],
    /// Where an audit stands, by number; 0 is nowhere.
    pub audit: u32,
    /// The sagas, in the order of the asks.
    pub sagas: [SagaPart; SAGAS_MAX],
}

/// An order of an operator to a saga that is taken over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Order {
    /// None: the one recovery rule.
    GoOn,
    /// `--resume`: a new deadline first.
    Resume,
    /// `--compensate`: it is turned back.
    Compensate,
    /// It is ended by force, as compensated.
    Force,
}

/// What happens between two states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A caller asks, and a runner begins a saga for it.
    Begin(u8),
    /// A caller asks, and the checks before a saga answer.
    Check(u8),
    /// A saga's runner does the next thing, by its place among those it could do.
    Move(u8, u8),
    /// A request of a saga arrives, and its answer is lost or nobody waits for it.
    Arrive(u8, u16),
    /// A request of a saga arrives, and its runner gets the answer.
    Answer(u8, u16),
    /// A saga's runner dies.
    Kill(u8),
    /// A saga of a dead runner is taken over.
    Recover(u8, Order),
    /// The next instant.
    Tick,
    /// The power is lost: how many records of each log are left.
    PowerLoss([u8; SAGAS_MAX]),
    /// A daemon forgets what may be forgotten: the article service or the user service.
    Collect(u8),
    /// An audit takes its next look.
    Look,
}

impl Step {
    /// Whether a saga gets on by it without anyone's help and without another fault: by such steps alone every state must
    /// reach an end.
    pub fn is_ordinary(&self) -> bool {
        match self {
            Self::Move(..) | Self::Arrive(..) | Self::Answer(..) | Self::Tick | Self::Collect(_) => true,
            Self::Recover(_, order) => *order == Order::GoOn,
            Self::Begin(_) | Self::Check(_) | Self::Kill(_) | Self::PowerLoss(_) | Self::Look => false,
        }
    }
}
