//! The wallet's transfers as the crash matrix sees them: the same engine, another domain.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use like_client::log::Story;
use like_client::saga::Definition;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::case::Mode;
use super::{Whose, World, daemon_faults};
use crate::process::{Armed, Ended, Running};
use crate::quick::quick_directory;
use crate::wallet::bank::Bank;
use crate::wallet::domain::Account;
use crate::wallet::program::{accounts_after, open_account};
use crate::wallet::transfer::Transfer;

/// What every account that pays begins with.
const BEGINS_WITH: u64 = 100;

/// How much a transfer moves.
const AMOUNT: u64 = 30;

/// No account has this id.
const NOBODY: u64 = u64::MAX;

/// The deadline of a transfer that is not to meet it.
const AMPLE: Duration = Duration::from_secs(20);

/// A bank, and the accounts that a case is about.
#[derive(Debug)]
pub struct Transfers {
    bank: Bank,
    armed: Armed,
    runtime: Runtime,
    scenario: Scenario,
    /// The first of the stage's four accounts: the victim's payer and payee, the successor's payer and payee.
    first: u64,
}

/// What is transferred.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// Money, to an account.
    ToSomebody,
    /// Money, to an account that does not exist: rejected at the second step.
    ToNobody,
}

/// The wallet service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walletd;

impl Transfers {
    fn socket(&self) -> String {
        self.bank.socket().to_str().expect("a path in UTF-8").to_owned()
    }

    /// The stage's accounts.
    fn accounts(&self) -> Vec<Account> {
        let socket = self.socket();
        let accounts = accounts_after(&socket, self.first.checked_sub(1));
        self.runtime.block_on(accounts).expect("the service answers")
    }

    fn balances(&self) -> Vec<u64> {
        let accounts = self.accounts();
        let moving = |account: &Account| account.arriving + account.leaving;
        assert!(accounts.iter().all(|account| moving(account) == 0), "nothing is under way: {accounts:?}");
        accounts.iter().map(|account| account.balance).collect()
    }
}

impl World for Transfers {
    type Scenario = Scenario;
    type Service = Walletd;
    const NAME: &'static str = "wallet";
    const SCENARIOS: &'static [Scenario] = &[Scenario::ToSomebody, Scenario::ToNobody];
    const SERVICES: &'static [Walletd] = &[Walletd];

    fn open(program: &Path) -> Self {
        let mut bank = Bank::within(program, quick_directory());
        let armed = bank.start_with(&daemon_faults());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { bank, armed, runtime, scenario: Scenario::ToSomebody, first: 0 }
    }

    fn path(&self) -> &Path {
        self.bank.path()
    }

    fn journal(&self) -> PathBuf {
        self.bank.journal()
    }

    fn turns_back(scenario: Scenario) -> bool {
        scenario == Scenario::ToNobody
    }

    fn needs_rival(_: Scenario) -> bool {
        false
    }

    fn set(&mut self, scenario: Scenario) {
        self.scenario = scenario;
        self.first += 4;
        let socket = self.socket();
        for (account, balance) in (self.first..).zip([BEGINS_WITH, 0, BEGINS_WITH, 0]) {
            self.runtime.block_on(open_account(&socket, account, balance)).expect("an account");
        }
        self.bank.turn_page();
    }

    fn victim(&self, timeout: Duration) -> Command {
        let to = if self.scenario == Scenario::ToNobody { NOBODY } else { self.first + 1 };
        self.bank.transfer(self.first, to, AMOUNT, timeout)
    }

    fn beat_victim(&mut self) {
        unreachable!("no transfer needs a rival to fail");
    }

    fn successor(&self) -> Command {
        self.bank.transfer(self.first + 2, self.first + 3, AMOUNT, AMPLE)
    }

    fn recovery(&self, mode: Mode) -> Command {
        self.bank.recover(mode.flag())
    }

    fn process(&mut self, _: Walletd) -> &mut Running {
        self.bank.process()
    }

    fn armed(&self, _: Walletd) -> &Armed {
        &self.armed
    }

    fn start(&mut self, _: Walletd) {
        self.armed = self.bank.start_with(&daemon_faults());
    }

    fn whose(&self, story: &Story) -> Whose {
        let begun = &story.state.as_ref().expect("nothing is damaged").begun;
        let subject = Transfer.subject(&begun.params).expect("a transfer's parameters");
        if subject.first().is_some_and(|(_, from)| *from == self.first) {
            Whose::Victim
        } else {
            Whose::Successor
        }
    }

    fn acknowledged(victim: &Ended) -> bool {
        serde_json::from_str::<Value>(&victim.stdout).is_ok_and(|told| told["state"] == "completed")
    }

    fn all_done(&self) -> bool {
        let accounts = self.accounts();
        let [from, to] = [accounts[0], accounts[1]];
        from.balance == BEGINS_WITH - AMOUNT && to.balance + to.arriving == AMOUNT
    }

    fn check(&self, victim_completed: bool, successor_completed: bool) {
        let moved = |completed| if completed { AMOUNT } else { 0 };
        let (victims, successors) = (moved(victim_completed), moved(successor_completed));
        let expected = [BEGINS_WITH - victims, victims, BEGINS_WITH - successors, successors];
        assert_eq!(self.balances(), expected);
    }

    fn use_again(&self, _: bool) {
        let before = self.balances();
        Ended::of(&mut self.bank.transfer(self.first, self.first + 1, 1, AMPLE)).expect_code(0);
        assert_eq!(self.balances(), [before[0] - 1, before[1] + 1, before[2], before[3]]);
    }

    fn close(&self) {
        assert!(self.bank.sagas().iter().all(|saga| saga["settled"] == true));
        let accounts = self.bank.accounts();
        let sum: u64 =
            accounts.iter().map(|account| account["balance"].as_u64().expect("never below zero")).sum();
        assert_eq!(sum, BEGINS_WITH * accounts.len() as u64 / 2, "money is neither made nor lost");
    }
}
