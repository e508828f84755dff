//! What fuzzing has left: every input of the corpora, through the functions that the fuzz targets run.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::fs;

use like_tests::{hostile, source};

/// The most that the corpora may take together.
const CORPORA_BYTES_MAX: usize = 1024 * 1024;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = source::root().join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).expect("a corpus").map(|entry| entry.expect("an entry").path());
    entries.map(|path| fs::read(path).expect("an input")).collect()
}

fn run(target: &str, body: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 5, "{target}: {} inputs", corpus.len());
    corpus.iter().for_each(|input| body(input));
}

#[test]
fn frames_in_both_directions() {
    run("frames", hostile::frames::frames);
}

#[test]
fn a_daemons_session() {
    run("session", hostile::session::session);
}

#[test]
fn a_clients_connection() {
    run("client", hostile::client::client);
}

#[test]
fn segments_of_a_log() {
    run("log", hostile::log::log);
}

#[test]
fn rows_of_a_store() {
    run("store", hostile::store::store);
}

#[test]
fn a_stores_commit_log_and_what_was_carried_over() {
    run("commits", hostile::commits::commits);
}

#[test]
fn a_stores_sorted_runs_and_their_list() {
    run("runs", hostile::runs::runs);
}

#[test]
fn the_marker_of_a_data_directory() {
    run("marker", hostile::marker::marker);
}

#[test]
fn the_corpora_are_small() {
    let targets = ["frames", "session", "client", "log", "store", "commits", "runs", "marker"];
    let bytes: usize = targets.iter().flat_map(|target| corpus(target)).map(|input| input.len()).sum();
    assert!(bytes < CORPORA_BYTES_MAX, "{bytes} bytes");
}
