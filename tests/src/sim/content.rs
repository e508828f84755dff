//! What is in a file of a saga log: what is certainly on the disk, and every write since.

use super::faults::Fault;
use super::found::Crash;
use super::world::World;

/// What a disk writes as a whole. Real ones write more.
const BLOCK_BYTES: usize = 64;

/// The content of a file.
#[derive(Default, Debug)]
pub struct Content {
    bytes: Vec<u8>,
    /// What is certainly on the disk.
    synced: Vec<u8>,
    /// What was written since: where, and what.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// A sync failed: what was not synced then never will be, whatever later syncs say.
    spoilt: bool,
    written_ms: u64,
}

/// What a power loss does to the writes of a file that were not synced.
#[derive(Clone, Copy)]
enum Loss {
    /// What was written up to a moment is there, the last of it perhaps in part: the order of a journaling file system.
    Later,
    /// All of it is lost.
    All,
    /// Each write has its own fate.
    Any,
}

impl Content {
    /// An empty file that is made now.
    pub fn new(now_ms: u64) -> Self {
        Self { written_ms: now_ms, ..Self::default() }
    }

    /// When it was written last.
    pub fn written_ms(&self) -> u64 {
        self.written_ms
    }

    /// What a crash in this instant would leave at least.
    pub fn after(&self, crash: Crash) -> &[u8] {
        if crash == Crash::OfTheHost { &self.synced } else { &self.bytes }
    }

    /// Bytes are written.
    pub fn write(&mut self, bytes: &[u8], at: usize, now_ms: u64) {
        lengthen(&mut self.bytes, at + bytes.len());
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.unsynced.push((at, bytes.to_vec()));
        self.written_ms = now_ms;
    }

    /// A sync succeeds.
    pub fn sync(&mut self) {
        if !self.spoilt {
            self.synced.clone_from(&self.bytes);
            self.unsynced.clear();
        }
    }

    /// A sync fails.
    pub fn spoil(&mut self) {
        self.spoilt = true;
    }

    /// Of what was not synced, the disk has written what it liked, in whatever order.
    pub fn lose_power(&mut self, world: &World) {
        self.spoilt = false;
        let writes = std::mem::take(&mut self.unsynced);
        if writes.is_empty() {
            return;
        }
        let before = std::mem::replace(&mut self.bytes, self.synced.clone());
        let loss = match world.below(6) {
            0 | 1 => Loss::Later,
            2 => Loss::All,
            _ => Loss::Any,
        };
        let last = world.below(writes.len() as u64 + 1) as usize;
        for (number, (at, bytes)) in writes.iter().enumerate() {
            match loss {
                Loss::Later if number < last => self.keep(*at, bytes, |_| true),
                Loss::Later if number == last => self.keep_some(world, *at, bytes),
                Loss::Any => self.keep_some(world, *at, bytes),
                Loss::Later | Loss::All => {}
            }
        }
        if self.bytes != before {
            world.fault(Fault::LogTorn, 0);
        }
        self.synced.clone_from(&self.bytes);
    }

    /// A write of which anything may be there.
    fn keep_some(&mut self, world: &World, at: usize, bytes: &[u8]) {
        let length_before = self.bytes.len();
        match world.below(8) {
            0 => {}
            // The length is there, and none of the bytes.
            1 => self.keep(at, bytes, |_| false),
            2 => {
                let kept = world.below(bytes.len() as u64 + 1) as usize;
                self.keep(at, &bytes[..kept], |_| true);
            }
            // A block that was not written is what it was before, or zeros; or, where nothing was, anything.
            3 | 4 => self.keep(at, bytes, |_| world.percent(60)),
            5 => {
                self.keep(at, bytes, |_| true);
                for block in self.bytes[at.max(length_before)..].chunks_mut(BLOCK_BYTES) {
                    if world.percent(40) {
                        block.iter_mut().for_each(|byte| *byte = world.below(256) as u8);
                    }
                }
            }
            _ => self.keep(at, bytes, |_| true),
        }
    }

    /// Keeps those blocks of a write that are wanted.
    fn keep(&mut self, at: usize, bytes: &[u8], is_kept: impl Fn(usize) -> bool) {
        let end = at + bytes.len();
        lengthen(&mut self.bytes, end);
        for block in at / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) {
            let (from, to) = ((block * BLOCK_BYTES).max(at), ((block + 1) * BLOCK_BYTES).min(end));
            if is_kept(block) {
                self.bytes[from..to].copy_from_slice(&bytes[from - at..to - at]);
            }
        }
    }
}

fn lengthen(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().max(to), 0);
}
