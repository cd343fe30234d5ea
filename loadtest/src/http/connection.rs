//! A connection, and the response on it.

use std::{io, net::SocketAddr, time::Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    Arrival, Departure, HttpError,
    body::{Body, Piece},
    head::Head,
    stamped::Stamped,
};

const BUFFER: usize = 16 << 10;
const MAX_HEAD: usize = 64 << 10;
/// Heads such as `100 Continue` before the one that counts.
const MAX_INTERIM_HEADS: usize = 16;

#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stamped,
    buffer: Vec<u8>,
    /// What was read and is not yet dealt with.
    unread: std::ops::Range<usize>,
}

impl Connection {
    /// Tries one address after the other.
    pub(crate) async fn open(addresses: &[SocketAddr]) -> io::Result<Self> {
        let mut failure = io::Error::other("the host name has no address");
        for &address in addresses {
            match TcpStream::connect(address).await {
                Ok(tcp) => {
                    return Ok(Self {
                        stream: Stamped::new(tcp)?,
                        buffer: vec![0; BUFFER],
                        unread: 0..0,
                    });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Whether an idle connection cannot be used any more.
    pub(crate) fn is_stale(&mut self) -> bool {
        !self.unread.is_empty() || self.stream.is_stale()
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Departure, HttpError> {
        let _ = self.stream.take_departure();
        let asked = Instant::now();
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        Ok(self
            .stream
            .take_departure()
            .unwrap_or(Departure { began: asked, ended: Instant::now() }))
    }

    /// Reads the head of the response.
    pub(crate) async fn receive(mut self) -> Result<Response, HttpError> {
        for _ in 0..MAX_INTERIM_HEADS {
            let head = self.head().await?;
            if !matches!(head.status, 100..=199) {
                let Head { status, body, keeps_alive, encoding } = head;
                let headers = self.stream.arrival();
                return Ok(Response {
                    connection: self,
                    status,
                    body,
                    keeps_alive,
                    encoding,
                    headers,
                });
            }
        }
        Err(HttpError::NotHttp("it says to wait, again and again".to_owned()))
    }

    async fn head(&mut self) -> Result<Head, HttpError> {
        loop {
            if let Some((head, length)) = Head::parse(&self.buffer[self.unread.clone()])? {
                self.unread.start += length;
                return Ok(head);
            }
            if self.unread.len() >= MAX_HEAD {
                return Err(HttpError::NotHttp("its headers have no end".to_owned()));
            }
            if self.fill().await? == 0 {
                return Err(HttpError::Closed { began: !self.unread.is_empty() });
            }
        }
    }

    /// Reads once more; zero at the end of the connection.
    async fn fill(&mut self) -> io::Result<usize> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.buffer.len() {
            // Only a head is kept while more is read, so this happens once or twice.
            self.buffer.drain(..self.unread.start);
            self.unread = 0..self.unread.len();
            self.buffer.resize(self.unread.end + BUFFER, 0);
        }
        let count = self.stream.read(&mut self.buffer[self.unread.end..]).await?;
        self.unread.end += count;
        Ok(count)
    }
}

/// A response whose head has come.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) encoding: Option<String>,
    /// When the head was there.
    pub(crate) headers: Arrival,
    connection: Connection,
    body: Body,
    keeps_alive: bool,
}

impl Response {
    /// The next piece of the body, and when it came; `None` at the end.
    pub(crate) async fn piece(&mut self) -> Result<Option<(&[u8], Arrival)>, HttpError> {
        let connection = &mut self.connection;
        let range = loop {
            if self.body.is_done() {
                return Ok(None);
            }
            if connection.unread.is_empty() && connection.fill().await? == 0 {
                let is_whole = self.body.close();
                return if is_whole { Ok(None) } else { Err(HttpError::Closed { began: true }) };
            }
            let start = connection.unread.start;
            let Piece { consumed, data } =
                self.body.decode(&connection.buffer[connection.unread.clone()])?;
            connection.unread.start += consumed;
            if !data.is_empty() {
                break start + data.start..start + data.end;
            }
        };
        Ok(Some((&connection.buffer[range], connection.stream.arrival())))
    }

    /// When the last bytes came.
    pub(crate) fn arrival(&self) -> Arrival {
        self.connection.stream.arrival()
    }

    /// The connection, if it can carry another request.
    pub(crate) fn into_connection(self) -> Option<Connection> {
        (self.keeps_alive && self.body.is_done()).then_some(self.connection)
    }
}
