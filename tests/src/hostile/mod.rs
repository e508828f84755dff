//! Hostile and damaged input: one function for each way in, which takes any bytes and asserts what must hold.
//!
//! The fuzz targets (`fuzz/`) call them with whatever they come up with, and the default tests with the corpora that
//! fuzzing has left.

pub mod client;
pub mod commits;
pub mod frames;
pub mod log;
pub mod marker;
pub mod ram;
pub mod runs;
pub mod session;
pub mod store;

/// Splits input into pieces: a length in two bytes, then so many bytes or what is left.
fn pieces(mut data: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let (piece, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        pieces.push(piece);
        data = rest;
    }
    pieces
}

/// Bytes as one frame.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("no input is that long");
    [&length.to_be_bytes(), bytes].concat()
}

/// Either what was given, or its pieces as frames, so that whoever makes up the bytes need not get lengths right. The
/// first byte says which.
fn stream(data: &[u8], hello: Vec<u8>) -> Vec<u8> {
    match data.split_first() {
        Some((0, raw)) => raw.to_vec(),
        Some((1, raw)) => [&hello, raw].concat(),
        Some((_, rest)) => {
            std::iter::once(hello).chain(pieces(rest).into_iter().map(framed)).flatten().collect()
        }
        None => Vec::new(),
    }
}

/// Runs a future on a runtime of its own.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}
