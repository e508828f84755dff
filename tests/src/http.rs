//! An HTTP client that does what it is told: one request a connection, any bytes, no retries, no redirects.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take. Longer than any gateway of a test takes.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Place {
    /// At a TCP address.
    Tcp(SocketAddr),
    /// At a path.
    Unix(PathBuf),
}

/// A connection of either kind.
pub trait Stream: Read + Write + Send {
    /// What has been sent is all there is.
    ///
    /// # Errors
    /// The connection is gone.
    fn finish(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn finish(&self) -> io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }
}

impl Stream for UnixStream {
    fn finish(&self) -> io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }
}

impl Place {
    /// Opens a connection.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self) -> io::Result<Box<dyn Stream>> {
        self.connect_for(ANSWER_WITHIN)
    }

    /// Opens a connection of which every read waits for at most `within`.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect_for(&self, within: Duration) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(within))?;
                Ok(Box::new(stream))
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(within))?;
                Ok(Box::new(stream))
            }
        }
    }

    /// Sends these bytes and returns all that is answered before the connection is closed.
    ///
    /// # Errors
    /// The connection broke.
    pub fn exchange(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = self.connect()?;
        stream.write_all(bytes)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// What comes next, 0 at its end. With a limit of time, a read of a process that was stopped fails when it goes on (signal(7)).
///
/// # Errors
/// The connection broke, or nothing came in time.
pub fn read_on(stream: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A request of this method and path.
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// With a body of any kind.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With a JSON document as its body.
    pub fn json(self, document: &Value) -> Self {
        self.header("content-type", "application/json").body(document.to_string())
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", self.method, self.path);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        [format!("{head}\r\n").as_bytes(), &self.body].concat()
    }

    /// Its method and path, without what stands behind the question mark.
    pub fn target(&self) -> (&str, &str) {
        (&self.method, self.path.split('?').next().unwrap_or_default())
    }

    /// Sends it.
    ///
    /// # Errors
    /// The connection broke before the whole answer was there: nothing is known.
    pub fn send(&self, place: &Place) -> io::Result<Answer> {
        Answer::read(&place.exchange(&self.bytes())?)
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads the answer to the only request of a connection.
    ///
    /// # Errors
    /// It is not whole.
    pub fn read(bytes: &[u8]) -> io::Result<Self> {
        let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(cut)?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(cut)?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let answer = Self { status, headers, body: bytes[end + 4..].to_vec() };
        match answer.header("content-length").and_then(|length| length.parse::<usize>().ok()) {
            Some(length) if answer.body.len() != length => Err(cut()),
            _ => Ok(answer),
        }
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Its body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its body as a JSON document.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.text()))
    }

    /// Insists on a status.
    ///
    /// # Panics
    /// It is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Insists on a problem document of this status and kind, and returns it.
    ///
    /// # Panics
    /// It is something else.
    #[track_caller]
    pub fn problem(self, status: u16, kind: &str) -> Value {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
        let problem = answer.json();
        assert_eq!(problem["kind"], kind, "{problem}");
        assert_eq!(problem["type"], format!("urn:like:problem:{kind}"), "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }
}
