//! What a file says: likes, and lines that are none. Read in a thread of its own, since a pipe may keep it waiting.

use std::io::{self, BufRead};
use std::panic::{AssertUnwindSafe, catch_unwind};

use clap::ValueEnum;
use like_protocol::likes::{ArticleId, UserId};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::csv::{self, Columns, First, Split};
use super::input::{LINE_BYTES_MAX, Line, Lines, Mark};

/// How many records are read ahead.
const AHEAD: usize = 1024;

/// How likes are written down.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Comma-separated values: `user,article`, with or without a header
    Csv,
    /// One JSON object a line: {"user":1,"article":2}
    Ndjson,
}

/// Who likes what.
pub type Like = (UserId, ArticleId);

/// One record.
#[derive(Debug)]
pub struct Record {
    /// Its first line, counted from 1.
    pub line: u64,
    /// Where it ends.
    pub end: Mark,
    /// Who likes what, or what is wrong with it.
    pub like: Result<Like, Bad>,
}

/// A record that is no like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bad {
    /// What is wrong.
    pub why: String,
    /// How it begins.
    pub text: String,
}

/// Why no more can be read.
#[derive(Debug)]
pub enum ReadError {
    /// The system refused.
    Io(io::Error),
    /// What follows can't be understood. From which line on, and why.
    Unreadable(u64, String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Records, one after the other; after an error there are no more.
pub type Records = mpsc::Receiver<Result<Record, ReadError>>;

/// Begins to read. The thread ends with its input, or when nobody wants more.
pub fn read(mut reader: Reader<impl BufRead + Send + 'static>) -> Records {
    let (found, records) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let read_all = || {
            while let Some(read) = reader.next().transpose() {
                let is_last = read.is_err();
                if found.blocking_send(read).is_err() || is_last {
                    return;
                }
            }
        };
        // The input would otherwise seem to end where this thread does.
        if catch_unwind(AssertUnwindSafe(read_all)).is_err() {
            let _unless_unwanted = found.blocking_send(Err(io::Error::other("its reader panicked").into()));
        }
    });
    records
}

type LikeOrWhyNot = Result<Like, String>;

/// Reads records from a file or from standard input.
pub type AnyReader = Reader<Box<dyn BufRead + Send>>;

/// Reads records.
pub struct Reader<R> {
    lines: Lines<R>,
    format: Option<Format>,
    columns: Option<Columns>,
    bytes: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    /// From the beginning.
    pub fn new(input: R, format: Option<Format>) -> Self {
        Self { lines: Lines::new(input), format, columns: None, bytes: Vec::new() }
    }

    /// Goes behind a mark. Tells whether everything up to there is what it was when the mark was made.
    ///
    /// # Errors
    /// The input can't be read.
    pub fn skip_to(&mut self, mark: &Mark) -> io::Result<bool> {
        while self.lines.mark().bytes < mark.bytes {
            match self.next() {
                Ok(Some(_)) => {}
                Ok(None) | Err(ReadError::Unreadable(..)) => return Ok(false),
                Err(ReadError::Io(error)) => return Err(error),
            }
        }
        Ok(self.lines.mark() == *mark)
    }

    /// The next record; blank lines and the header are none.
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        loop {
            self.bytes.clear();
            let line = self.lines.mark().lines + 1;
            let Some(read) = self.lines.next(&mut self.bytes)? else { return Ok(None) };
            if line == 1 && self.bytes.starts_with(b"\xef\xbb\xbf") {
                self.bytes.drain(..3);
            }
            let Some(first) = self.bytes.iter().find(|byte| !byte.is_ascii_whitespace()) else { continue };
            let is_object = *first == b'{';
            let guessed = if is_object { Format::Ndjson } else { Format::Csv };
            let like = match (read, *self.format.get_or_insert(guessed)) {
                (Line::TooLong, _) => Some(Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"))),
                (Line::Whole, Format::Ndjson) if is_object => Some(of_json(&self.bytes)),
                // Of an array it could not be told which of them is which.
                (Line::Whole, Format::Ndjson) => {
                    Some(Err("it is no object with `user` and `article`".to_owned()))
                }
                (Line::Whole, Format::Csv) => self.csv(line)?,
            };
            if let Some(like) = like {
                let like = like.map_err(|why| Bad { why, text: beginning(&self.bytes) });
                return Ok(Some(Record { line, end: self.lines.mark(), like }));
            }
        }
    }

    /// The like in a record that begins with the line that was read; nothing if it is the header.
    fn csv(&mut self, line: u64) -> Result<Option<LikeOrWhyNot>, ReadError> {
        let fields = loop {
            let Ok(text) = std::str::from_utf8(&self.bytes) else {
                return Ok(Some(Err("it is not UTF-8".to_owned())));
            };
            match csv::split(text) {
                Split::Fields(fields) => break fields,
                Split::Bad(why) => return Ok(Some(Err(why.to_owned()))),
                Split::Open => {}
            }
            let ended = self.lines.next(&mut self.bytes)?.is_none();
            if ended || self.bytes.len() > LINE_BYTES_MAX {
                let why = "a quoted field begins there and does not end".to_owned();
                return Err(ReadError::Unreadable(line, why));
            }
        };
        let columns = match self.columns {
            Some(columns) => columns,
            None => match csv::first(&fields) {
                First::Like(columns) => *self.columns.insert(columns),
                First::Header(columns) => {
                    self.columns = Some(columns);
                    return Ok(None);
                }
                First::Useless => {
                    let why = "it is neither a like nor a header that names `user` and `article` once each"
                        .to_owned();
                    return Err(ReadError::Unreadable(line, why));
                }
            },
        };
        if fields.len() > columns.all {
            let why = format!("it has {} fields, where at most {} are expected", fields.len(), columns.all);
            return Ok(Some(Err(why)));
        }
        let number = |column: usize, what: &str| match fields.get(column).map(|field| (field, field.parse()))
        {
            Some((_, Ok(number))) => Ok(number),
            Some((field, Err(_))) if !field.is_empty() => Err(format!("`{field}` is no {what} id")),
            _ => Err(format!("there is no {what} id")),
        };
        let user = number(columns.user, "user").map(UserId);
        Ok(Some(user.and_then(|user| Ok((user, ArticleId(number(columns.article, "article")?))))))
    }
}

/// Of a line that is an object.
fn of_json(line: &[u8]) -> LikeOrWhyNot {
    #[derive(Deserialize)]
    struct Like {
        #[serde(alias = "user_id")]
        user: Id,
        #[serde(alias = "article_id")]
        article: Id,
    }
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an id is a whole number")]
    enum Id {
        Number(u64),
        Text(String),
    }
    let number = |id: Id, what| match id {
        Id::Number(number) => Ok(number),
        Id::Text(text) => text.parse().map_err(|_| format!("`{text}` is no {what} id")),
    };
    let Like { user, article } = serde_json::from_slice(line).map_err(in_words)?;
    Ok((UserId(number(user, "user")?), ArticleId(number(article, "article")?)))
}

/// Without the number of the line, which here is always 1.
fn in_words(error: serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} (column {})", error.column()),
        None => text,
    }
}

/// So much of a line that a person knows it again.
fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line's number, and its user and article.
    type Told = (u64, Result<(u64, u64), String>);

    fn read(text: &str) -> Vec<Told> {
        let mut reader = Reader::new(text.as_bytes(), None);
        let next = move || reader.next().unwrap();
        let like = |record: Record| {
            (record.line, record.like.map(|(user, article)| (user.0, article.0)).map_err(|bad| bad.why))
        };
        std::iter::from_fn(next).map(like).collect()
    }

    /// An input of one line, and a bug behind it.
    struct OneLine(bool);

    impl io::Read for OneLine {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            assert!(!std::mem::replace(&mut self.0, true), "a bug");
            bytes[..4].copy_from_slice(b"7,1\n");
            Ok(4)
        }
    }

    #[tokio::test]
    async fn an_input_whose_reader_panics_has_not_come_to_its_end() {
        let mut records = super::read(Reader::new(io::BufReader::new(OneLine(false)), None));
        assert!(matches!(records.recv().await, Some(Ok(Record { line: 1, .. }))));
        assert!(matches!(records.recv().await, Some(Err(ReadError::Io(_)))), "it seems to have ended there");
        assert!(records.recv().await.is_none());
    }

    #[test]
    fn csv_is_read_with_a_header_and_without() {
        assert_eq!(read("7,1\n8,2\n"), [(1, Ok((7, 1))), (2, Ok((8, 2)))]);
        assert_eq!(
            read("\u{feff}at,article,user\nx,1,7\n\n\"y\nz\",2,\"8\""),
            [(2, Ok((7, 1))), (4, Ok((8, 2)))]
        );
    }

    /// Which of its fields says what nobody can tell then: a title may have had a comma.
    #[test]
    fn a_record_with_a_field_too_many_is_no_like() {
        let too_many = |line, fields, columns| {
            (line, Err(format!("it has {fields} fields, where at most {columns} are expected")))
        };
        assert_eq!(
            read("1700000000,7,1\n7,1\n7,1,\n"),
            [too_many(1, 3, 2), (2, Ok((7, 1))), too_many(3, 3, 2)]
        );
        assert_eq!(
            read("at,user,article\nx,7,1\n1,2,7,1\n\"1,2\",7,1\n"),
            [(2, Ok((7, 1))), too_many(3, 4, 3), (4, Ok((7, 1)))]
        );
    }

    #[test]
    fn json_is_read_line_by_line_under_either_name() {
        let text = "{\"user\":7,\"article\":1}\n{\"article_id\":\"2\",\"user_id\":8,\"more\":[]}\n";
        assert_eq!(read(text), [(1, Ok((7, 1))), (2, Ok((8, 2)))]);
    }

    #[test]
    fn what_is_no_like_is_told_with_its_line_and_the_next_one_is_read() {
        let bad =
            |read: &[Told]| read.iter().map(|(line, like)| (*line, like.clone().err())).collect::<Vec<_>>();
        let because = |why: &str| Some(why.to_owned());
        assert_eq!(
            bad(&read("user,article\n7,x\n7\n-1,1\n,1\n18446744073709551616,1\n7,1\n")),
            [
                (2, because("`x` is no article id")),
                (3, because("there is no article id")),
                (4, because("`-1` is no user id")),
                (5, because("there is no user id")),
                (6, because("`18446744073709551616` is no user id")),
                (7, None),
            ]
        );
        let json =
            read("{\"user\":7}\n{\"user\":-7,\"article\":1}\n{\n7,1\n[7,1]\n{\"user\":7,\"article\":1}\n");
        assert!(json[..5].iter().all(|(_, like)| like.is_err()), "{json:?}");
        assert_eq!(json[0].1, Err("missing field `article` (column 10)".to_owned()));
        let none = Err("it is no object with `user` and `article`".to_owned());
        assert_eq!((&json[3].1, &json[4].1), (&none, &none));
        assert_eq!(json[5], (6, Ok((7, 1))));
        let long = format!(
            "{{\"user\":7,\"article\":1{}}}\n{{\"user\":7,\"article\":1}}",
            " ".repeat(LINE_BYTES_MAX)
        );
        assert_eq!(bad(&read(&long)), [(1, because("the line is longer than 65536 bytes")), (2, None)]);
    }

    #[test]
    fn where_nobody_can_tell_how_it_goes_on_nothing_more_is_read() {
        for (text, line) in [("who,what\n7,1\n", 1), ("7,1\n8,1,\"open\n9,1\n", 2)] {
            let mut reader = Reader::new(text.as_bytes(), None);
            let end = std::iter::from_fn(|| reader.next().transpose()).find_map(Result::err);
            assert!(matches!(end, Some(ReadError::Unreadable(at, _)) if at == line), "{end:?}");
        }
    }

    #[test]
    fn behind_a_mark_it_is_read_on_if_nothing_before_it_has_changed() {
        let text = "article,user\n1,7\n\n2,8\n3,9\n";
        let mut reader = Reader::new(text.as_bytes(), None);
        let marks: Vec<_> = std::iter::from_fn(|| reader.next().unwrap()).map(|record| record.end).collect();
        let rest = |text: &'static str, buffer: usize, mark: &Mark| {
            let mut reader = Reader::new(io::BufReader::with_capacity(buffer, text.as_bytes()), None);
            let next = |reader: &mut Reader<_>| reader.next().unwrap().map(|record| record.like.unwrap());
            reader.skip_to(mark).unwrap().then(|| next(&mut reader))
        };
        assert_eq!(rest(text, 1, &Mark::default()), Some(Some((UserId(7), ArticleId(1)))));
        assert_eq!(rest(text, 1, &marks[1]), Some(Some((UserId(9), ArticleId(3)))));
        assert_eq!(rest(text, 4096, &marks[2]), Some(None));
        assert_eq!(
            rest("article,user\n1,7\n\n2,8\n4,4", 64, &marks[1]),
            Some(Some((UserId(4), ArticleId(4))))
        );
        for other in [
            "article,user\n1,7\n\n2,9\n3,9\n",
            "article,user\n1,7\n",
            "article,user\n1,72,8\n\n\n\n3,9\n",
            "",
        ] {
            assert_eq!(rest(other, 4096, &marks[1]), None, "{other:?}");
        }
    }
}
