//! What is counted, and how it is told to Prometheus (text format 0.0.4).
//!
//! Labels are bounded: kinds of act, outcomes, routes as they are declared, statuses, the two services, states. No id ever
//! is a label.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use like_client::view::ServiceStatus;

use crate::VERSION;
use crate::overview::Overview;
use crate::timed::SyncTimes;

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS_S: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What this process has counted since it started.
#[derive(Default)]
pub struct Metrics {
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    acts: BTreeMap<(&'static str, &'static str), u64>,
    durations: BTreeMap<&'static str, Histogram>,
    requests: BTreeMap<(String, String, u16), u64>,
}

/// How often values lay below each of some bounds.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// How many were at most so large; the last is for those beyond every bound.
    buckets: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// With these upper bounds.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Of durations.
    pub fn of_seconds() -> Self {
        Self::new(&BUCKETS_S)
    }

    /// One value more.
    pub fn count(&mut self, value: f64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.buckets[bucket] += 1;
        self.sum += value;
    }

    fn tell(&self, page: &mut Page, name: &str, labels: &[(&str, &dyn Display)]) {
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(&self.buckets) {
            below += count;
            page.sample(&bucket, &[labels, &[("le", bound)]].concat(), below);
        }
        let all = self.buckets.iter().sum::<u64>();
        page.sample(&bucket, &[labels, &[("le", &"+Inf")]].concat(), all);
        page.sample(&format!("{name}_sum"), labels, self.sum);
        page.sample(&format!("{name}_count"), labels, all);
    }
}

impl Metrics {
    /// A like or an unlike has come to an outcome.
    pub fn act(&self, kind: &'static str, outcome: &'static str, took: Duration) {
        self.with(|counted| {
            *counted.acts.entry((kind, outcome)).or_default() += 1;
            let histogram = counted.durations.entry(kind).or_insert_with(Histogram::of_seconds);
            histogram.count(took.as_secs_f64());
        });
    }

    /// A request to this route, as it is declared, has been answered.
    pub fn request(&self, method: &str, route: &str, status: u16) {
        self.with(|counted| {
            *counted.requests.entry((method.to_owned(), route.to_owned(), status)).or_default() += 1;
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Counted) -> T) -> T {
        change(&mut self.counted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of it in Prometheus's text format. `overview` is what was seen of services and sagas, if that could be seen.
    /// `syncs` are those of the gateway's own saga log.
    pub fn told(&self, overview: Option<&Overview>, syncs: &SyncTimes) -> String {
        let mut page = Page::default();
        page.family("like_gateway_info", "gauge", "Which gateway this is.");
        page.sample("like_gateway_info", &[("version", &VERSION)], 1);
        self.with(|counted| tell_counted(&mut page, counted));
        let name = "like_gateway_log_sync_duration_seconds";
        page.family(name, "histogram", "How long the syncs of the gateway's own saga log took.");
        syncs.seconds.tell(&mut page, name, &[]);
        let name = "like_gateway_log_group_writes";
        page.family(name, "histogram", "How many writes of that log each of them made durable.");
        syncs.writes.tell(&mut page, name, &[]);
        page.family("like_journal_readable", "gauge", "Whether the saga log can be read.");
        page.sample("like_journal_readable", &[], u8::from(overview.is_some()));
        if let Some(overview) = overview {
            tell_sagas(&mut page, overview);
            tell_services(&mut page, overview);
        }
        page.0
    }
}

fn tell_counted(page: &mut Page, counted: &Counted) {
    page.family(
        "like_gateway_acts_total",
        "counter",
        "Likes and unlikes that came to an outcome, whether or not their clients waited for it.",
    );
    for ((kind, outcome), count) in &counted.acts {
        page.sample("like_gateway_acts_total", &[("kind", kind), ("outcome", outcome)], count);
    }
    page.family("like_gateway_act_duration_seconds", "histogram", "How long likes and unlikes took.");
    for (kind, histogram) in &counted.durations {
        histogram.tell(page, "like_gateway_act_duration_seconds", &[("kind", kind)]);
    }
    page.family("like_gateway_http_requests_total", "counter", "Requests answered, by route and status.");
    for ((method, route, status), count) in &counted.requests {
        let labels: [(&str, &dyn Display); 3] = [("method", method), ("route", route), ("status", status)];
        page.sample("like_gateway_http_requests_total", &labels, count);
    }
}

fn tell_sagas(page: &mut Page, overview: &Overview) {
    page.family("like_sagas_open", "gauge", "Sagas that are not ended or not settled, by kind and state.");
    let mut open: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for kind in ["like", "unlike"] {
        for state in ["running", "compensating"] {
            open.insert((kind, state), 0);
        }
    }
    for (kind, state) in &overview.by_kind {
        // The log may hold kinds that other programs wrote: they share a label.
        let kind = if matches!(kind.as_str(), "like" | "unlike") { kind } else { "other" };
        *open.entry((kind, state)).or_default() += 1;
    }
    for ((kind, state), count) in open {
        page.sample("like_sagas_open", &[("kind", &kind), ("state", &state)], count);
    }
    let counts = overview.counts;
    let gauges = [
        ("like_sagas_needs_attention", counts.needs_attention, "Sagas that need an operator."),
        ("like_sagas_hanging", counts.hanging, "Sagas that have been open for more than five minutes."),
        ("like_sagas_unsettled", counts.unsettled, "Ended sagas of which not every service knows yet."),
        (
            "like_journal_problems",
            overview.problems.len(),
            "Slots of the saga log that can't be read, stretches of it that are damaged, and a disk that has no room for it.",
        ),
        (
            "like_saga_attempts_max",
            overview.attempts_max as usize,
            "The most attempts an open saga has needed.",
        ),
    ];
    for (name, value, help) in gauges {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
}

/// A number of a service's status: name, type, help, and how it is read.
type Gauge = (&'static str, &'static str, &'static str, fn(&ServiceStatus) -> u64);

const SERVICE: [Gauge; 10] = [
    ("like_service_connections", "gauge", "Open connections of the service.", |s| s.connections.into()),
    ("like_service_queue_depth", "gauge", "Requests that wait in the service's queue.", |s| s.queued.into()),
    ("like_service_queue_limit", "gauge", "How many requests may wait there.", |s| s.queue_limit.into()),
    ("like_service_unsettled_steps", "gauge", "Steps at the service that are not settled.", |s| s.unsettled),
    ("like_service_groups_total", "counter", "Groups made durable since the service started.", |s| s.groups),
    ("like_service_committed_total", "counter", "Requests that those groups held.", |s| s.committed),
    ("like_service_store_bytes", "gauge", "Bytes that the store takes on disk.", |s| s.store_bytes),
    ("like_service_free_bytes", "gauge", "Bytes free on the store's file system.", |s| s.free_bytes),
    ("like_service_storage_low", "gauge", "Whether new likes are refused for want of disk space.", |s| {
        s.storage_low.into()
    }),
    ("like_service_damaged_rows", "gauge", "Rows of the store that were found damaged.", |s| s.damaged),
];

fn tell_services(page: &mut Page, overview: &Overview) {
    page.family("like_service_up", "gauge", "Whether the service answers.");
    for service in &overview.services {
        page.sample("like_service_up", &[("service", &service.service)], u8::from(service.reachable));
    }
    for (name, kind, help, read) in SERVICE {
        page.family(name, kind, help);
        for service in &overview.services {
            if let Some(status) = &service.status {
                page.sample(name, &[("service", &service.service)], read(status));
            }
        }
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.0.push_str(&format!("{name}{labels} {value}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_everything_up_to_their_bound() {
        let metrics = Metrics::default();
        for ms in [1, 4, 40, 20_000] {
            metrics.act("like", "done", Duration::from_millis(ms));
        }
        let told = metrics.told(None, &SyncTimes::default());
        let bucket = |bound: &str| {
            let name = format!("like_gateway_act_duration_seconds_bucket{{kind=\"like\",le=\"{bound}\"}} ");
            told.lines().find_map(|line| line.strip_prefix(&name)).unwrap().to_owned()
        };
        let counts = [bucket("0.001"), bucket("0.005"), bucket("0.05"), bucket("10"), bucket("+Inf")];
        assert_eq!(counts, ["1", "2", "3", "3", "4"]);
        assert!(told.contains("like_gateway_acts_total{kind=\"like\",outcome=\"done\"} 4"), "{told}");
        assert!(told.contains("like_journal_readable 0"), "{told}");
    }
}
