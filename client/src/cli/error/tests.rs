use std::path::{Path, PathBuf};

use like_protocol::likes::article::ArticleRejection;
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::RetryReason;

use super::*;
use crate::likes::AskError;
use crate::likes::answer::Rule;
use crate::log::LacksRoom;
use crate::rpc::{Lost, LostKind, UnreachableKind};
use crate::saga::event::FailureKind;
use crate::saga::{End, Event, SagaState};
use crate::view::samples;

fn saga() -> SagaId {
    SagaId::from_bytes([7; 16])
}

fn unreachable(kind: UnreachableKind) -> Unreachable {
    Unreachable { role: "user", kind, message: "why".to_owned() }
}

fn act(error: ActError) -> CliError {
    CliError::Act(error)
}

fn compensated(last: Option<FailureKind>) -> CliError {
    act(ActError::Compensated { saga: saga(), last, detail: "why".to_owned() })
}

fn journal(kind: io::ErrorKind) -> CliError {
    CliError::Journal(JournalError::Io { what: "write", path: PathBuf::from("/j/0"), source: kind.into() })
}

#[test]
fn every_error_has_its_documented_exit_code_and_kind() {
    use UnreachableKind as Kind;
    let forbidden = |rule| act(ActError::Forbidden { rule, saga: None });
    let (user, article) = (UserId(1), ArticleId(2));
    let unavailable = |kind| act(ActError::Unavailable(unreachable(kind)));
    let lost = Lost { role: "article", kind: LostKind::Timeout, message: "why".to_owned() };
    let retry = |kind| CliError::Article(AskError::Retry { role: "article", reason: "why", kind });
    let rule = |rejection| CliError::Article(AskError::Rejected(rejection));
    let cases = [
        (rule(ArticleRejection::NotFound(article)), 3, "not_found"),
        (CliError::JournalTrouble("why".to_owned()), 7, "needs_attention"),
        (CliError::NoRoom("why".to_owned()), 7, "needs_attention"),
        (rule(ArticleRejection::AlreadyExists(article)), 4, "already_exists"),
        (rule(ArticleRejection::BadTitle), 4, "invalid"),
        (rule(ArticleRejection::NoNextId), 4, "invalid"),
        (CliError::Article(AskError::Lost(lost)), 8, "unavailable"),
        (retry(RetryReason::Busy), 5, "busy"),
        (retry(RetryReason::Storage), 5, "storage"),
        (forbidden(Rule::NoSuchArticle(article)), 3, "not_found"),
        (forbidden(Rule::AlreadyLiked { user, article }), 4, "already_liked"),
        (forbidden(Rule::NotLiked { user, article }), 4, "not_liked"),
        (forbidden(Rule::Other("why".to_owned())), 4, "invalid"),
        (compensated(None), 5, "compensated"),
        (compensated(Some(FailureKind::NotSent)), 5, "compensated"),
        (compensated(Some(FailureKind::Locked)), 5, "locked"),
        (compensated(Some(FailureKind::Busy)), 5, "busy"),
        (compensated(Some(FailureKind::Storage)), 5, "storage"),
        (act(ActError::LacksRoom(LacksRoom { why: "little is left".to_owned() })), 5, "storage"),
        (unavailable(Kind::NoSocket), 8, "unavailable"),
        (unavailable(Kind::NoHello), 8, "unavailable"),
        (unavailable(Kind::PermissionDenied), 9, "permission_denied"),
        (unavailable(Kind::WrongRole), 4, "incompatible"),
        (unavailable(Kind::Incompatible), 4, "incompatible"),
        (unavailable(Kind::ClockSkew), 4, "incompatible"),
        (journal(io::ErrorKind::PermissionDenied), 9, "permission_denied"),
        (journal(io::ErrorKind::ReadOnlyFilesystem), 9, "permission_denied"),
        (journal(io::ErrorKind::StorageFull), 1, "internal"),
        (CliError::Admin(AdminError::NotFound(saga())), 3, "not_found"),
        (CliError::Admin(AdminError::Owned { saga: saga(), owner: None }), 5, "locked"),
        (
            CliError::Admin(AdminError::Ended { saga: saga(), end: End::Completed, by_force: true }),
            4,
            "invalid",
        ),
        (CliError::Admin(AdminError::Quarantined(saga())), 7, "needs_attention"),
        (CliError::NoSuchSaga(saga()), 3, "not_found"),
        (CliError::Journal(JournalError::DataDirectory(PathBuf::from("/d"))), 4, "invalid"),
        (CliError::Unfinished(2), 6, "unfinished"),
        (CliError::NotEnded(saga()), 6, "unfinished"),
        (CliError::NeedsAttention("why".to_owned(), None), 7, "needs_attention"),
        (CliError::Drift(1), 10, "drift"),
        (CliError::NoDaemon(vec![unreachable(Kind::Refused); 2]), 8, "unavailable"),
        (CliError::Interrupted(Some(saga())), 130, "interrupted"),
        (CliError::Internal("why".to_owned()), 1, "internal"),
    ];
    for (error, exit, kind) in cases {
        let told = error.told();
        assert_eq!((told.exit as u8, told.kind), (exit, kind), "{error:?}");
        assert!(!told.message.is_empty() && !told.message.ends_with('.'), "{}", told.message);
    }
}

#[test]
fn every_error_that_a_person_can_do_something_about_says_what() {
    for error in [
        journal(io::ErrorKind::PermissionDenied),
        journal(io::ErrorKind::StorageFull),
        act(ActError::Unavailable(unreachable(UnreachableKind::NoSocket))),
        compensated(None),
        CliError::NoSuchSaga(saga()),
        CliError::Interrupted(Some(saga())),
        CliError::Drift(1),
    ] {
        assert!(error.told().hint.is_some(), "{error:?}");
    }
}

#[test]
fn the_json_form_names_kind_message_hint_and_saga() {
    let error = compensated(Some(FailureKind::Locked)).told();
    let document: serde_json::Value = serde_json::to_value(Document { error: &error }).unwrap();
    let fields: Vec<_> = document["error"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["hint", "kind", "message", "saga_id"]);
    assert_eq!(document["error"]["saga_id"], saga().to_string());
}

#[test]
fn a_message_moves_no_cursor_whoever_it_comes_from() {
    assert_eq!(shown("it said:\n\u{1b}[2Jnothing\r"), "it said:\n\u{fffd}[2Jnothing\u{fffd}");
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let output = Output { json: false, quiet: true };
    let gone = CliError::Output(io::ErrorKind::BrokenPipe.into()).report(&output);
    assert_eq!(format!("{gone:?}"), format!("{:?}", ExitCode::SUCCESS));
}

#[test]
fn an_answer_that_could_not_be_written_may_be_of_something_that_was_done() {
    let told = CliError::Output(io::ErrorKind::StorageFull.into()).told();
    assert_eq!((told.exit, told.kind), (Exit::Internal, "internal"));
    assert!(told.hint.unwrap().contains("may have been done"));
}

#[test]
fn an_import_that_stopped_says_neither_that_nothing_changed_nor_that_all_has_ended() {
    let stopped = |unfinished| {
        let why = Box::new(compensated(None));
        CliError::Stopped { what: "the import", how_to_go_on: "go on", unfinished, why }.told()
    };
    let told = stopped(0);
    assert_eq!((told.exit, told.kind), (Exit::Compensated, "compensated"));
    assert_eq!(told.message, "the import stopped: why");
    let told = stopped(2);
    assert_eq!((told.exit, told.kind), (Exit::Unfinished, "unfinished"));
    assert!(told.message.contains("2 sagas are unfinished"), "{}", told.message);
    let Event::Begun(begun) = samples::begun(7) else { panic!("a beginning") };
    let state = SagaState::begin(begun).into();
    let why = Box::new(act(ActError::Unfinished { saga: saga(), state }));
    let told = CliError::Stopped { what: "the import", how_to_go_on: "go on", unfinished: 1, why }.told();
    assert_eq!((told.exit, told.kind), (Exit::Unfinished, "unfinished"));
    assert!(told.message.contains(" has not ended in time; 1 saga is unfinished"), "{}", told.message);
    let hint = told.hint.unwrap();
    assert!(hint.ends_with("; then go on") && !hint.contains("--key"), "nobody repeats one of many: {hint}");
    assert_eq!(CliError::NotAllImported(1, 2, None).told().message, "1 of 2 lines was not imported");
}

#[test]
fn where_no_service_can_be_reached_for_another_reason_that_reason_is_told() {
    let told = |kind| CliError::NoDaemon(vec![unreachable(kind); 2]).told();
    assert!(told(UnreachableKind::NoSocket).hint.unwrap().contains("systemctl start"));
    let refused = told(UnreachableKind::PermissionDenied);
    assert_eq!((refused.exit, refused.kind), (Exit::PermissionDenied, "permission_denied"));
    assert!(!refused.hint.unwrap().contains("systemctl start"));
}

#[test]
fn where_the_log_may_not_hold_the_saga_the_hint_says_how_to_find_out_and_what_it_means() {
    let source = crate::log::LogEnded { why: "the disk is full".to_owned() };
    let hint = act(ActError::LogEnded { saga: saga(), source }).told().hint.unwrap();
    assert!(hint.contains("likectl recover"), "{hint}");
    assert!(hint.contains(&format!("if `likectl saga show {}` does not find it", saga())), "{hint}");
}

#[test]
fn who_meets_a_read_only_journal_is_not_sent_to_a_group() {
    let hint = |kind| journal(kind).told().hint.unwrap();
    assert!(hint(io::ErrorKind::PermissionDenied).contains("join the group"));
    let read_only = hint(io::ErrorKind::ReadOnlyFilesystem);
    assert!(!read_only.contains("group") && read_only.contains("mount"), "{read_only}");
}

#[test]
fn who_meets_a_full_or_broken_disk_is_not_sent_to_a_group() {
    let opened =
        |source| CliError::Journal(JournalError::io("open the journal", Path::new("/j"), source)).told();
    for (source, does) in
        [(io::ErrorKind::StorageFull.into(), "free some space"), (io::Error::from_raw_os_error(5), "disk")]
    {
        let told = opened(source);
        assert_eq!((told.exit, told.kind), (Exit::Internal, "internal"));
        assert!(
            told.hint.as_ref().is_some_and(|hint| hint.contains(does) && !hint.contains("group")),
            "{told:?}"
        );
    }
}
