//! How a message becomes bytes: length-delimited frames of bincode, by way of `tokio-serde`.
//!
//! This is the one file that names the encoding. bincode 1.3 is what `tokio-serde` takes; it is no longer
//! maintained, and ADR 0003 says why it serves all the same and how it would be replaced.
//!
//! Integers are variable-length, enum variants and lengths too; trailing bytes and unknown variants are errors, and
//! no length that a peer claims is believed beyond what the frame holds.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bincode::Options;
use bytes::Bytes;
use futures::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_serde::Serializer;
use tokio_serde::formats::Bincode;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::message::{FromDaemon, Payload, ToDaemon};

/// The largest frame that a client may send to a daemon. It bounds what one connection that never finishes a frame
/// costs the daemon; the largest request, a full batch of settlements, stays below.
pub const REQUEST_FRAME_BYTES_MAX: usize = 128 * 1024;

/// The largest frame that a daemon may send: a full page of articles with the longest titles stays below.
pub const REPLY_FRAME_BYTES_MAX: usize = 1024 * 1024;

/// bincode's options for every message and every payload. The type is long because bincode builds it that way.
type WireOptions = bincode::config::WithOtherLimit<bincode::DefaultOptions, bincode::config::Bounded>;

fn options(bytes_max: usize) -> WireOptions {
    bincode::DefaultOptions::new().with_limit(bytes_max as u64)
}

/// A value that could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct CodecError {
    what: &'static str,
    source: bincode::Error,
}

/// Encodes a domain value.
///
/// # Errors
/// Its encoding is longer than [`REPLY_FRAME_BYTES_MAX`], or its type can't be encoded.
pub fn encode<T: Serialize>(value: &T) -> Result<Payload, CodecError> {
    thread_local! {
        // Ids are written a byte at a time, which a vector takes quickest; and short payloads have no memory of their own.
        static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let mut bytes = BYTES.take();
    bytes.clear();
    let encoded = encode_onto(value, &mut bytes).map(|()| Payload(SmallVec::from_slice(&bytes)));
    bytes.shrink_to(KEPT_BYTES_MAX);
    BYTES.set(bytes);
    encoded
}

/// As [`encode`], behind what `out` has already.
///
/// # Errors
/// As [`encode`]; `out` is as it was.
pub fn encode_onto<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let before = out.len();
    // With a limit, bincode goes through the value twice: once only to count.
    let encoded = bincode::DefaultOptions::new().serialize_into(&mut *out, value);
    encoded.and_then(|()| within_limit(out.len() - before)).map_err(|source| {
        out.truncate(before);
        cant_encode(source)
    })
}

fn within_limit(bytes: usize) -> bincode::Result<()> {
    if bytes > REPLY_FRAME_BYTES_MAX { Err(bincode::ErrorKind::SizeLimit.into()) } else { Ok(()) }
}

fn cant_encode(source: bincode::Error) -> CodecError {
    CodecError { what: "can't encode", source }
}

/// Decodes a domain value.
///
/// # Errors
/// The bytes are not exactly one encoded `T`: too short, too long, an unknown variant.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    options(REPLY_FRAME_BYTES_MAX)
        .deserialize(bytes)
        .map_err(|source| CodecError { what: "can't decode", source })
}

/// Messages of one type in the frames of a byte stream, as `tokio-serde` has them.
type Frames<R, In> =
    tokio_serde::Framed<FramedRead<R, LengthDelimitedCodec>, In, (), Bincode<In, (), WireOptions>>;

/// How much memory a reader has for what has arrived. It goes through it from end to end, and reads less than has arrived only where it
/// comes to the end: what arrives together is taken in together, ten times of a dozen.
const READ_BYTES: usize = 32 * 1024;

/// Reads messages of one type from a byte stream. The first error is the last thing that it yields: behind bytes that
/// are no message nothing can be trusted to be one.
#[derive(Debug)]
pub struct Reader<R, In> {
    frames: Frames<R, In>,
    ended: bool,
}

impl<R: AsyncRead + Unpin, In: DeserializeOwned + Unpin> Stream for Reader<R, In> {
    type Item = io::Result<In>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(Pin::new(&mut self.frames).poll_next(context));
        self.ended = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }
}

/// How much memory an encoder keeps for the next message, which may never come: more than nearly all messages take.
const KEPT_BYTES_MAX: usize = 4096;

/// Encodes messages; with `tokio-serde`'s own way each is gone through twice. What is too long for a frame the frames refuse.
#[derive(Default, Debug)]
pub struct Encoder {
    /// Where messages are encoded, one after the other: the memory that each takes is as large as it is.
    message: Vec<u8>,
}

impl<Out: Serialize> Serializer<Out> for Encoder {
    type Error = io::Error;

    fn serialize(mut self: Pin<&mut Self>, item: &Out) -> io::Result<Bytes> {
        let encoded = bincode::DefaultOptions::new().serialize_into(&mut self.message, item);
        let message = encoded.map(|()| Bytes::copy_from_slice(&self.message)).map_err(io::Error::other);
        self.message.clear();
        self.message.shrink_to(KEPT_BYTES_MAX);
        message
    }
}

/// Writes messages of one type to a byte stream. `feed` gathers, `flush` sends what was gathered.
pub type Writer<W, Out> = tokio_serde::Framed<FramedWrite<W, LengthDelimitedCodec>, (), Out, Encoder>;

/// What a daemon reads.
pub type RequestReader<R> = Reader<R, ToDaemon>;
/// What a daemon writes.
pub type ReplyWriter<W> = Writer<W, FromDaemon>;
/// What a client reads.
pub type ReplyReader<R> = Reader<R, FromDaemon>;
/// What a client writes.
pub type RequestWriter<W> = Writer<W, ToDaemon>;

/// The daemon's end of a connection. A frame that is too long or does not decode ends the stream with an error.
pub fn daemon_end<R: AsyncRead, W: AsyncWrite>(read: R, write: W) -> (RequestReader<R>, ReplyWriter<W>) {
    (reader(read, REQUEST_FRAME_BYTES_MAX), writer(write, REPLY_FRAME_BYTES_MAX))
}

/// The client's end of a connection.
pub fn client_end<R: AsyncRead, W: AsyncWrite>(read: R, write: W) -> (ReplyReader<R>, RequestWriter<W>) {
    (reader(read, REPLY_FRAME_BYTES_MAX), writer(write, REQUEST_FRAME_BYTES_MAX))
}

fn reader<R: AsyncRead, In>(read: R, frame_bytes_max: usize) -> Reader<R, In> {
    let lengths = LengthDelimitedCodec::builder().max_frame_length(frame_bytes_max).new_codec();
    let frames = FramedRead::with_capacity(read, lengths, READ_BYTES);
    let frames = tokio_serde::Framed::new(frames, Bincode::from(options(frame_bytes_max)));
    Reader { frames, ended: false }
}

fn writer<W: AsyncWrite, Out>(write: W, frame_bytes_max: usize) -> Writer<W, Out> {
    let frames = LengthDelimitedCodec::builder().max_frame_length(frame_bytes_max).new_write(write);
    tokio_serde::Framed::new(frames, Encoder::default())
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
