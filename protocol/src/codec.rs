//! How a message becomes bytes: length-delimited frames of bincode, by way of `tokio-serde`.
//!
//! This is the one file that names the encoding. bincode 1.3 is what `tokio-serde` takes; it is no longer
//! maintained, and ADR 0003 says why it serves all the same and how it would be replaced.
//!
//! Integers are variable-length, enum variants and lengths too; trailing bytes and unknown variants are errors, and
//! no length that a peer claims is believed beyond what the frame holds.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
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
    match options(REPLY_FRAME_BYTES_MAX).serialize(value) {
        Ok(bytes) => Ok(Payload(bytes)),
        Err(source) => Err(CodecError { what: "can't encode", source }),
    }
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

/// Reads messages of one type from a byte stream.
pub type Reader<R, In> =
    tokio_serde::Framed<FramedRead<R, LengthDelimitedCodec>, In, (), Bincode<In, (), WireOptions>>;

/// Writes messages of one type to a byte stream. `feed` gathers, `flush` sends what was gathered.
pub type Writer<W, Out> =
    tokio_serde::Framed<FramedWrite<W, LengthDelimitedCodec>, (), Out, Bincode<(), Out, WireOptions>>;

/// What a daemon reads.
pub type RequestReader<R> = Reader<R, ToDaemon>;
/// What a daemon writes.
pub type ReplyWriter<W> = Writer<W, FromDaemon>;
/// What a client reads.
pub type ReplyReader<R> = Reader<R, FromDaemon>;
/// What a client writes.
pub type RequestWriter<W> = Writer<W, ToDaemon>;

/// The daemon's end of a connection. A frame that is too long or does not decode ends the stream with an error:
/// after it, nothing on the connection can be trusted.
pub fn daemon_end<R: AsyncRead, W: AsyncWrite>(read: R, write: W) -> (RequestReader<R>, ReplyWriter<W>) {
    (reader(read, REQUEST_FRAME_BYTES_MAX), writer(write, REPLY_FRAME_BYTES_MAX))
}

/// The client's end of a connection.
pub fn client_end<R: AsyncRead, W: AsyncWrite>(read: R, write: W) -> (ReplyReader<R>, RequestWriter<W>) {
    (reader(read, REPLY_FRAME_BYTES_MAX), writer(write, REQUEST_FRAME_BYTES_MAX))
}

fn reader<R: AsyncRead, In>(read: R, frame_bytes_max: usize) -> Reader<R, In> {
    let frames = LengthDelimitedCodec::builder().max_frame_length(frame_bytes_max).new_read(read);
    tokio_serde::Framed::new(frames, Bincode::from(options(frame_bytes_max)))
}

fn writer<W: AsyncWrite, Out>(write: W, frame_bytes_max: usize) -> Writer<W, Out> {
    let frames = LengthDelimitedCodec::builder().max_frame_length(frame_bytes_max).new_write(write);
    tokio_serde::Framed::new(frames, Bincode::from(options(frame_bytes_max)))
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::{SinkExt, StreamExt};
    use proptest::prelude::*;

    use super::*;
    use crate::message::{ClientHello, MAGIC, PROTOCOL_VERSION, Request, RequestBody};

    fn hello() -> ToDaemon {
        ToDaemon::Hello(ClientHello { magic: MAGIC, protocol: PROTOCOL_VERSION, software: "test".to_owned() })
    }

    async fn read_all(bytes: &[u8]) -> Vec<io::Result<ToDaemon>> {
        let (read, _) = daemon_end(bytes, tokio::io::sink());
        read.collect().await
    }

    async fn frames_of(messages: Vec<ToDaemon>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (_, mut write) = client_end(tokio::io::empty(), &mut bytes);
        for message in messages {
            write.feed(message).await.unwrap();
        }
        write.flush().await.unwrap();
        drop(write);
        bytes
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        let request = ToDaemon::Request(Request { id: 7, body: RequestBody::Status });
        let bytes = frames_of(vec![hello(), request.clone()]).await;
        let read = read_all(&bytes).await;
        assert!(matches!(&read[..], [Ok(first), Ok(second)] if *first == hello() && *second == request));
    }

    #[tokio::test]
    async fn a_frame_cut_short_is_never_a_message() {
        let bytes = frames_of(vec![hello()]).await;
        for cut in 1..bytes.len() {
            let read = read_all(&bytes[..cut]).await;
            assert!(read.iter().all(Result::is_err), "cut at {cut}: {read:?}");
        }
    }

    #[tokio::test]
    async fn a_frame_longer_than_the_limit_is_refused_before_it_is_read() {
        let mut bytes = u32::try_from(REQUEST_FRAME_BYTES_MAX + 1).unwrap().to_be_bytes().to_vec();
        bytes.extend([0; 16]);
        let read = read_all(&bytes).await;
        assert!(matches!(&read[..], [Err(_)]), "{read:?}");
    }

    #[tokio::test]
    async fn trailing_bytes_and_unknown_variants_are_refused() {
        for frame in [&[1u8, 7, 5, 0][..], &[9, 0], &[1, 7, 99]] {
            let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
            bytes.extend(frame);
            let read = read_all(&bytes).await;
            assert!(matches!(&read[..], [Err(_)]), "{frame:?}: {read:?}");
        }
    }

    #[test]
    fn a_claimed_length_is_not_believed() {
        // A payload that claims to hold 2^60 bytes, in a buffer of nine.
        let hostile = [253, 0, 0, 0, 0, 0, 0, 0, 16];
        assert!(decode::<Payload>(&hostile).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<ToDaemon>(&bytes);
            let _ = decode::<FromDaemon>(&bytes);
        }
    }
}
