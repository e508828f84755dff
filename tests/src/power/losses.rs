//! What a power loss does to the changes that are not certain: kinds of loss, and which to try at one point of a record.

use std::collections::HashMap;

use super::disk::{About, Fate, Moment, Open};
use crate::random::Random;

/// A kind of loss.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Loss {
    /// Everything uncertain is lost.
    All,
    /// Nothing is lost.
    Nothing,
    /// What happened up to a moment is kept, and nothing after it: the order of a journaling file system.
    Later,
    /// The same, and the last write that is kept is torn.
    LaterAndTorn,
    /// Names are kept, what is in the files is lost or zeros.
    Bytes,
    /// Names are lost, what is in the files is kept.
    Names,
    /// One change alone is lost or torn, all others are kept.
    One,
    /// One change alone is kept.
    AllButOne,
    /// Each change for itself is kept or lost: every combination, when there are few changes.
    Any,
    /// Each change for itself is kept, lost or torn.
    AnyTorn,
}

/// What becomes of each uncertain change.
pub type Fates = HashMap<Moment, Fate>;

/// How many uncertain changes are tried in every combination: all pairs of lost and kept.
const COMBINED_MAX: usize = 6;

/// Which losses to try: the plain ones first, then any number of others.
pub fn losses<'a>(open: &'a [Open], random: &'a mut Random) -> impl Iterator<Item = (Loss, Fates)> + 'a {
    let all = |fate| open.iter().map(move |open| (open.moment, fate)).collect::<Fates>();
    let plain = [(Loss::All, all(Fate::Lost)), (Loss::Nothing, all(Fate::Kept))];
    let (names, bytes) = (by_kind(open, Fate::Kept, Fate::Zeros), by_kind(open, Fate::Lost, Fate::Kept));
    let combined = if open.len() <= COMBINED_MAX { 1_u64 << open.len() } else { 0 };
    let combinations = (0..combined).map(|bits| {
        let kept = |at: usize| if bits >> at & 1 == 1 { Fate::Kept } else { Fate::Lost };
        (Loss::Any, open.iter().enumerate().map(|(at, open)| (open.moment, kept(at))).collect())
    });
    let names_alone = by_kind(open, Fate::Kept, Fate::Lost);
    let first =
        plain.into_iter().chain([(Loss::Bytes, names), (Loss::Bytes, names_alone), (Loss::Names, bytes)]);
    first.chain(combinations).chain(std::iter::repeat_with(move || drawn(open, random)))
}

fn by_kind(open: &[Open], names: Fate, bytes: Fate) -> Fates {
    let fate = |open: &Open| match open.about {
        About::Name => names,
        About::Bytes { .. } => bytes,
        About::Length => {
            if bytes == Fate::Zeros {
                Fate::Kept
            } else {
                bytes
            }
        }
    };
    open.iter().map(|open| (open.moment, fate(open))).collect()
}

fn drawn(open: &[Open], random: &mut Random) -> (Loss, Fates) {
    if open.is_empty() {
        return (Loss::Nothing, Fates::new());
    }
    // The newest change is what was going on when the power failed.
    let newest = open.len() - 1;
    let at = if random.percent(50) { newest } else { random.below(open.len() as u64) as usize };
    let one = open[at].moment;
    let but_for = |fate: Fate, others: Fate| {
        open.iter()
            .map(|open| (open.moment, if open.moment == one { fate } else { others }))
            .collect::<Fates>()
    };
    let up_to = |fate: Fate| {
        let of = |moment: Moment| match moment.cmp(&one) {
            std::cmp::Ordering::Less => Fate::Kept,
            std::cmp::Ordering::Equal => fate,
            std::cmp::Ordering::Greater => Fate::Lost,
        };
        open.iter().map(|open| (open.moment, of(open.moment))).collect::<Fates>()
    };
    match random.below(9) {
        0 => (Loss::Later, up_to(Fate::Lost)),
        1 | 8 => (Loss::LaterAndTorn, up_to(torn(&open[at], random))),
        2 => (Loss::One, but_for(damaged(&open[at], random), Fate::Kept)),
        3 => (Loss::AllButOne, but_for(kept(&open[at], random), Fate::Lost)),
        4 | 5 => {
            let share = [15, 50, 85][random.below(3) as usize];
            let mut fate = || if random.percent(share) { Fate::Kept } else { Fate::Lost };
            (Loss::Any, open.iter().map(|open| (open.moment, fate())).collect())
        }
        _ => {
            let share = [15, 50, 85][random.below(3) as usize];
            let fates = open.iter().enumerate().map(|(at, open)| {
                let kept = if at == newest { 0 } else { share };
                let fate = if random.percent(kept) { Fate::Kept } else { damaged(open, random) };
                (open.moment, fate)
            });
            (Loss::AnyTorn, fates.collect())
        }
    }
}

/// Kept, or of it something.
fn kept(open: &Open, random: &mut Random) -> Fate {
    if random.percent(50) { Fate::Kept } else { torn(open, random) }
}

/// Lost, or of it something.
fn damaged(open: &Open, random: &mut Random) -> Fate {
    if random.percent(40) { Fate::Lost } else { torn(open, random) }
}

/// Something of it.
fn torn(open: &Open, random: &mut Random) -> Fate {
    let About::Bytes { at, count, .. } = open.about else {
        return if random.percent(50) { Fate::Kept } else { Fate::Lost };
    };
    let mut cut = || {
        let cut = random.below(count + 1);
        // Most disks tear between sectors, some anywhere.
        let aligned = (at + cut) / super::disk::SECTOR_BYTES * super::disk::SECTOR_BYTES;
        if random.percent(50) { aligned.clamp(at, at + count) - at } else { cut }
    };
    let (one, other) = (cut(), cut());
    match random.below(6) {
        0 => Fate::Zeros,
        1 | 2 => Fate::Part(0, one),
        3 => Fate::Part(one, count),
        4 => Fate::Part(one.min(other), one.max(other)),
        _ => Fate::Sectors(random.any()),
    }
}
