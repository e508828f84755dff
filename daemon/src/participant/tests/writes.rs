//! A domain may write before it finds that it must reject: the engine forgets what it wrote.

use super::*;
use crate::participant::domain::{Context, Domain, Stop};
use crate::participant::holds::Hold;
use like_protocol::ids::SagaId;

/// Writes first, and then rejects every operation and command that asks for a 0.
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

    fn settle(&self, _: &mut Context<'_, '_>, _: SagaId, _: &u8, _: Option<()>) -> Result<(), StoreError> {
        Ok(())
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
