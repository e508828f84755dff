//! The rules, each of which can be switched off: then the check must fail. A mutation that nobody notices would be a hole
//! in the model.

use super::property::Property;

/// A rule that is switched off.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mutation {
    /// A compensation that comes before its action leaves nothing.
    NoTombstone,
    /// An action that was never run is run past its deadline too.
    NoRefusalPastDeadline,
    /// A record is forgotten when its deadline has passed, settled or not.
    CollectUnsettled,
    /// A record is forgotten when it is settled, its deadline passed or not.
    CollectBeforeDeadline,
    /// A deadline of an earlier boot counts as if it were of this one.
    OtherBootAhead,
    /// Nothing is held.
    NoLock,
    /// What is undone is no longer held.
    UndoingUnlocks,
    /// A caller's key is not held with the record.
    KeyNotHeld,
    /// The first answer is not kept with the key.
    KeyWithoutAnswer,
    /// A compensation writes the count back that stood before the action.
    OldCountBack,
    /// A daemon answers before its group is synced.
    AnswerUnsynced,
    /// `Begun` is not synced before the first request leaves.
    BeginUnsynced,
    /// `TurnedBack` is not synced before a compensation leaves or a failure is told.
    TurnBackUnsynced,
    /// The end is not synced before participants are told of it.
    EndUnsynced,
    /// What a takeover carries over is not synced before it goes on.
    CarryUnsynced,
    /// The caller is told before the end is written.
    ToldBeforeEnd,
    /// `Sent` is not written before the request leaves: a step that was sent counts as never sent.
    SentUnwritten,
    /// A step whose service never said hello counts as sent.
    UnsentWritten,
    /// A saga that was taken over gives up at its deadline.
    GivesUpAfterTakeover,
    /// Recovery turns back what is past its deadline.
    SecondRecoveryRule,
    /// Participants are told the first deadline with the end, and not the latest.
    SettleOldDeadline,
    /// What had ended when it was taken over is not settled again.
    SettleNotRepeated,
    /// A saga counts as settled when one participant has confirmed.
    SettledByOne,
    /// The steps of an unlike go side by side, as those of a like do.
    UnlikeSideBySide,
    /// A check before a saga decides by a locked row.
    CheckDecidesOnLocked,
    /// An audit compares three plain reads.
    AuditByPlainReads,
}

/// A mutation, where it is noticed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Switch {
    /// Which rule is off.
    pub mutation: Mutation,
    /// Its name on the command line.
    pub name: &'static str,
    /// The smallest world that notices it.
    pub world: &'static str,
    /// What is broken there.
    pub breaks: Property,
}

const fn switch(mutation: Mutation, name: &'static str, world: &'static str, breaks: Property) -> Switch {
    Switch { mutation, name, world, breaks }
}

/// All mutations.
pub const SWITCHES: &[Switch] = &[
    switch(Mutation::NoTombstone, "no-tombstone", "operator", Property::FailureHasNoEffect),
    switch(
        Mutation::NoRefusalPastDeadline,
        "no-refusal-past-deadline",
        "one-like",
        Property::FailureHasNoEffect,
    ),
    switch(Mutation::CollectUnsettled, "collect-unsettled", "one-like", Property::EffectsOnce),
    switch(Mutation::CollectBeforeDeadline, "collect-before-deadline", "one-like", Property::EffectsOnce),
    switch(Mutation::OtherBootAhead, "other-boot-ahead", "one-like", Property::AnswersMakeSense),
    switch(Mutation::NoLock, "no-lock", "like-unlike", Property::CountNotBelowZero),
    switch(Mutation::UndoingUnlocks, "undoing-unlocks", "two-unlikes", Property::CountNotBelowZero),
    switch(Mutation::KeyNotHeld, "key-not-held", "key-of-another", Property::AcknowledgedStands),
    switch(Mutation::KeyWithoutAnswer, "key-without-answer", "same-key", Property::SameKeySameAnswer),
    switch(Mutation::OldCountBack, "old-count-back", "two-users", Property::FailureHasNoEffect),
    switch(Mutation::AnswerUnsynced, "answer-unsynced", "one-like", Property::EffectsOnce),
    switch(Mutation::BeginUnsynced, "begin-unsynced", "one-like", Property::LocksAreTraced),
    switch(Mutation::TurnBackUnsynced, "turn-back-unsynced", "one-like", Property::FailureHasNoEffect),
    switch(Mutation::EndUnsynced, "end-unsynced", "one-like", Property::EffectsOnce),
    switch(Mutation::CarryUnsynced, "carry-unsynced", "one-like", Property::LocksAreTraced),
    switch(Mutation::ToldBeforeEnd, "told-before-end", "operator", Property::AcknowledgedStands),
    switch(Mutation::SentUnwritten, "sent-unwritten", "one-like", Property::EventsFit),
    switch(Mutation::UnsentWritten, "unsent-written", "users-down", Property::AnEndIsReachable),
    switch(
        Mutation::GivesUpAfterTakeover,
        "gives-up-after-takeover",
        "one-like",
        Property::FailureHasNoEffect,
    ),
    switch(Mutation::SecondRecoveryRule, "second-recovery-rule", "one-like", Property::AcknowledgedStands),
    switch(Mutation::SettleOldDeadline, "settle-old-deadline", "forced", Property::EffectsOnce),
    switch(Mutation::SettleNotRepeated, "settle-not-repeated", "one-like", Property::AnEndIsReachable),
    switch(Mutation::SettledByOne, "settled-by-one", "one-like", Property::LocksAreTraced),
    switch(Mutation::UnlikeSideBySide, "unlike-side-by-side", "like-unlike", Property::CountNotBelowZero),
    switch(
        Mutation::CheckDecidesOnLocked,
        "check-decides-on-locked",
        "same-key",
        Property::AcknowledgedStands,
    ),
    switch(Mutation::AuditByPlainReads, "audit-by-plain-reads", "audited", Property::AuditInventsNothing),
];

/// The mutation of a name.
pub fn find(name: &str) -> Option<&'static Switch> {
    SWITCHES.iter().find(|switch| switch.name == name)
}
