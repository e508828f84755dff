//! The documents that `--json` prints. Their names are public: scripts rely on them.

use std::collections::BTreeSet;

use like_protocol::ids::SagaId;
use serde::Serialize;

use crate::likes::audit::{DamagedArticle, Drift, Findings};
use crate::runner::recover::Report;

/// What recovery did.
#[derive(Serialize, Debug)]
pub struct RecoverDocument {
    recovered: usize,
    completed: usize,
    compensated: usize,
    unfinished: usize,
    needs_attention: usize,
    quarantined: usize,
    /// Slots of the journal that could not be used: sagas may stand there that nobody finishes.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable_slots: Option<Vec<u32>>,
    /// Sagas that had ended before, and of whose end every service has been told now.
    #[serde(skip_serializing_if = "Option::is_none")]
    settled: Option<usize>,
    /// Those of whose end a service has still to be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsettled: Option<usize>,
}

impl RecoverDocument {
    /// Of the whole journal, and with what became of sagas that had ended before.
    pub fn of(report: &Report, settled: usize, unsettled: usize) -> Self {
        let unreadable_slots = Some(report.unusable.iter().map(|(slot, _)| *slot).collect());
        Self { unreadable_slots, settled: Some(settled), unsettled: Some(unsettled), ..report.into() }
    }
}

impl From<&Report> for RecoverDocument {
    fn from(report: &Report) -> Self {
        let Report { recovered, completed, compensated, unfinished, needs_attention, quarantined, .. } =
            *report;
        let (unreadable_slots, settled, unsettled) = (None, None, None);
        Self {
            recovered,
            completed,
            compensated,
            unfinished,
            needs_attention,
            quarantined,
            unreadable_slots,
            settled,
            unsettled,
        }
    }
}

/// What an audit found.
#[derive(Serialize, Debug)]
pub struct AuditDocument {
    articles_checked: u64,
    likes_checked: u64,
    unfinished_sagas: usize,
    /// Slots of the journal that can't be read: more sagas may be unfinished there.
    unreadable_slots: Vec<u32>,
    drift: Vec<DriftDocument>,
    /// Articles of which nothing is known, because sagas kept touching them.
    not_compared: Vec<u64>,
    /// Sagas that a service holds and that are open in no log, as far as articles could not be compared: nobody ends them.
    orphaned_sagas: Vec<String>,
    /// Articles of which nothing is known, because something of them is damaged.
    damaged: Vec<DamagedDocument>,
}

/// An article that can't be compared for good.
#[derive(Serialize, Debug)]
pub struct DamagedDocument {
    article_id: u64,
    /// What is damaged.
    damaged: String,
}

/// An article that drifts.
#[derive(Serialize, Debug)]
pub struct DriftDocument {
    article_id: u64,
    likes: u64,
    records: u64,
    /// Whether the article service knows the article at all.
    article_exists: bool,
    /// Whether this audit has set the likes to the records.
    repaired: bool,
}

impl AuditDocument {
    /// `repaired` are the articles whose counts were set.
    pub fn new(
        findings: &Findings,
        orphans: &BTreeSet<SagaId>,
        unfinished_sagas: usize,
        unreadable_slots: Vec<u32>,
        repaired: &[u64],
    ) -> Self {
        let drift = |drift: &Drift| DriftDocument {
            article_id: drift.article.0,
            likes: drift.count.map_or(0, |seen| seen.likes),
            records: drift.records,
            article_exists: drift.count.is_some(),
            repaired: repaired.contains(&drift.article.0),
        };
        let damaged = |damaged: &DamagedArticle| DamagedDocument {
            article_id: damaged.article.0,
            damaged: damaged.why.clone(),
        };
        Self {
            articles_checked: findings.articles_checked,
            likes_checked: findings.likes_checked,
            unfinished_sagas,
            unreadable_slots,
            drift: findings.drift.iter().map(drift).collect(),
            not_compared: findings.not_compared.iter().map(|article| article.0).collect(),
            orphaned_sagas: orphans.iter().map(SagaId::to_string).collect(),
            damaged: findings.damaged.iter().map(damaged).collect(),
        }
    }
}
