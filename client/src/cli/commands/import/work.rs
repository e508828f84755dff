//! The import itself: records in, so many likes at a time, and notes of how far it has come.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use indicatif::ProgressBar;
use like_protocol::ids::StoreId;
use like_protocol::likes::{ArticleId, UserId};

use super::act::{Came, Maker};
use super::counts::Counts;
use super::note::{Note, Place};
use super::records::{ReadError, Record, Records};
use super::rejects::{Reject, RejectsFile};
use super::window::Window;
use crate::cli::error::CliError;
use crate::cli::signals::StopSignals;

/// How often it is noted how far the import has come.
const NOTED_EVERY: Duration = Duration::from_secs(2);

/// How many refused lines are shown.
const SHOWN_MAX: usize = 5;

/// An import under way.
pub struct Work {
    /// What makes likes.
    pub maker: Maker,
    /// How many at a time.
    pub concurrency: usize,
    /// Where it is noted how far the import has come, and for which stores; nowhere for what can't be read again.
    pub note: Option<(Place, [StoreId; 2])>,
    /// Where refused lines go.
    pub rejects: Option<(String, RejectsFile)>,
    /// What is shown meanwhile.
    pub progress: ProgressBar,
    /// What came of the lines.
    pub counts: Counts,
    /// The first lines that were refused.
    pub shown: Vec<Reject>,
    /// What is done and what is under way.
    pub window: Window<Line>,
}

/// What came of a line.
pub enum Line {
    /// It is a like, and is on disk in both stores.
    Imported,
    /// It is a like that was there already.
    AlreadyLiked,
    /// It is none, or was refused.
    Rejected(Reject),
}

/// The number of a record under way, and what came of it.
type Done = (u64, Result<Line, CliError>);

impl Work {
    /// Imports until there is no more, something stops it, or the user does. Whatever was begun has ended then, unless
    /// it did not in time or the user insisted.
    ///
    /// # Errors
    /// Why it stopped before the end.
    pub async fn run(&mut self, mut records: Records, signals: &mut StopSignals) -> Result<(), CliError> {
        let mut under_way: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
        let mut ended: Option<Result<(), CliError>> = None;
        let mut noted = Instant::now();
        while ended.is_none() || !under_way.is_empty() {
            let wants_more = ended.is_none() && under_way.len() < self.concurrency && self.window.has_room();
            let went_on = tokio::select! {
                Some((number, came)) = under_way.next() => came.map(|came| self.window.done(number, came)),
                record = records.recv(), if wants_more => match record {
                    Some(record) => self.begin(record).map(|begun| under_way.extend(begun)),
                    None => {
                        ended = Some(Ok(()));
                        Ok(())
                    }
                },
                () = signals.next() => {
                    if matches!(ended, Some(Err(CliError::Interrupted(_)))) {
                        break;
                    }
                    self.progress.set_message("stopping, what was begun is finished:");
                    Err(CliError::Interrupted(None))
                }
            };
            let went_on = went_on.and_then(|()| self.count());
            // Of what was begun together much fails together; the first failure says why.
            if let Err(why) = went_on
                && !matches!(ended, Some(Err(_)))
            {
                ended = Some(Err(why));
            }
            if noted.elapsed() >= NOTED_EVERY {
                self.leave_note()?;
                noted = Instant::now();
            }
        }
        self.leave_note()?;
        let ended = ended.unwrap_or(Ok(()));
        if let (Ok(()), Some((place, _))) = (&ended, &self.note) {
            place.remove();
        }
        ended
    }

    /// Begins a record; one that is no like is done with it.
    fn begin(
        &mut self,
        record: Result<Record, ReadError>,
    ) -> Result<Option<BoxFuture<'static, Done>>, CliError> {
        let Record { line, end, like } = record.map_err(|error| match error {
            ReadError::Io(error) => CliError::Input("the input".to_owned(), error),
            ReadError::Unreadable(line, why) => CliError::Unreadable(line, why),
        })?;
        let number = self.window.begin(end);
        match like {
            Ok((user, article)) => {
                let making = self.maker.clone().like(user, article);
                Ok(Some(Box::pin(async move { (number, came_of(line, user, article, making.await)) })))
            }
            Err(bad) => {
                let (kind, text) = ("invalid".to_owned(), Some(bad.text));
                let (user, article, saga_id) = (None, None, None);
                let reject = Reject { line, kind, reason: bad.why, user, article, saga_id, text };
                self.window.done(number, Line::Rejected(reject));
                Ok(None)
            }
        }
    }

    /// Counts what is done, in the order of the file.
    fn count(&mut self) -> Result<(), CliError> {
        while let Some(came) = self.window.next_done() {
            match came {
                Line::Imported => self.counts.imported += 1,
                Line::AlreadyLiked => self.counts.already_liked += 1,
                Line::Rejected(reject) => self.reject(reject)?,
            }
            self.progress.set_position(self.window.done_to().bytes);
        }
        Ok(())
    }

    fn reject(&mut self, reject: Reject) -> Result<(), CliError> {
        if let Some((path, file)) = &mut self.rejects {
            file.add(&reject).map_err(|e| CliError::File(path.clone(), e))?;
        }
        *self.counts.rejects.entry(reject.kind.clone()).or_default() += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(reject);
        }
        Ok(())
    }

    /// Notes, durably, how far it has come. What is refused is durable before.
    fn leave_note(&mut self) -> Result<(), CliError> {
        let mut rejects = None;
        if let Some((path, file)) = &mut self.rejects {
            rejects = Some(file.sync().map_err(|e| CliError::File(path.clone(), e))?);
        }
        let Some((place, stores)) = &self.note else { return Ok(()) };
        let done_to = self.window.done_to();
        let note = Note { stores: *stores, done_to, counts: self.counts.clone(), rejects };
        if let Err(e) = place.write(&note) {
            // The next run asks for more likes again than it would have to.
            tracing::warn!("can't note how far the import has come: {e}");
        }
        Ok(())
    }
}

fn came_of(line: u64, user: UserId, article: ArticleId, came: Came) -> Result<Line, CliError> {
    let refused = match came {
        Came::Imported => return Ok(Line::Imported),
        Came::AlreadyLiked => return Ok(Line::AlreadyLiked),
        Came::Stopped(why) => return Err(why),
        Came::Refused(refused) => refused,
    };
    let told = CliError::from(refused).told();
    Ok(Line::Rejected(Reject {
        line,
        kind: told.kind().to_owned(),
        reason: told.message().to_owned(),
        user: Some(user.0),
        article: Some(article.0),
        saga_id: told.saga_id().map(str::to_owned),
        text: None,
    }))
}
