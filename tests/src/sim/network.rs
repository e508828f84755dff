//! The network: byte streams between processes whose bytes come late and in pieces, break off anywhere, and come again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use like_client::rpc::Dial;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::faults::Fault;
use super::watch;
use super::world::{Host, Service, World, lock};

/// How many bytes may be on their way in one direction.
const ON_THEIR_WAY_MAX: usize = 64 * 1024;

/// How many bytes of a connection are remembered, to come again later.
const REMEMBERED_BYTES_MAX: usize = 16 * 1024;

/// How many connections of this boot are remembered.
const REMEMBERED_MAX: usize = 64;

/// All connections.
#[derive(Default)]
pub struct Network {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<Service, Listener>,
    /// When a direction of a connection has something for its reader.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    pipes: BTreeMap<u64, Arc<Mutex<Pipe>>>,
    next: u64,
    /// What clients have said, by role, for it to come again.
    said: VecDeque<(Service, Arc<Mutex<Pipe>>)>,
}

#[derive(Default)]
struct Listener {
    up: bool,
    backlog: VecDeque<SimStream>,
    waiting: Option<Waker>,
}

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    number: u64,
    pieces: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    last_due_ms: u64,
    /// When the reader finds the end, and whether it is a broken one.
    ends: Option<(u64, bool)>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Everything that was ever written, up to a bound, if that is to be remembered.
    said: Option<Vec<u8>>,
}

impl Pipe {
    fn wake_all(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn end(&mut self, at_ms: u64, broken: bool) {
        if self.ends.is_none() {
            self.ends = Some((at_ms.max(self.last_due_ms), broken));
        }
        self.wake_all();
    }

    /// Loses some of what is on its way, and all behind it.
    fn break_off(&mut self, world: &World) -> bool {
        let whole = self.bytes;
        let mut kept = world.below(whole as u64 + 1) as usize;
        for (_, piece) in &mut self.pieces {
            piece.truncate(kept);
            kept -= piece.len();
        }
        self.pieces.retain(|(_, piece)| !piece.is_empty());
        self.bytes = self.pieces.iter().map(|(_, piece)| piece.len()).sum();
        self.ends = None;
        // Whoever dies in the middle of a write leaves no word but half a frame.
        self.end(world.now_ms(), world.percent(50));
        self.bytes < whole
    }
}

/// One end of a connection.
pub struct SimStream {
    host: Host,
    read: Arc<Mutex<Pipe>>,
    write: Arc<Mutex<Pipe>>,
}

impl Network {
    /// Wakes whoever something has arrived for.
    pub fn deliver(&self, now_ms: u64) {
        let mut state = lock(&self.state);
        while let Some(Reverse((due_ms, number))) = state.due.peek().copied() {
            if due_ms > now_ms {
                break;
            }
            state.due.pop();
            let Some(pipe) = state.pipes.get(&number) else { continue };
            let mut pipe = lock(pipe);
            pipe.reader.take().into_iter().for_each(Waker::wake);
            let over = pipe.pieces.is_empty() && pipe.ends.is_some_and(|(at_ms, _)| at_ms <= now_ms);
            drop(pipe);
            if over {
                state.pipes.remove(&number);
            }
        }
    }

    fn pipe(&self, remembered: bool) -> Arc<Mutex<Pipe>> {
        let mut state = lock(&self.state);
        state.next += 1;
        let number = state.next;
        let pipe = Pipe { number, said: remembered.then(Vec::new), ..Pipe::default() };
        let pipe = Arc::new(Mutex::new(pipe));
        state.pipes.insert(number, Arc::clone(&pipe));
        pipe
    }

    fn is_due(&self, at_ms: u64, pipe: u64) {
        lock(&self.state).due.push(Reverse((at_ms, pipe)));
    }

    /// A daemon listens from now on.
    pub fn listen(&self, host: &Host, role: Service) -> SimListener {
        lock(&self.state).listeners.entry(role).or_default().up = true;
        SimListener { host: host.clone(), role }
    }

    /// A daemon is gone. Connections that nobody had accepted wait for the next one, or break.
    pub fn hush(&self, world: &World, role: Service) {
        let mut state = lock(&self.state);
        let listener = state.listeners.entry(role).or_default();
        listener.up = false;
        listener.waiting = None;
        if !world.plan.activated {
            let left = std::mem::take(&mut listener.backlog);
            drop(state);
            drop(left);
        }
    }

    /// The power is gone, and with it all that was on its way.
    pub fn lose_power(&self) {
        let lost = std::mem::take(&mut *lock(&self.state));
        drop(lost.pipes);
        lock(&self.state).next = lost.next;
    }

    /// Breaks a connection. Whether there was one.
    pub fn cut(&self, world: &World) {
        let mut state = lock(&self.state);
        let at = world.below(state.pipes.len() as u64) as usize;
        let Some(pipe) = state.pipes.values().nth(at).cloned() else { return };
        let mut pipe = lock(&pipe);
        let lost = pipe.break_off(world);
        if lost {
            world.fault(Fault::ConnectionCut, 0);
        }
        let number = pipe.number;
        world.note(0, "cuts", number, pipe.bytes as u64);
        state.due.push(Reverse((world.now_ms(), number)));
    }

    /// Lets requests that were sent in this boot arrive again: some or all of a connection's, in any order.
    pub fn replay(&self, world: &Arc<World>, ghost: &Host) {
        let (role, said) = {
            let state = lock(&self.state);
            let at = world.below(state.said.len() as u64) as usize;
            let Some((role, pipe)) = state.said.get(at).cloned() else { return };
            if !state.listeners.get(&role).is_some_and(|listener| listener.up) {
                return;
            }
            let said = lock(&pipe).said.clone().unwrap_or_default();
            (role, said)
        };
        let mut frames = frames(&said).into_iter();
        let Some(hello) = frames.next() else { return };
        let mut frames: Vec<_> = frames.collect();
        if world.percent(60) {
            for at in (1..frames.len()).rev() {
                frames.swap(at, world.below(at as u64 + 1) as usize);
            }
        }
        if world.percent(60) {
            let keep = 10 + world.below(90);
            frames.retain(|_| world.percent(keep));
        }
        if frames.is_empty() {
            return;
        }
        world.fault(Fault::RequestsReplayed, 0);
        let (theirs, ours) = (self.pipe(false), self.pipe(false));
        let daemon = SimStream { host: ghost.clone(), read: Arc::clone(&theirs), write: ours };
        let mut due_ms = world.now_ms();
        let mut pipe = lock(&theirs);
        for frame in std::iter::once(hello).chain(frames) {
            due_ms += if world.percent(20) { world.below(world.plan.late_ms) } else { world.below(3) };
            pipe.bytes += frame.len();
            pipe.pieces.push_back((due_ms, frame.to_vec()));
            self.is_due(due_ms, pipe.number);
        }
        pipe.last_due_ms = due_ms;
        pipe.ends = Some((due_ms + 50, false));
        self.is_due(due_ms + 50, pipe.number);
        world.note(0, "replays", pipe.number, pipe.bytes as u64);
        drop(pipe);
        self.arrive(role, daemon);
    }

    fn arrive(&self, role: Service, stream: SimStream) {
        let mut state = lock(&self.state);
        let listener = state.listeners.entry(role).or_default();
        listener.backlog.push_back(stream);
        listener.waiting.take().into_iter().for_each(Waker::wake);
    }

    fn dial(&self, host: &Host, role: Service) -> io::Result<SimStream> {
        let up = lock(&self.state).listeners.get(&role).is_some_and(|listener| listener.up);
        if !up && !host.world.plan.activated {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (there, back) = (self.pipe(true), self.pipe(false));
        host.world.note(host.life.pid, "dials", lock(&there).number, role as u64);
        let mut state = lock(&self.state);
        state.said.push_back((role, Arc::clone(&there)));
        if state.said.len() > REMEMBERED_MAX {
            state.said.pop_front();
        }
        drop(state);
        let theirs = SimStream { host: host.clone(), read: Arc::clone(&there), write: Arc::clone(&back) };
        self.arrive(role, theirs);
        Ok(SimStream { host: host.clone(), read: back, write: there })
    }
}

/// The frames that a byte stream begins with: a length in four bytes, highest first, and so many bytes.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some(length) = bytes.first_chunk::<4>() {
        let end = 4 + u32::from_be_bytes(*length) as usize;
        let Some((frame, rest)) = bytes.split_at_checked(end) else { break };
        frames.push(frame);
        bytes = rest;
    }
    frames
}

/// Where a daemon's connections come from.
pub struct SimListener {
    host: Host,
    role: Service,
}

impl SimListener {
    /// The next connection.
    pub async fn accept(&self) -> SimStream {
        std::future::poll_fn(|context| {
            let mut state = lock(&self.host.world.network.state);
            let listener = state.listeners.entry(self.role).or_default();
            match listener.backlog.pop_front() {
                Some(mut stream) => {
                    stream.host = self.host.clone();
                    Poll::Ready(stream)
                }
                None => {
                    listener.waiting = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// How a client process reaches a daemon.
pub fn dial(host: &Host, role: Service) -> Dial {
    let host = host.clone();
    Dial::new(role.role(), move || {
        let host = host.clone();
        async move {
            let ms = host.world.below(host.world.plan.latency_ms + 1);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            let world = Arc::clone(&host.world);
            world.operate(&host.life, "dial", || host.world.network.dial(&host, role))
        }
    })
}

impl SimStream {
    /// Puts bytes on their way, in one piece or several.
    fn send(&self, pipe: &mut Pipe, mut bytes: &[u8]) {
        let world = &self.host.world;
        let plan = &world.plan;
        while !bytes.is_empty() {
            let cut = world.percent(plan.pieces) && bytes.len() > 1;
            let length = if cut { 1 + world.below(bytes.len() as u64 - 1) as usize } else { bytes.len() };
            let mut delay_ms = world.below(plan.latency_ms + 1);
            if !world.is_calm() && plan.late > 0 && world.below(1000) < plan.late {
                delay_ms += world.below(plan.late_ms);
                world.fault(Fault::BytesLate, self.host.life.pid);
            }
            pipe.last_due_ms = pipe.last_due_ms.max(world.now_ms() + delay_ms);
            pipe.pieces.push_back((pipe.last_due_ms, bytes[..length].to_vec()));
            pipe.bytes += length;
            world.network.is_due(pipe.last_due_ms, pipe.number);
            bytes = &bytes[length..];
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (host, mut pipe) = (&self.host, lock(&self.write));
        if pipe.ends.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pipe.bytes >= ON_THEIR_WAY_MAX {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if pipe.said.is_some() && !host.life.is_dead() && host.world.percent(host.world.plan.watched) {
            watch::sends(host, bytes);
        }
        let written = host.world.operate(&host.life, "send", || {
            host.world.note(host.life.pid, "sends", pipe.number, bytes.len() as u64);
            self.send(&mut pipe, bytes);
            if let Some(said) = pipe.said.as_mut().filter(|said| said.len() < REMEMBERED_BYTES_MAX) {
                said.extend_from_slice(bytes);
            }
            if pipe.last_due_ms <= host.world.now_ms() {
                pipe.reader.take().into_iter().for_each(Waker::wake);
            }
            Ok(bytes.len())
        });
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.write).end(self.host.world.now_ms(), false);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (host, mut pipe) = (&self.host, lock(&self.read));
        let now_ms = host.world.now_ms();
        if host.life.is_dead() {
            return Poll::Pending;
        }
        let mut any = false;
        while into.remaining() > 0 {
            let Some((due_ms, piece)) = pipe.pieces.front_mut() else { break };
            if *due_ms > now_ms {
                break;
            }
            let length = piece.len().min(into.remaining());
            into.put_slice(&piece[..length]);
            if length == piece.len() {
                pipe.pieces.pop_front();
            } else {
                piece.drain(..length);
            }
            pipe.bytes -= length;
            any = true;
        }
        if any {
            pipe.writer.take().into_iter().for_each(Waker::wake);
            host.world.note(host.life.pid, "reads", pipe.number, into.filled().len() as u64);
            return Poll::Ready(Ok(()));
        }
        match pipe.ends {
            Some((at_ms, broken)) if at_ms <= now_ms && pipe.pieces.is_empty() => {
                if broken {
                    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
                } else {
                    Poll::Ready(Ok(()))
                }
            }
            _ => {
                pipe.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for SimStream {
    /// What was written still arrives; then the other side finds the end. What is not read is lost.
    fn drop(&mut self) {
        let world = &self.host.world;
        let now_ms = world.now_ms();
        let mut write = lock(&self.write);
        write.end(now_ms, false);
        let (at_ms, _) = write.ends.unwrap_or((now_ms, false));
        let number = write.number;
        drop(write);
        world.network.is_due(at_ms, number);
        let mut read = lock(&self.read);
        read.end(now_ms, true);
        read.pieces.clear();
        lock(&world.network.state).pipes.remove(&read.number);
    }
}
