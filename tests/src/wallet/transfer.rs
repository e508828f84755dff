//! The transfer saga: money out of one account, then into another.

use like_client::saga::{Definition, DefinitionError, StepPlan};
use like_protocol::codec;
use like_protocol::message::Payload;
use serde::{Deserialize, Serialize};

use super::WALLET_ROLE;
use super::domain::{WalletOperation, WalletRejection};

/// The name under which the saga log keeps transfers.
pub const KIND: &str = "transfer";

const STEPS: &[StepPlan] = &[
    StepPlan { name: "withdraw", role: WALLET_ROLE, beside: false },
    StepPlan { name: "deposit", role: WALLET_ROLE, beside: false },
];

/// What is moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TransferParams {
    /// From which account.
    pub from: u64,
    /// To which.
    pub to: u64,
    /// How much.
    pub amount: u64,
}

/// The transfer saga.
#[derive(Clone, Copy, Debug)]
pub struct Transfer;

impl Definition for Transfer {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn version(&self) -> u16 {
        1
    }

    fn steps(&self) -> &'static [StepPlan] {
        STEPS
    }

    fn operation(&self, params: &Payload, step: usize, _: &[Payload]) -> Result<Payload, DefinitionError> {
        let TransferParams { from, to, amount } = read(params)?;
        let operation = match step {
            0 => WalletOperation::Withdraw { account: from, amount },
            1 => WalletOperation::Deposit { account: to, amount },
            _ => return Err(unreadable(format!("it has no step {step}"))),
        };
        codec::encode(&operation).map_err(|e| unreadable(e.to_string()))
    }

    fn note(&self, _: &Payload, _: usize, _: &[Option<Payload>]) -> Result<Option<Payload>, DefinitionError> {
        Ok(None)
    }

    fn subject(&self, params: &Payload) -> Result<Vec<(&'static str, u64)>, DefinitionError> {
        let TransferParams { from, to, amount } = read(params)?;
        Ok(vec![("from", from), ("to", to), ("amount", amount)])
    }

    fn explain_rejection(&self, _: usize, rejection: &Payload) -> String {
        match codec::decode::<WalletRejection>(&rejection.0) {
            Ok(rejection) => format!("{rejection:?}"),
            Err(e) => format!("a rejection that can't be read: {e}"),
        }
    }
}

fn read(params: &Payload) -> Result<TransferParams, DefinitionError> {
    codec::decode(&params.0).map_err(|e| unreadable(e.to_string()))
}

fn unreadable(detail: String) -> DefinitionError {
    DefinitionError { kind: KIND, detail }
}
