//! The wallet's programs: the daemon on the daemon's engine, and a small runner on the client's.
//!
//! ```text
//! walletd --socket PATH --data DIR ...                   (the engine's own flags)
//! wallet-balances SOCKET                                 prints [{"account":1,"balance":70,"arriving":0,"leaving":0},...]
//! wallet-transfer SOCKET JOURNAL FROM TO AMOUNT MS       prints {"saga_id":"...","state":"completed"}
//! wallet-recover SOCKET JOURNAL [--resume|--compensate]  prints {"recovered":1,"unfinished":0}
//! wallet-sagas JOURNAL                                   prints [{"saga_id":"...","from":1,"state":"completed",...},...]
//! ```
//!
//! Exit codes are likectl's, as far as they go: 0 done, 5 compensated, 6 unfinished, 8 no daemon, 1 anything else.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use like_client::log::{Journal, history};
use like_client::rpc::Remote;
use like_client::runner::{
    Context, Options, Order, Origin, Outcome, Participants, RunError, Runner, recover,
};
use like_client::saga::{Definition, Definitions, End, Phase, SagaState};
use like_daemon::service::{Program, main_for};
use like_protocol::codec;
use like_protocol::failpoint;
use like_protocol::message::{ReplyBody, RequestBody};
use like_protocol::time::{BootClock, Clock};
use serde_json::{Value, json};

use super::WALLET_ROLE;
use super::domain::{Account, Wallet, WalletCommand, WalletQuery};
use super::transfer::{KIND, Transfer, TransferParams};
use crate::matrix::PATIENT;

const WALLETD: Program = Program { name: "walletd", about: "Keeps accounts, durably" };

/// How long a resumed transfer may try before it turns back. What begins one says how long.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long recovery drives what it has found.
const RECOVERY: Duration = Duration::from_secs(30);

/// Why a program failed, for people.
pub type Failed = Box<dyn std::error::Error>;

/// The main of one of the wallet's programs; `None` if there is none of this name.
pub fn main(name: &str, arguments: &[String]) -> Option<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match (name, &words[..]) {
        ("walletd", _) => {
            let all = std::iter::once("walletd").chain(words.iter().copied()).map(Into::into);
            return Some(main_for(WALLETD, Wallet, all.collect::<Vec<_>>()));
        }
        ("wallet-balances", [socket]) => run(balances(socket)),
        ("wallet-transfer", [socket, journal, from, to, amount, ms]) => {
            run(transfer(socket, journal, [from, to, amount, ms]))
        }
        ("wallet-recover", [socket, journal]) => run(recover_all(socket, journal, Order::GoOn)),
        ("wallet-recover", [socket, journal, "--resume"]) => {
            run(recover_all(socket, journal, Order::Resume { timeout: TIMEOUT }))
        }
        ("wallet-recover", [socket, journal, "--compensate"]) => {
            run(recover_all(socket, journal, Order::Compensate))
        }
        ("wallet-sagas", [journal]) => run(async { sagas(journal) }),
        _ => return None,
    };
    Some(ended)
}

/// Runs a program that ends with a code.
fn run(program: impl Future<Output = Result<u8, Failed>>) -> ExitCode {
    failpoint::arm_from_environment();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(program).map_or_else(
        |e| {
            eprintln!("{e}");
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

/// What a runner of transfers works with.
///
/// # Panics
/// There is no boot clock.
pub fn context(socket: &Path, journal: Journal) -> Context {
    let clock: Arc<dyn Clock> = Arc::new(BootClock::open().expect("a boot id"));
    let wallet = Remote::unix(WALLET_ROLE, socket.to_owned(), Arc::clone(&clock));
    Context {
        journal,
        definitions: Definitions::new().with(Transfer),
        participants: Participants::new().with(Arc::new(wallet)),
        clock,
        origin: Origin::of_this_process(),
        options: Options { attention_after: PATIENT, ..Options::default() },
    }
}

async fn transfer(socket: &str, journal: &str, numbers: [&str; 4]) -> Result<u8, Failed> {
    let [from, to, amount, ms] = numbers.map(str::parse);
    let params = codec::encode(&TransferParams { from: from?, to: to?, amount: amount? })?;
    let timeout = Duration::from_millis(ms?);
    let runner = Runner::start(context(Path::new(socket), Journal::open(Path::new(journal))?))?;
    let (saga, state, code) = match runner.run(KIND, params, timeout).await {
        Ok(Outcome { saga, state }) if state.ended() == Some(End::Completed) => (saga, state, 0),
        Ok(Outcome { saga, state }) => (saga, state, 5),
        Err(RunError::Unfinished { saga, state }) => (saga, state, 6),
        Err(e) => {
            eprintln!("{e}");
            return Ok(if matches!(e, RunError::Unavailable(_)) { 8 } else { 1 });
        }
    };
    println!("{}", json!({ "saga_id": saga.to_string(), "state": word(&state) }));
    runner.close(Duration::from_secs(1)).await;
    Ok(code)
}

async fn recover_all(socket: &str, journal: &str, order: Order) -> Result<u8, Failed> {
    let context = context(Path::new(socket), Journal::open(Path::new(journal))?);
    let report = recover::once(&context, order, RECOVERY).await?;
    let left = report.unfinished + report.needs_attention + report.quarantined;
    println!("{}", json!({ "recovered": report.recovered, "unfinished": left }));
    Ok(if left == 0 { 0 } else { 6 })
}

fn sagas(journal: &str) -> Result<u8, Failed> {
    let history = history::read(&Journal::open(Path::new(journal))?)?;
    let told = history.sagas.iter().map(|(_, story)| {
        let state = story.state.as_ref();
        let subject = state.and_then(|state| Transfer.subject(&state.begun.params).ok());
        json!({
            "saga_id": story.saga.to_string(),
            "from": subject.and_then(|subject| Some(subject.first()?.1)),
            "state": state.map_or("quarantined", word),
            "settled": state.is_some_and(|state| state.settled),
        })
    });
    println!("{}", told.collect::<Value>());
    Ok(0)
}

fn word(state: &SagaState) -> &'static str {
    match state.phase {
        _ if state.quarantined_now() => "quarantined",
        Phase::Forward => "running",
        Phase::Back(_) => "compensating",
        Phase::Ended(End::Completed) => "completed",
        Phase::Ended(End::Compensated) => "compensated",
        Phase::Forced(_) => "forced",
    }
}

/// Opens an account.
///
/// # Errors
/// The service does not answer.
pub async fn open_account(socket: &str, account: u64, balance: u64) -> Result<(), Failed> {
    let command = WalletCommand::Open { account, balance };
    ask(socket, RequestBody::Command(codec::encode(&command)?)).await?;
    Ok(())
}

async fn balances(socket: &str) -> Result<u8, Failed> {
    let accounts = accounts_after(socket, None).await?;
    let told = accounts.iter().map(
        |a| json!({ "account": a.id, "balance": a.balance, "arriving": a.arriving, "leaving": a.leaving }),
    );
    println!("{}", told.collect::<Value>());
    Ok(0)
}

/// All accounts, or those with greater ids than one.
///
/// # Errors
/// The service does not answer.
pub async fn accounts_after(socket: &str, mut after: Option<u64>) -> Result<Vec<Account>, Failed> {
    let mut accounts: Vec<Account> = Vec::new();
    loop {
        let query = RequestBody::Query(codec::encode(&WalletQuery::Accounts { after })?);
        let page = ask(socket, query).await?;
        let Some(last) = page.last() else { return Ok(accounts) };
        after = Some(last.id);
        accounts.extend(page);
    }
}

async fn ask(socket: &str, body: RequestBody) -> Result<Vec<Account>, Failed> {
    let clock: Arc<dyn Clock> = Arc::new(BootClock::open()?);
    let within = Duration::from_secs(5);
    let connection = Remote::unix(WALLET_ROLE, socket.into(), clock).connect(within).await?;
    match connection.call(body, within).await? {
        ReplyBody::Answer(answer) => Ok(codec::decode(&answer.0)?),
        other => Err(format!("{other:?}").into()),
    }
}
