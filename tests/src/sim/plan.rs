//! What one seed's world is like: drawn once, at its beginning.

use std::time::Duration;

use like_client::log::Keeping;
use like_client::runner::context::UNDER_WAY_MAX;
use like_daemon::store::runs::Shape;

use crate::random::Random;

/// One world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many users there are.
    pub users: u64,
    /// How many articles they like and unlike.
    pub articles: u64,
    /// How often everything is healed and checked.
    pub rounds: u64,
    /// How many likes and unlikes are asked for in each round.
    pub acts: u64,
    /// How many runners live at the same time, at most.
    pub runners: u64,
    /// How many callers each of them has.
    pub callers: u64,
    /// How long a caller rests at most.
    pub rest_ms: u64,
    /// In how many of a thousand milliseconds a process for one act comes along.
    pub one_shots: u64,
    /// The percentage of likes among acts.
    pub likes: u64,
    /// The percentage of acts with a key.
    pub keyed: u64,
    /// The limits of a saga's timeout.
    pub timeout_ms: (u64, u64),
    /// How long one attempt waits.
    pub attempt_ms: u64,
    /// How long bytes take at most, usually.
    pub latency_ms: u64,
    /// How many of a thousand writes take up to [`Plan::late_ms`].
    pub late: u64,
    /// How late those are.
    pub late_ms: u64,
    /// The percentage of writes that arrive in pieces.
    pub pieces: u64,
    /// How large a store's commit log grows before a checkpoint.
    pub store_log_bytes: u64,
    /// How its runs are made and merged.
    pub store_shape: Shape,
    /// How long a store rests at most between two steps of a checkpoint or a merge.
    pub checkpoint_ms: u64,
    /// How long a commit takes at most.
    pub commit_ms: u64,
    /// How long a sync of the log takes at most.
    pub sync_ms: u64,
    /// Whether sagas beside which nothing goes on sync by themselves, in no time.
    pub sync_here: bool,
    /// How many sagas that were taken over are under way at a time.
    pub under_way_max: usize,
    /// Whether a daemon's socket outlives it.
    pub activated: bool,
    /// Whether operators turn sagas back and give them new deadlines.
    pub operators: bool,
    /// Whether they force ends.
    pub forces: bool,
    /// What logs keep.
    pub keeping: Keeping,
    /// The percentage of requests of which it is looked at whether they may be sent.
    pub watched: u64,
    /// How long it is between faults of each sort, on average; 0 is never.
    pub every_ms: Every,
}

/// How many milliseconds lie between faults of a sort, on average; 0 is never.
#[derive(Clone, Copy, Debug)]
pub struct Every {
    /// A client is killed.
    pub client_killed: u64,
    /// A daemon is killed.
    pub daemon_killed: u64,
    /// A process will die at an operation.
    pub fuse: u64,
    /// The host loses power.
    pub power_lost: u64,
    /// A process is stopped.
    pub stopped: u64,
    /// A connection is cut.
    pub cut: u64,
    /// Old requests arrive again.
    pub replayed: u64,
    /// The log's disk is full for a while.
    pub disk_full: u64,
    /// The next operation of some sort on the log's disk fails.
    pub disk_fails: u64,
    /// The next write or sync of a store fails.
    pub store_fails: u64,
    /// A daemon is short of space for a while.
    pub storage_low: u64,
    /// Recovery runs.
    pub recovery: u64,
    /// An operator acts.
    pub operator: u64,
    /// Somebody audits, and reads the logs.
    pub reader: u64,
}

impl Plan {
    /// The world of a seed. In most worlds only some sorts of fault happen, each at a pace of its own: what needs a long
    /// calm to go wrong gets one.
    pub fn draw(random: &mut Random) -> Self {
        let rough = random.below(4);
        let mut every = |usual_ms: u64, percent: u64| {
            let pace = [4, 1, 1, 2][rough as usize] * usual_ms;
            if random.percent(percent) { 1 + pace / 2 + random.below(pace) } else { 0 }
        };
        let every_ms = Every {
            client_killed: every(300, 75),
            daemon_killed: every(600, 65),
            fuse: every(250, 75),
            power_lost: every(1200, 65),
            stopped: every(400, 50),
            cut: every(200, 60),
            replayed: every(150, 65),
            disk_full: every(1500, 30),
            disk_fails: every(800, 40),
            store_fails: every(1500, 30),
            storage_low: every(1500, 25),
            recovery: every(300, 85),
            operator: every(300, 100),
            reader: every(700, 60),
        };
        let operators = random.percent(35);
        let timeout_ms = [(20, 200), (50, 1500), (300, 4000), (1500, 8000)][random.below(4) as usize];
        // Where every act has a process and a slot of its own, a log is synced for that one saga alone.
        let runners = random.below(5);
        let one_shots = if runners == 0 { [20, 60] } else { [0, 20] }[random.below(2) as usize];
        Self {
            users: [2, 5, 20][random.below(3) as usize],
            articles: 1 + random.below(4),
            rounds: 1 + random.below(2),
            acts: 150 + random.below(350),
            runners,
            callers: 1 + random.below(12),
            rest_ms: [1, 5, 40][random.below(3) as usize],
            one_shots,
            likes: 45 + random.below(25),
            keyed: [0, 40, 80][random.below(3) as usize],
            timeout_ms,
            attempt_ms: [30, 150, 2000][random.below(3) as usize],
            latency_ms: [1, 2, 6][random.below(3) as usize],
            late: [0, 5, 30][random.below(3) as usize],
            late_ms: [50, 400, 3000][random.below(3) as usize],
            pieces: [0, 10, 60][random.below(3) as usize],
            store_log_bytes: [1, 700, 4_000, 30_000][random.below(4) as usize],
            checkpoint_ms: [1, 8, 60][random.below(3) as usize],
            commit_ms: [1, 3, 12][random.below(3) as usize],
            sync_ms: [1, 4, 20][random.below(3) as usize],
            activated: random.percent(50),
            operators,
            forces: operators && random.percent(40),
            keeping: keeping(random),
            watched: [0, 2, 8][random.below(3) as usize],
            every_ms,
            store_shape: Shape {
                block_bytes: [40, 150, 1000][random.below(3) as usize],
                fan_in: 2 + random.below(3) as usize,
                runs_max: 6 + random.below(10) as usize,
            },
            sync_here: random.percent(50),
            under_way_max: [1, 2, 3, UNDER_WAY_MAX][random.below(4) as usize],
        }
    }

    /// Whether everything that was ever recorded is still on record.
    pub fn keeps_all(&self) -> bool {
        self.keeping.retention > Duration::from_secs(3600)
    }
}

/// What logs keep: mostly everything.
fn keeping(random: &mut Random) -> Keeping {
    let briefly = random.percent(12);
    Keeping {
        retention: Duration::from_secs(if briefly { 2 } else { 7 * 24 * 3600 }),
        segment_bytes_max: [2_000, 8_000, 60_000][random.below(3) as usize],
        merge_bytes_max: [0, 1_000, 8_000, 64_000][random.below(4) as usize],
        own_segments_max: if briefly { 1 } else { usize::MAX },
    }
}
