//! The operator: recovers, acts on single sagas, audits, looks at everything, and runs a load of many sagas in one process.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::Round;
use super::stage::Stage;
use crate::house::Desk;
use crate::process::Ended;
use crate::random::Random;

/// The operator, in a thread.
pub struct Operator<'a> {
    round: &'a Round<'a>,
    desk: &'a Desk,
    stage: &'a Stage,
    random: Random,
}

impl<'a> Operator<'a> {
    /// One whose processes stand on the round's last stage.
    pub fn new(round: &'a Round<'a>, desk: &'a Desk, seed: u64) -> Self {
        let stage = round.stages.last().expect("the operator's stage");
        Self { round, desk, stage, random: Random::of(seed) }
    }

    /// Operates until the round is over.
    ///
    /// # Panics
    /// A promise is broken.
    pub fn operate(mut self) {
        while self.round.goes_on() {
            std::thread::sleep(Duration::from_millis(self.random.below(300)));
            match self.random.below(100) {
                0..20 => self.does("recover", &["--timeout", "3s", "recover"], &[0, 6, 7]),
                20..28 => {
                    self.does("recover --resume", &["--timeout", "3s", "recover", "--resume"], &[0, 6, 7])
                }
                28..36 => {
                    let words = ["--timeout", "3s", "recover", "--compensate"];
                    self.does("recover --compensate", &words, &[0, 6, 7]);
                }
                // Whatever is under way and whoever dies: there is no drift.
                36..52 => self.does("audit", &["audit"], &[0, 8]),
                52..58 => self.does("status", &["status"], &[0, 8]),
                58..64 => self.does("check", &["check"], &[0, 7]),
                64..74 => {
                    let words = ["bench", "--likes", "40", "--concurrency", "16"];
                    self.does("bench", &words, &[0, 5, 6, 8]);
                }
                _ => self.act_on_one(),
            }
        }
    }

    /// Looks for a saga that is unfinished, and does something about it.
    fn act_on_one(&mut self) {
        let states = ["--state", "running", "--state", "compensating"];
        let Some(ended) = self.runs("saga list", &[&["saga", "list"], &states[..]].concat(), &[0]) else {
            return;
        };
        let sagas = ended.json();
        let sagas = sagas.as_array().expect("a list");
        if sagas.is_empty() {
            return;
        }
        let chosen = &sagas[self.random.below(sagas.len() as u64) as usize];
        let saga = chosen["saga_id"].as_str().expect("an id").to_owned();
        // Refused while a runner owns it, too late if it has ended, and undone or unfinished after all.
        let codes = [0, 3, 4, 5, 6, 7, 8];
        match self.random.below(3) {
            0 => self.does("saga show", &["saga", "show", &saga], &codes),
            1 => self.does("saga retry", &["--timeout", "3s", "saga", "retry", &saga], &codes),
            _ => self.does("saga compensate", &["--timeout", "3s", "saga", "compensate", &saga], &codes),
        }
    }

    fn does(&mut self, kind: &'static str, words: &[&str], codes: &[i32]) {
        self.runs(kind, words, codes);
    }

    /// Runs one command; nothing if it was killed.
    fn runs(&mut self, kind: &'static str, words: &[&str], codes: &[i32]) -> Option<Ended> {
        let (ended, took) = self.stage.run(self.desk.command(&["--json"]).args(words));
        self.round.tally.add(kind, &ended, took);
        let code = ended.code()?;
        if !codes.contains(&code) {
            self.round.broken.store(true, Ordering::Relaxed);
            panic!("{kind}: {ended:?}");
        }
        if kind == "audit" && code == 0 {
            let audit = ended.json();
            assert_eq!(audit["drift"], Value::Array(Vec::new()), "{audit}");
        }
        (code == 0).then_some(ended)
    }
}
