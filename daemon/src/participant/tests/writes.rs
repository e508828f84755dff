//! What a domain writes: it may do so before it finds that it must reject, and more than a store can take; the engine then
//! forgets what it wrote.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::participant::domain::{Context, Domain, Stop};
use crate::participant::holds::Hold;
use crate::participant::record::STORED_BYTES_MAX;
use crate::store::fields::{Fields, Malformed, Stored, put_number};
use crate::store::logged_store::VALUE_BYTES_MAX;
use crate::store::{DOMAIN_TAG_FIRST, KeyRange, MemoryStore};
use like_protocol::ids::SagaId;

/// Writes first, and then rejects every operation and command that asks for a 0. At an end it writes, and then looks at a row.
#[derive(Clone, Copy)]
struct Hasty;

impl Hasty {
    fn write(context: &mut Context<'_, '_>, number: u8) -> Result<(), Stop<()>> {
        context.put(vec![0x10, number], Vec::new());
        if number == 0 { Err(Stop::Rejected(())) } else { Ok(()) }
    }
}

impl crate::store::fields::Stored for u8 {
    fn store(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn load(fields: &mut crate::store::fields::Fields<'_>) -> Result<Self, crate::store::fields::Malformed> {
        fields.byte()
    }
}

impl Domain for Hasty {
    const ROLE: &'static str = "hasty";
    type Operation = u8;
    type Reply = ();
    type Rejection = ();
    type Note = ();
    type Query = ();
    type Command = u8;
    type Answer = ();

    fn name_of(&self, _: &[u8]) -> Option<String> {
        None
    }

    fn holds(&self, _: &u8) -> Vec<Hold> {
        Vec::new()
    }

    fn act(&self, context: &mut Context<'_, '_>, _: SagaId, number: &u8) -> Result<(), Stop<()>> {
        Self::write(context, *number)
    }

    fn undo(&self, _: &mut Context<'_, '_>, _: SagaId, _: &u8, (): &()) -> Result<(), StoreError> {
        Ok(())
    }

    fn settle(
        &self,
        context: &mut Context<'_, '_>,
        _: SagaId,
        number: &u8,
        _: Option<()>,
    ) -> Result<(), StoreError> {
        context.put(vec![0x11, *number], Vec::new());
        context.load::<()>(&[0x12, *number]).map(drop)
    }

    fn query(&self, _: &Context<'_, '_>, (): ()) -> Result<(), Stop<()>> {
        Ok(())
    }

    fn command(&self, context: &mut Context<'_, '_>, number: u8) -> Result<(), Stop<()>> {
        Self::write(context, number)
    }
}

#[test]
fn what_a_domain_wrote_before_it_rejected_is_forgotten_and_the_rest_of_the_group_is_kept() {
    let mut hasty = Harness::new(Hasty);
    let action = |number: u8| {
        RequestBody::Step(StepRequest {
            id: step(number),
            direction: Direction::Action,
            deadline: hasty.within(1000),
            operation: payload(&number),
        })
    };
    let bodies = vec![action(1), action(0), RequestBody::Command(payload(&0u8)), action(2)];
    let replies = hasty.group(bodies);
    assert_eq!(replies[1..3], [rejected(&()), ReplyBody::Rejected(payload(&()))]);
    let written: Vec<_> = hasty.store.rows().map(|(key, _)| key).filter(|key| key[0] >= 0x10).collect();
    assert_eq!(written, [[0x10, 1], [0x10, 2]]);
}

#[test]
fn what_a_domain_wrote_at_an_end_before_it_met_damage_is_forgotten_and_the_damage_is_noted() {
    for (ending, reply_is) in [
        (Natural, (|reply| matches!(reply, ReplyBody::SettledBut(left) if left.len() == 1)) as fn(_) -> _),
        (Forced, |reply| reply == ReplyBody::Settled),
    ] {
        let mut hasty = Harness::new(Hasty);
        for number in [1, 2] {
            hasty.act(number, &number);
        }
        hasty.store_row(vec![0x12, 1].into(), b"damaged".to_vec());
        let ends = [1, 2].map(|number| hasty.settlement(number, ending)).to_vec();
        assert!(reply_is(hasty.ask(RequestBody::Settle(ends))), "{ending:?}");
        let written: Vec<_> = hasty.store.rows().map(|(key, _)| key).filter(|key| key[0] == 0x11).collect();
        assert_eq!(written, [[0x11, 2]], "{ending:?}");
        assert_eq!(hasty.participant.damaged().0, 1, "{ending:?}");
    }
}

/// Writes down whatever it is told, and says it again.
#[derive(Clone, Copy)]
struct Echo;

#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
struct Words(Vec<u8>);

impl Stored for Words {
    fn store(&self, out: &mut Vec<u8>) {
        put_number(out, self.0.len() as u64);
        out.extend(&self.0);
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let length = fields.number()?;
        (0..length).map(|_| fields.byte()).collect::<Result<_, _>>().map(Self)
    }
}

impl Domain for Echo {
    const ROLE: &'static str = "echo";
    type Operation = Words;
    type Reply = Words;
    type Rejection = ();
    type Note = ();
    type Query = ();
    type Command = ();
    type Answer = ();

    fn name_of(&self, _: &[u8]) -> Option<String> {
        None
    }

    fn holds(&self, _: &Words) -> Vec<Hold> {
        vec![Hold { resource: vec![0x10].into(), mode: crate::participant::holds::Mode::Exclusive }]
    }

    fn act(&self, context: &mut Context<'_, '_>, _: SagaId, words: &Words) -> Result<Words, Stop<()>> {
        context.put(vec![0x10], Vec::new());
        Ok(words.clone())
    }

    fn undo(&self, _: &mut Context<'_, '_>, _: SagaId, _: &Words, _: &Words) -> Result<(), StoreError> {
        Ok(())
    }

    fn settle(&self, _: &mut Context<'_, '_>, _: SagaId, _: &Words, _: Option<()>) -> Result<(), StoreError> {
        Ok(())
    }

    fn query(&self, _: &Context<'_, '_>, (): ()) -> Result<(), Stop<()>> {
        Ok(())
    }

    fn command(&self, _: &mut Context<'_, '_>, (): ()) -> Result<(), Stop<()>> {
        Ok(())
    }
}

#[test]
fn a_step_whose_record_no_store_takes_is_invalid_and_nothing_of_it_happens() {
    // Each with two bytes for its length.
    let longest = Words(vec![7; (STORED_BYTES_MAX - 4) / 2]);
    let longer = Words(vec![7; longest.0.len() + 1]);
    let mut echo = Harness::new(Echo);
    let before = echo.store.clone();
    assert!(payload(&longer).0.len() < PAYLOAD_BYTES_MAX, "no request is too long by itself");
    assert!(matches!(echo.act(1, &longer), ReplyBody::Invalid(why) if why.contains("bytes")));
    assert!(echo.store.rows().eq(before.rows()) && echo.unsettled().is_empty());
    assert_eq!(echo.act(2, &longest), done(&longest), "nothing is held by the other one");
    // However late a deadline it is given yet.
    let latest = Record::<Echo> {
        history: record::History::Applied { operation: longest.clone(), reply: longest },
        settled: true,
        deadline: Deadline { boot: echo.now.boot, at_ms: u64::MAX },
    };
    let mut tx = Tx::new(&echo.store);
    latest.write(&step(2), &mut tx, &echo.participant.boots).unwrap();
    tx.keep();
    let batch = tx.into_batch();
    let long = batch.values().flatten().map(Vec::len).max();
    assert!(long.is_some_and(|long| long <= VALUE_BYTES_MAX && long + 2 * 10 > VALUE_BYTES_MAX), "{long:?}");
}

/// It would break the engine's rules without knowing it.
#[test]
fn a_domain_can_t_reach_the_engines_rows() {
    fn is_kept_out(reach: impl FnOnce(&mut Context<'_, '_>)) -> bool {
        let (store, holds) = (MemoryStore::default(), Holds::default());
        let mut tx = Tx::new(&store);
        let mut context = Context::new(&mut tx, &holds, 0, 0);
        catch_unwind(AssertUnwindSafe(|| reach(&mut context))).is_err()
    }
    let (engines, own) = (&[DOMAIN_TAG_FIRST - 1][..], &[DOMAIN_TAG_FIRST][..]);
    for (key, expected) in [(engines, true), (own, false)] {
        let range = KeyRange::prefix(key);
        let all = [
            is_kept_out(|context| drop(context.get(key))),
            is_kept_out(|context| drop(context.load::<u8>(key))),
            is_kept_out(|context| drop(context.page(&range, 1))),
            is_kept_out(|context| drop(context.firsts(&range, 1, 1))),
            is_kept_out(|context| drop(context.last_key(&range))),
            is_kept_out(|context| context.put(key, Vec::new())),
            is_kept_out(|context| context.delete(key)),
        ];
        assert_eq!(all, [expected; 7], "{key:?}");
    }
}
