//! The search: plays workloads, cuts the power at every point of their records, and restarts on what may be left.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use super::disk::{Disk, Fate};
use super::ledger::Ledger;
use super::losses::{Loss, losses};
use super::report::{Finding, Report, WorkloadReport};
use super::restart::restart;
use super::stage::{Recorded, Stage};
use super::tree::Tree;
use super::workloads::Workload;
use crate::quick::quick_directory;
use crate::random::Random;

/// How many searches of recoveries are made per workload: recoveries after a power loss, themselves recorded and cut.
const RECOVERIES: usize = 3;

/// How much of a workload's states are found in those, in percent.
const RECOVERIES_PERCENT: usize = 30;

/// How often something is played because its record was not complete: a process died between a change and its entry.
const RECORDINGS_MAX: usize = 5;

/// A search.
pub struct Search {
    program: PathBuf,
    random: Random,
    /// Where states are kept that break something.
    keep: PathBuf,
    seen: HashSet<u64>,
    restarted: HashSet<(u64, u64)>,
    threads: usize,
    progress: Box<dyn Fn(&str)>,
}

/// A state to be restarted on.
struct State {
    tree: Tree,
    ledger: Arc<Ledger>,
    boot: [u8; 16],
    at: usize,
    loss: Loss,
}

impl Search {
    /// A search by `program`, which is `like-recorded`, that repeats with its seed as far as processes do. States that
    /// break something are kept in `keep`.
    pub fn new(program: &Path, seed: u64, keep: &Path, progress: Box<dyn Fn(&str)>) -> Self {
        Self {
            program: program.to_owned(),
            random: Random::of(seed),
            keep: keep.to_owned(),
            seen: HashSet::new(),
            restarted: HashSet::new(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            progress,
        }
    }

    /// Searches these workloads for about `states` distinct states in all.
    pub fn run(mut self, workloads: &[Workload], states: usize) -> Report {
        let shares: u64 = workloads.iter().map(|workload| workload.share).sum();
        let mut report = Report::default();
        for workload in workloads {
            let share = states * workload.share as usize / shares as usize;
            let done = self.workload(workload, share.max(1));
            (self.progress)(&format!("{}: {} states in {:.0} s", done.name, done.states, done.seconds));
            report.workloads.push(done);
        }
        report
    }

    fn workload(&mut self, workload: &Workload, states: usize) -> WorkloadReport {
        let began = Instant::now();
        (self.progress)(&format!("{}: playing", workload.name));
        let mut report = WorkloadReport::of(workload.name);
        let recorded = self.recorded(workload);
        let in_recoveries = states * RECOVERIES_PERCENT / 100;
        let samples = self.cut(recorded, states - in_recoveries, &mut report);
        let each = in_recoveries.div_ceil(RECOVERIES);
        for (tree, ledger) in samples.into_iter().take(RECOVERIES) {
            (self.progress)(&format!("{}: recovering, to be cut as well", workload.name));
            match self.recovery(&tree, &ledger) {
                Some(recorded) => drop(self.cut(recorded, each, &mut report)),
                None => report.findings.push(self.unrecovered(workload.name, &tree)),
            }
            report.recoveries += 1;
        }
        report.seconds = began.elapsed().as_secs_f64();
        report
    }

    /// Plays a workload.
    ///
    /// # Panics
    /// Its record is incomplete again and again: something escapes the recorder.
    fn recorded(&mut self, workload: &Workload) -> Recorded {
        let tried = (0..RECORDINGS_MAX).find_map(|_| {
            let mut stage = Stage::empty(&self.program, &mut self.random);
            if let Some(before) = workload.before {
                before(&mut stage);
                let (tree, ledger) = stage.finish()?.in_the_end();
                stage = Stage::with(&self.program, &mut self.random, &tree, ledger);
            }
            (workload.play)(&mut stage);
            stage.finish()
        });
        tried.unwrap_or_else(|| panic!("{}: the record does not lead to what is on disk", workload.name))
    }

    /// Lets real daemons and `likectl` recover what a power loss left; nothing if they can't.
    fn recovery(&mut self, tree: &Tree, ledger: &Ledger) -> Option<Recorded> {
        (0..RECORDINGS_MAX).find_map(|_| {
            let mut stage = Stage::with(&self.program, &mut self.random, tree, ledger.clone());
            let recovered = AssertUnwindSafe(|| {
                stage.start_both();
                stage.run(&["recover"]);
                stage.run(&["audit"]);
            });
            std::panic::catch_unwind(recovered).ok()?;
            stage.finish()
        })
    }

    fn unrecovered(&self, workload: &'static str, tree: &Tree) -> Finding {
        let why = "real daemons and likectl do not recover".to_owned();
        Finding { workload, at: 0, loss: Loss::Nothing, why, kept: kept(&self.keep, tree) }
    }

    /// Cuts the power along a record, and restarts on about `states` states. Some of them are handed back.
    fn cut(&mut self, recorded: Recorded, states: usize, report: &mut WorkloadReport) -> Vec<(Tree, Ledger)> {
        let shares = Shares::of(&recorded, states);
        let (sender, receiver) = mpsc::sync_channel::<State>(self.threads * 2);
        let receiver = Mutex::new(receiver);
        let findings = Mutex::new(Vec::new());
        let (keep, name) = (self.keep.clone(), report.name);
        let mut samples = Vec::new();
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| restart_all(&receiver, &findings, name, &keep));
            }
            self.walk(recorded, &shares, report, &mut samples, &sender);
            drop(sender);
        });
        report.findings.extend(findings.into_inner().unwrap_or_else(PoisonError::into_inner));
        samples
    }

    fn walk(
        &mut self,
        Recorded { entries, mut disk, mut ledger }: Recorded,
        shares: &Shares,
        report: &mut WorkloadReport,
        samples: &mut Vec<(Tree, Ledger)>,
        sender: &mpsc::SyncSender<State>,
    ) {
        let mut owed = 0.0;
        for (at, entry) in entries.iter().enumerate() {
            let (moved, promised) = (disk.apply(entry), ledger.apply(entry));
            if !moved && !promised {
                continue;
            }
            report.cuts += 1;
            owed += shares.at(&disk);
            let quota = owed as usize;
            if quota > 0 {
                owed -= quota as f64;
                let ledger = Arc::new(ledger.clone());
                self.states_at(at, &disk, &ledger, quota, report, samples, sender);
            }
            if at.is_multiple_of(64) {
                let done = at * 100 / entries.len();
                (self.progress)(&format!(
                    "{}: {} states, {done} % of a record",
                    report.name,
                    self.seen.len()
                ));
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn states_at(
        &mut self,
        at: usize,
        disk: &Disk,
        ledger: &Arc<Ledger>,
        quota: usize,
        report: &mut WorkloadReport,
        samples: &mut Vec<(Tree, Ledger)>,
        sender: &mpsc::SyncSender<State>,
    ) {
        let open = disk.open();
        let promised = ledger.fingerprint();
        let (mut left, mut random) = (quota, Random::of(self.random.any()));
        // Where only few are tried, they are not always the plainest.
        let skipped = if quota < 8 { self.random.below(16) as usize } else { 0 };
        for (loss, fates) in losses(&open, &mut random).skip(skipped).take(quota * 4) {
            let tree = disk.after(&|moment| fates.get(&moment).copied().unwrap_or(Fate::Lost));
            let print = tree.fingerprint();
            if !self.restarted.insert((print, promised)) {
                continue;
            }
            if self.seen.insert(print) {
                report.states += 1;
                *report.by_loss.entry(loss).or_default() += 1;
            }
            report.restarts += 1;
            if samples.len() < RECOVERIES {
                samples.push((tree.clone(), Ledger::clone(ledger)));
            } else if self.random.below(report.restarts as u64) < RECOVERIES as u64 {
                let place = self.random.below(RECOVERIES as u64) as usize;
                samples[place] = (tree.clone(), Ledger::clone(ledger));
            }
            let boot = uuid::Uuid::from_u64_pair(self.random.any(), self.random.any()).into_bytes();
            sender
                .send(State { tree, ledger: Arc::clone(ledger), boot, at, loss })
                .expect("workers that work");
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
}

/// How many states are tried at each cut: more where more is uncertain.
struct Shares {
    per_weight: f64,
}

impl Shares {
    fn of(recorded: &Recorded, states: usize) -> Self {
        let Recorded { entries, disk, ledger } = recorded;
        let (mut disk, mut ledger, mut sum) = (disk.clone(), ledger.clone(), 0.0);
        for entry in entries {
            if disk.apply(entry) | ledger.apply(entry) {
                sum += Self::weight(&disk);
            }
        }
        Self { per_weight: states as f64 / f64::max(sum, 1.0) }
    }

    fn weight(disk: &Disk) -> f64 {
        1.0 + disk.uncertain(8) as f64
    }

    fn at(&self, disk: &Disk) -> f64 {
        self.per_weight * Self::weight(disk)
    }
}

fn restart_all(
    states: &Mutex<mpsc::Receiver<State>>,
    findings: &Mutex<Vec<Finding>>,
    workload: &'static str,
    keep: &Path,
) {
    loop {
        let next = states.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(state) = next else { return };
        let world = quick_directory();
        state.tree.write(world.path()).expect("a state is written");
        let restarted = std::panic::catch_unwind(|| restart(world.path(), state.boot, &state.ledger));
        let why = match restarted {
            Ok(Ok(())) => continue,
            Ok(Err(why)) => why,
            Err(_) => "it panics".to_owned(),
        };
        let kept = kept(keep, &state.tree);
        let finding = Finding { workload, at: state.at, loss: state.loss, why, kept };
        findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
    }
}

/// Keeps a state that breaks something, and says where.
fn kept(keep: &Path, tree: &Tree) -> PathBuf {
    let kept = keep.join(format!("{:016x}", tree.fingerprint()));
    std::fs::create_dir_all(&kept).expect("a directory");
    let _there_already = tree.write(&kept);
    kept
}
