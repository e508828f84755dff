//! A file line by line: where each line ends, and a digest of everything up to there.

use std::hash::{DefaultHasher, Hasher};
use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};

/// The longest line, and the longest record of several lines, in bytes.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// A place in a file, behind a line: what stands before it is known by its digest.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
pub struct Mark {
    /// How many lines.
    pub lines: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The digest of these bytes. Another release of the program may make another one.
    pub digest: u64,
}

/// Reads lines.
pub struct Lines<R> {
    input: R,
    digest: DefaultHasher,
    mark: Mark,
}

/// A line that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// It was appended.
    Whole,
    /// It is longer than [`LINE_BYTES_MAX`]: only its beginning was appended.
    TooLong,
}

impl<R: BufRead> Lines<R> {
    /// From the beginning.
    pub fn new(input: R) -> Self {
        Self { input, digest: DefaultHasher::new(), mark: Mark::default() }
    }

    /// Behind the line that was read last.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Appends the next line with its end; nothing if there is none.
    ///
    /// # Errors
    /// The input can't be read.
    pub fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Option<Line>> {
        let (start, mut bytes) = (line.len(), 0);
        loop {
            let read = match self.input.fill_buf() {
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let ends = read.iter().position(|byte| *byte == b'\n');
            let taken = ends.map_or(read.len(), |end| end + 1);
            let room = LINE_BYTES_MAX.saturating_sub(line.len() - start);
            line.extend(&read[..taken.min(room)]);
            self.input.consume(taken);
            bytes += taken;
            if ends.is_some() || taken == 0 {
                break;
            }
        }
        if bytes == 0 {
            return Ok(None);
        }
        self.digest.write(&line[start..]);
        self.digest.write_usize(bytes);
        let Mark { lines, bytes: before, .. } = self.mark;
        self.mark = Mark { lines: lines + 1, bytes: before + bytes as u64, digest: self.digest.finish() };
        Ok(Some(if bytes <= LINE_BYTES_MAX { Line::Whole } else { Line::TooLong }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut text: &[u8]) -> Vec<(Vec<u8>, Line, Mark)> {
        let mut lines = Lines::new(&mut text);
        let mut all = Vec::new();
        let mut line = Vec::new();
        while let Some(what) = lines.next(&mut line).unwrap() {
            all.push((std::mem::take(&mut line), what, lines.mark()));
        }
        all
    }

    #[test]
    fn lines_are_read_with_their_ends_and_the_last_one_needs_none() {
        let all = read(b"a\r\n\nlast");
        let texts: Vec<_> = all.iter().map(|(line, ..)| line.as_slice()).collect();
        assert_eq!(texts, [&b"a\r\n"[..], b"\n", b"last"]);
        assert_eq!(all.iter().map(|(.., mark)| mark.bytes).collect::<Vec<_>>(), [3, 4, 8]);
        assert_eq!(read(b""), []);
    }

    #[test]
    fn of_a_line_that_is_too_long_only_the_beginning_is_kept() {
        let text = [&[b'x'; 3 * LINE_BYTES_MAX][..], b"\nnext\n"].concat();
        let all = read(&text);
        assert_eq!((all[0].0.len(), all[0].1), (LINE_BYTES_MAX, Line::TooLong));
        assert_eq!(all[0].2.bytes, 3 * LINE_BYTES_MAX as u64 + 1);
        assert_eq!((all[1].0.as_slice(), all[1].1, all[1].2.lines), (&b"next\n"[..], Line::Whole, 2));
    }
}
