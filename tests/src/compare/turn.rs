//! One turn of one side: how many, how long, how fast each, and at what cost in CPU.

use std::fs;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

/// Nothing takes longer than ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;

/// What one side did in one turn.
#[derive(Clone, Debug)]
pub struct Turn {
    /// How many were acknowledged as durable.
    pub done: u64,
    /// In how long.
    pub seconds: f64,
    /// CPU time of all processes of the side, its clients included, until nothing was left to be done.
    pub cpu_seconds: f64,
    latencies_us: Histogram<u64>,
}

impl Turn {
    /// How many in a second.
    pub fn per_second(&self) -> f64 {
        self.done as f64 / self.seconds
    }

    /// CPU seconds for 1000.
    pub fn cpu_per_1000(&self) -> f64 {
        self.cpu_seconds * 1000.0 / self.done as f64
    }

    /// The latency that this part of all did not exceed, in microseconds.
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        self.latencies_us.value_at_quantile(quantile) as f64
    }
}

/// A turn that is under way.
#[derive(Debug)]
pub struct Stopwatch {
    pids: Vec<u32>,
    cpu_before: f64,
    began: Instant,
    length: Duration,
    latencies_us: Histogram<u64>,
    seconds: f64,
}

impl Stopwatch {
    /// Starts a turn of a side whose other processes are `pids`.
    pub fn start(pids: &[u32], length: Duration) -> Self {
        Self {
            pids: pids.to_vec(),
            cpu_before: cpu_seconds(pids),
            began: Instant::now(),
            length,
            latencies_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("three digits"),
            seconds: 0.0,
        }
    }

    /// Whether nothing new is to be begun.
    pub fn is_over(&self) -> bool {
        self.began.elapsed() >= self.length
    }

    /// Notes one that was acknowledged.
    pub fn note(&mut self, latency: Duration) {
        self.latencies_us.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        self.seconds = self.began.elapsed().as_secs_f64();
    }

    /// Ends the turn: whatever was left to be done in the background is done.
    pub fn stop(self) -> Turn {
        Turn {
            done: self.latencies_us.len(),
            seconds: self.seconds,
            cpu_seconds: cpu_seconds(&self.pids) - self.cpu_before,
            latencies_us: self.latencies_us,
        }
    }
}

/// CPU time of this process and of others.
fn cpu_seconds(pids: &[u32]) -> f64 {
    let own = clock_gettime(ClockId::ProcessCPUTime);
    let own = own.tv_sec as f64 + own.tv_nsec as f64 / 1e9;
    own + pids.iter().map(|pid| cpu_seconds_of(*pid)).sum::<f64>()
}

/// To the tick of 10 ms, which is little in a turn of a second.
fn cpu_seconds_of(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// The middle one of some figures; of an even number, the mean of the middle two.
pub fn median(figures: &[f64]) -> f64 {
    quantile(figures, 0.5)
}

/// Linear between the nearest two.
pub fn quantile(figures: &[f64], quantile: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = quantile * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}
