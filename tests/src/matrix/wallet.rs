//! The wallet's transfers as the crash matrix sees them: the same engine, another domain.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Mode, Whose, World};
use crate::process::{Armed, Ended, Fault};
use crate::wallet::bank::Bank;

/// What every account that pays begins with.
const BEGINS_WITH: u64 = 100;

/// How much a transfer moves.
const AMOUNT: u64 = 30;

/// No account has this id.
const NOBODY: u64 = u64::MAX;

/// A bank, and the accounts that a case is about.
#[derive(Debug)]
pub struct Transfers {
    bank: Bank,
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
    #[track_caller]
    fn account(&self, accounts: &[Value], id: u64) -> u64 {
        let account = accounts.iter().find(|account| account["account"] == id).expect("an account");
        assert_eq!(account["arriving"], 0, "nothing is under way");
        account["balance"].as_u64().expect("a balance, never below zero")
    }
}

impl World for Transfers {
    type Scenario = Scenario;
    type Service = Walletd;
    const SCENARIOS: &'static [Scenario] = &[Scenario::ToSomebody, Scenario::ToNobody];
    const SERVICES: &'static [Walletd] = &[Walletd];

    fn open(program: &Path) -> Self {
        Self { bank: Bank::open(program), scenario: Scenario::ToSomebody, first: 0 }
    }

    fn path(&self) -> &Path {
        self.bank.path()
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
        for (account, balance) in (self.first..).zip([BEGINS_WITH, 0, BEGINS_WITH, 0]) {
            self.bank.account(account, balance);
        }
        self.bank.turn_page();
    }

    fn victim(&self) -> Command {
        let to = if self.scenario == Scenario::ToNobody { NOBODY } else { self.first + 1 };
        self.bank.transfer(self.first, to, AMOUNT)
    }

    fn beat_victim(&mut self) {
        unreachable!("no transfer needs a rival to fail");
    }

    fn successor(&self) -> Command {
        self.bank.transfer(self.first + 2, self.first + 3, AMOUNT)
    }

    fn recovery(&self, mode: Mode) -> Command {
        self.bank.recover(mode.flag())
    }

    fn restart(&mut self, _: Walletd, faults: &[Fault]) -> Armed {
        if self.bank.runs() {
            self.bank.stop();
        }
        self.bank.start_with(faults)
    }

    fn has_died(&mut self, _: Walletd) -> bool {
        self.bank.has_died()
    }

    fn bury(&mut self, _: Walletd) -> Ended {
        self.bank.await_death()
    }

    fn sagas(&self) -> Vec<(Whose, String)> {
        let told = |saga: &Value| {
            let whose = if saga["from"] == self.first { Whose::Victim } else { Whose::Successor };
            assert_eq!(saga["settled"], true, "{saga}");
            (whose, saga["state"].as_str().expect("a state").to_owned())
        };
        self.bank.sagas().iter().map(told).collect()
    }

    fn acknowledged(victim: &Ended) -> bool {
        serde_json::from_str::<Value>(&victim.stdout).is_ok_and(|told| told["state"] == "completed")
    }

    fn check(&self, victim_completed: bool, successor_completed: bool) {
        let accounts = self.bank.accounts();
        let moved = |completed| if completed { AMOUNT } else { 0 };
        let (victims, successors) = (moved(victim_completed), moved(successor_completed));
        let expected = [BEGINS_WITH - victims, victims, BEGINS_WITH - successors, successors];
        for (account, balance) in (self.first..).zip(expected) {
            assert_eq!(self.account(&accounts, account), balance, "{accounts:?}");
        }
        let sum: u64 = accounts.iter().filter_map(|account| account["balance"].as_u64()).sum();
        assert_eq!(sum, BEGINS_WITH * accounts.len() as u64 / 2, "money is neither made nor lost");
    }

    fn use_again(&self, _: bool) {
        let before = self.account(&self.bank.accounts(), self.first + 1);
        Ended::of(&mut self.bank.transfer(self.first, self.first + 1, 1)).expect_code(0);
        assert_eq!(self.account(&self.bank.accounts(), self.first + 1), before + 1);
    }
}
