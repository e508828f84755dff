//! The wallet service: accounts with a balance.
//!
//! One row per account, with the id in eight bytes, highest first:
//!
//! ```text
//! 10 account   -> balance(number) arriving(number) leaving(number)
//! ```
//!
//! What a deposit brings is `arriving` until its saga has settled, and can't be spent before: so undoing a deposit never
//! takes a balance below zero. What a withdrawal takes is `leaving` for as long, and keeps its place: so undoing a withdrawal
//! never makes more than can be counted. A withdrawal holds its account exclusively; deposits commute and are only counted.

use like_daemon::participant::domain::{Context, Domain, Stop};
use like_daemon::participant::holds::{Hold, Mode, Resource};
use like_daemon::store::fields::{Fields, Malformed, Stored, put_number};
use like_daemon::store::{Found, KeyRange, StoreError};
use like_protocol::ids::SagaId;
use like_protocol::message::PAGE_ROWS_MAX;
use serde::{Deserialize, Serialize};

use super::WALLET_ROLE;

const ACCOUNT: u8 = 0x10;

/// A saga step at the wallet service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WalletOperation {
    /// Take money out. Undone by putting it back.
    Withdraw {
        /// From where.
        account: u64,
        /// How much.
        amount: u64,
    },
    /// Put money in. Undone by taking it out again.
    Deposit {
        /// Where.
        account: u64,
        /// How much.
        amount: u64,
    },
}

/// What a saga step at the wallet service answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WalletReply {
    /// What could be spent from the account right after the step.
    pub balance: u64,
}

/// A rule of the wallet service that forbids what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WalletRejection {
    /// There is no such account.
    NoSuchAccount(u64),
    /// The account has less than what was to be taken out.
    Insufficient(u64),
    /// An account of this id exists.
    AlreadyOpen(u64),
    /// The account would hold more than can be counted.
    TooMuch(u64),
}

/// What can be read at the wallet service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WalletQuery {
    /// Accounts by their ids, a page at a time.
    Accounts {
        /// Only those after this one.
        after: Option<u64>,
    },
}

/// What can be changed at the wallet service outside any saga.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WalletCommand {
    /// Open an account.
    Open {
        /// Its id.
        account: u64,
        /// What it begins with.
        balance: u64,
    },
}

/// An account as it stands on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: u64,
    /// What can be spent.
    pub balance: u64,
    /// What sagas that have not settled have brought.
    pub arriving: u64,
    /// What such sagas have taken.
    pub leaving: u64,
}

/// The wallet service's domain.
#[derive(Clone, Copy, Default, Debug)]
pub struct Wallet;

#[derive(Clone, Copy, Default)]
struct Money {
    balance: u64,
    arriving: u64,
    leaving: u64,
}

impl Money {
    /// All of it, wherever the sagas that move it end.
    fn in_all(self) -> Option<u64> {
        self.balance.checked_add(self.arriving)?.checked_add(self.leaving)
    }
}

type Stopped = Stop<WalletRejection>;

impl Domain for Wallet {
    const ROLE: &'static str = WALLET_ROLE;

    type Operation = WalletOperation;
    type Reply = WalletReply;
    type Rejection = WalletRejection;
    type Note = ();
    type Query = WalletQuery;
    type Command = WalletCommand;
    type Answer = Vec<Account>;

    fn name_of(&self, key: &[u8]) -> Option<String> {
        id_of(key).ok().map(|account| format!("account {account}"))
    }

    fn holds(&self, operation: &WalletOperation) -> Vec<Hold> {
        let (account, mode) = match operation {
            WalletOperation::Withdraw { account, .. } => (account, Mode::Exclusive),
            WalletOperation::Deposit { account, .. } => (account, Mode::Shared),
        };
        let resource = Resource::from_slice(&account.to_be_bytes());
        vec![Hold { resource, mode }]
    }

    fn act(
        &self,
        context: &mut Context<'_, '_>,
        _: SagaId,
        operation: &WalletOperation,
    ) -> Result<WalletReply, Stopped> {
        let (WalletOperation::Withdraw { account, amount } | WalletOperation::Deposit { account, amount }) =
            *operation;
        let Money { balance, arriving, leaving } = existing(context, account)?;
        let money = match operation {
            WalletOperation::Withdraw { .. } => {
                let left = balance.checked_sub(amount);
                let balance = left.ok_or(Stop::Rejected(WalletRejection::Insufficient(account)))?;
                Money { balance, arriving, leaving: leaving + amount }
            }
            WalletOperation::Deposit { .. } => {
                let more = arriving.checked_add(amount).map(|arriving| Money { balance, arriving, leaving });
                let fits = more.filter(|money| money.in_all().is_some());
                fits.ok_or(Stop::Rejected(WalletRejection::TooMuch(account)))?
            }
        };
        context.put(key(account), money.stored());
        Ok(WalletReply { balance: money.balance })
    }

    fn undo(
        &self,
        context: &mut Context<'_, '_>,
        _: SagaId,
        operation: &WalletOperation,
        _: &WalletReply,
    ) -> Result<(), StoreError> {
        change(context, operation, |money| match operation {
            WalletOperation::Withdraw { amount, .. } => {
                money.leaving -= amount;
                money.balance += amount;
            }
            WalletOperation::Deposit { amount, .. } => money.arriving -= amount,
        })
    }

    fn settle(
        &self,
        context: &mut Context<'_, '_>,
        _: SagaId,
        operation: &WalletOperation,
        _: Option<()>,
    ) -> Result<(), StoreError> {
        change(context, operation, |money| match operation {
            WalletOperation::Withdraw { amount, .. } => money.leaving -= amount,
            WalletOperation::Deposit { amount, .. } => {
                money.arriving -= amount;
                money.balance += amount;
            }
        })
    }

    fn query(&self, context: &Context<'_, '_>, query: WalletQuery) -> Result<Vec<Account>, Stopped> {
        let WalletQuery::Accounts { after } = query;
        let all = KeyRange::prefix(&[ACCOUNT]);
        let range = match after {
            Some(after) => all.after(&key(after)),
            None => all,
        };
        let rows = context.page(&range, PAGE_ROWS_MAX)?;
        let account = |row: &Found| {
            let Money { balance, arriving, leaving } = row.load()?;
            Ok(Account { id: id_of(&row.key)?, balance, arriving, leaving })
        };
        rows.iter().map(account).collect()
    }

    fn command(
        &self,
        context: &mut Context<'_, '_>,
        command: WalletCommand,
    ) -> Result<Vec<Account>, Stopped> {
        let WalletCommand::Open { account, balance } = command;
        if context.get(&key(account))?.is_some() {
            return Err(Stop::Rejected(WalletRejection::AlreadyOpen(account)));
        }
        context.put(key(account), Money { balance, ..Money::default() }.stored());
        Ok(vec![Account { id: account, balance, arriving: 0, leaving: 0 }])
    }
}

fn existing(context: &Context<'_, '_>, account: u64) -> Result<Money, Stopped> {
    context.load(&key(account))?.ok_or(Stop::Rejected(WalletRejection::NoSuchAccount(account)))
}

/// Accounts are never closed, so that of an operation that has run is there.
fn change(
    context: &mut Context<'_, '_>,
    operation: &WalletOperation,
    change: impl FnOnce(&mut Money),
) -> Result<(), StoreError> {
    let (WalletOperation::Withdraw { account, .. } | WalletOperation::Deposit { account, .. }) = operation;
    let mut money: Money = context.load(&key(*account))?.expect("accounts are never closed");
    change(&mut money);
    context.put(key(*account), money.stored());
    Ok(())
}

fn key(account: u64) -> Vec<u8> {
    let mut key = vec![ACCOUNT];
    key.extend(account.to_be_bytes());
    key
}

fn id_of(key: &[u8]) -> Result<u64, StoreError> {
    let mut fields = Fields::of(key.get(1..).unwrap_or_default());
    fields.key_number().map_err(|why| StoreError::damaged(key, why))
}

impl Stored for Money {
    fn store(&self, out: &mut Vec<u8>) {
        put_number(out, self.balance);
        put_number(out, self.arriving);
        put_number(out, self.leaving);
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self { balance: fields.number()?, arriving: fields.number()?, leaving: fields.number()? })
    }
}

/// `kind(1) account(number) amount(number)`, where `kind` is 0 to withdraw and 1 to deposit.
impl Stored for WalletOperation {
    fn store(&self, out: &mut Vec<u8>) {
        let (kind, account, amount) = match *self {
            Self::Withdraw { account, amount } => (0, account, amount),
            Self::Deposit { account, amount } => (1, account, amount),
        };
        out.push(kind);
        put_number(out, account);
        put_number(out, amount);
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let kind = fields.byte()?;
        let (account, amount) = (fields.number()?, fields.number()?);
        match kind {
            0 => Ok(Self::Withdraw { account, amount }),
            1 => Ok(Self::Deposit { account, amount }),
            _ => Err(Malformed("an unknown operation")),
        }
    }
}

/// `balance(number)`.
impl Stored for WalletReply {
    fn store(&self, out: &mut Vec<u8>) {
        put_number(out, self.balance);
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self { balance: fields.number()? })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use like_daemon::participant::Participant;
    use like_daemon::store::MemoryStore;
    use like_protocol::codec;
    use like_protocol::ids::{BootId, SagaId, StepId};
    use like_protocol::message::{Direction, Payload, ReplyBody, RequestBody, StepReply, StepRequest};
    use like_protocol::time::Now;

    use super::*;
    use crate::model::daemon::Participate;

    fn encoded<T: Serialize>(value: &T) -> Payload {
        codec::encode(value).unwrap()
    }

    #[test]
    fn what_a_withdrawal_may_bring_back_keeps_its_place() {
        let now = Now { boot: BootId::from_bytes([1; 16]), at_ms: 1_000 };
        let mut store = MemoryStore::default();
        let mut wallet = Participant::open(Wallet, &mut store, &now).unwrap();
        let mut ask = |body| wallet.group(&mut store, &now, Some(body)).unwrap();
        let step = |number, direction, operation: WalletOperation| {
            let id = StepId { saga: SagaId::from_bytes([number; 16]), step: 0 };
            let deadline = now.deadline_in(Duration::from_secs(1));
            RequestBody::Step(StepRequest { id, direction, deadline, operation: encoded(&operation) })
        };
        let account = 7;
        let all = WalletCommand::Open { account, balance: u64::MAX };
        let done = |balance| ReplyBody::Step(StepReply::Done(encoded(&WalletReply { balance })));
        let withdraw = WalletOperation::Withdraw { account, amount: 10 };
        let deposit = WalletOperation::Deposit { account, amount: 1 };
        ask(RequestBody::Command(encoded(&all)));
        assert_eq!(ask(step(1, Direction::Action, withdraw)), done(u64::MAX - 10));
        let too_much = encoded(&WalletRejection::TooMuch(account));
        assert_eq!(ask(step(2, Direction::Action, deposit)), ReplyBody::Step(StepReply::Rejected(too_much)));
        assert_eq!(ask(step(1, Direction::Compensation, withdraw)), ReplyBody::Step(StepReply::Undone));
    }
}
