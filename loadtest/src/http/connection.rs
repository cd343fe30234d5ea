//! A connection, and the response on it.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{
    Arrival, Departure, HttpError,
    body::{Body, Piece},
    encoding::Decoder,
    head::Head,
    stamped::Stamped,
    tls::Tls,
};

const BUFFER: usize = 16 << 10;
const MAX_HEAD: usize = 64 << 10;
/// Heads such as `100 Continue` before the one that counts.
const MAX_INTERIM_HEADS: usize = 16;

#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    /// What was read and is not yet dealt with.
    unread: std::ops::Range<usize>,
}

/// Under both, the kernel says when the bytes came.
#[derive(Debug)]
enum Stream {
    Plain(Stamped),
    Tls(Box<TlsStream<Stamped>>),
}

impl Connection {
    /// Tries one address after the other; how long the TLS handshake took, if there was one.
    pub(crate) async fn open(
        addresses: &[SocketAddr],
        tls: Option<&Tls>,
    ) -> io::Result<(Self, Option<Duration>)> {
        let mut failure = io::Error::other("the host name has no address");
        for &address in addresses {
            match TcpStream::connect(address).await {
                Ok(tcp) => {
                    let stamped = Stamped::new(tcp)?;
                    let began = Instant::now();
                    let stream = match tls {
                        Some(tls) => Stream::Tls(Box::new(tls.handshake(stamped).await?)),
                        None => Stream::Plain(stamped),
                    };
                    let handshake = tls.map(|_| began.elapsed());
                    return Ok((Self { stream, buffer: vec![0; BUFFER], unread: 0..0 }, handshake));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Whether an idle connection cannot be used any more.
    pub(crate) fn is_stale(&mut self) -> bool {
        !self.unread.is_empty() || self.stream.stamped_mut().is_stale()
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Departure, HttpError> {
        let _ = self.stream.stamped_mut().take_departure();
        let asked = Instant::now();
        match &mut self.stream {
            Stream::Plain(stream) => write(stream, request).await,
            Stream::Tls(stream) => write(stream, request).await,
        }?;
        Ok(self
            .stream
            .stamped_mut()
            .take_departure()
            .unwrap_or(Departure { began: asked, ended: Instant::now() }))
    }

    /// Reads the head of the response.
    pub(crate) async fn receive(mut self) -> Result<Response, HttpError> {
        for _ in 0..MAX_INTERIM_HEADS {
            let head = self.head().await?;
            if !matches!(head.status, 100..=199) {
                let Head { status, body, keeps_alive, encoding } = head;
                let headers = self.stream.stamped().arrival();
                let decoder = encoding.as_deref().and_then(Decoder::of);
                return Ok(Response {
                    connection: self,
                    status,
                    body,
                    keeps_alive,
                    encoding: encoding.filter(|_| decoder.is_none()),
                    decoder,
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
        let place = &mut self.buffer[self.unread.end..];
        let count = match &mut self.stream {
            Stream::Plain(stream) => stream.read(place).await?,
            Stream::Tls(stream) => match stream.read(place).await {
                // A server that goes without the good-bye of TLS. Whether the answer is whole, its own end says.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                read => read?,
            },
        };
        self.unread.end += count;
        Ok(count)
    }
}

impl Stream {
    fn stamped(&self) -> &Stamped {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    fn stamped_mut(&mut self) -> &mut Stamped {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_mut().0,
        }
    }
}

async fn write(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// A response whose head has come.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// One that cannot be decoded.
    pub(crate) encoding: Option<String>,
    decoder: Option<Decoder>,
    /// When the head was there.
    pub(crate) headers: Arrival,
    connection: Connection,
    body: Body,
    keeps_alive: bool,
}

impl Response {
    /// The next piece of the body, and when it came; `None` at the end.
    pub(crate) async fn piece(&mut self) -> Result<Option<(&[u8], Arrival)>, HttpError> {
        let range = loop {
            let Some(range) = self.next_range().await? else {
                if let Some(decoder) = &mut self.decoder {
                    decoder.finish()?;
                }
                return Ok(None);
            };
            let Some(decoder) = &mut self.decoder else { break range };
            decoder.decode(&self.connection.buffer[range.clone()])?;
            if !decoder.decoded().is_empty() {
                break range;
            }
        };
        let bytes = match &self.decoder {
            Some(decoder) => decoder.decoded(),
            None => &self.connection.buffer[range],
        };
        let mut arrival = self.connection.stream.stamped().arrival();
        // What ends a read has its stamp. What TLS has read and not yet given is not seen here.
        let is_last = self.connection.unread.len() <= "\r\n".len();
        if is_last && arrival.lag.is_some() && matches!(self.connection.stream, Stream::Plain(_)) {
            arrival.earliest = arrival.at;
        }
        Ok(Some((bytes, arrival)))
    }

    /// Where the next piece is among what was read, as it came.
    async fn next_range(&mut self) -> Result<Option<std::ops::Range<usize>>, HttpError> {
        let connection = &mut self.connection;
        loop {
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
                return Ok(Some(start + data.start..start + data.end));
            }
        }
    }

    /// When the last bytes came.
    pub(crate) fn arrival(&self) -> Arrival {
        self.connection.stream.stamped().arrival()
    }

    /// The connection, if it can carry another request.
    pub(crate) fn into_connection(self) -> Option<Connection> {
        (self.keeps_alive && self.body.is_done()).then_some(self.connection)
    }
}
