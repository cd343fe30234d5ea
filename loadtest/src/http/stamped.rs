//! A TCP connection that knows when its bytes left and came.

use std::{
    io::{self, IoSliceMut},
    net::UdpSocket,
    os::fd::{AsRawFd as _, RawFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    cmsg_space,
    sys::{
        socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns},
        time::TimeSpec,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// A difference between two readings of the wall clock that is larger is a clock that was set, not a delay.
const MAX_LAG: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Stamped {
    tcp: TcpStream,
    control: Vec<u8>,
    arrival: Arrival,
    read_before: Instant,
    departure: Option<Departure>,
}

/// Keeps the kernel stamping what it receives.
///
/// It begins to do so a little after the first socket asks for it, and ends with the last that does: without this the
/// first answers would have no stamp.
#[derive(Debug)]
pub(crate) struct Stamping(#[expect(dead_code, reason = "held open")] Option<UdpSocket>);

impl Stamping {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").ok();
        Self(socket.filter(|socket| setsockopt(socket, ReceiveTimestampns, &true).is_ok()))
    }
}

/// When the bytes of a read came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    /// They did not come before this: later ones may have been read with them, and the stamp is that of the last.
    pub(crate) earliest: Instant,
    /// From the kernel's stamp to the end of the read; `None` if the kernel gave none, and `at` is the end of the read.
    pub(crate) lag: Option<Duration>,
}

/// When the bytes of a request were handed to the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Departure {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

impl Stamped {
    pub(crate) fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        // Where the kernel gives no stamps, the end of each read has to do.
        let _ = setsockopt(&tcp, ReceiveTimestampns, &true);
        let now = Instant::now();
        let arrival = Arrival { at: now, earliest: now, lag: None };
        let control = cmsg_space!(TimeSpec);
        Ok(Self { tcp, control, arrival, read_before: now, departure: None })
    }

    /// Of the last read.
    pub(crate) fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// Of all that was written since this was last asked.
    pub(crate) fn take_departure(&mut self) -> Option<Departure> {
        self.departure.take()
    }

    /// Whether the peer closed the connection, or sent what nobody asked for.
    pub(crate) fn is_stale(&mut self) -> bool {
        let peeked = self.tcp.try_io(Interest::READABLE, || {
            recvmsg::<()>(
                self.tcp.as_raw_fd(),
                &mut [IoSliceMut::new(&mut [0])],
                None,
                MsgFlags::MSG_PEEK,
            )
            .map(|_| ())
            .map_err(io::Error::from)
        });
        !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { tcp, control, arrival, read_before, .. } = self;
        let began = Instant::now();
        let mut received = None;
        let ready = tcp.try_io(Interest::READABLE, || {
            let (count, _) = *received.insert(receive(tcp.as_raw_fd(), buffer, control)?);
            // A short read took all there was. Saying so spares a second one, that would find nothing.
            if (1..buffer.len()).contains(&count) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        let Some((count, stamp)) = received else {
            return Err(ready.err().unwrap_or_else(|| io::ErrorKind::WouldBlock.into()));
        };
        let (now, wall) = both_clocks();
        let lag = stamp
            .and_then(|stamp| wall.duration_since(UNIX_EPOCH + stamp).ok())
            .filter(|lag| *lag < MAX_LAG);
        let at = lag.and_then(|lag| now.checked_sub(lag)).unwrap_or(now);
        // Bytes come in order, whatever the wall clock does.
        // The read before took all that had come until then.
        *arrival = Arrival { at: at.max(arrival.at), earliest: *read_before, lag };
        *read_before = began;
        Ok(count)
    }
}

/// At the same time, as nearly as may be: a thread can lose its core between two readings.
fn both_clocks() -> (Instant, SystemTime) {
    const MAX_BETWEEN: Duration = Duration::from_micros(2);
    const TRIES: u32 = 4;
    let mut before = Instant::now();
    for _ in 1..TRIES {
        let wall = SystemTime::now();
        let after = Instant::now();
        if after - before < MAX_BETWEEN {
            return (before, wall);
        }
        before = after;
    }
    (before, SystemTime::now())
}

/// The bytes, and when the last of them came, by the wall clock.
fn receive(
    socket: RawFd,
    buffer: &mut [u8],
    control: &mut [u8],
) -> io::Result<(usize, Option<Duration>)> {
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket, &mut slices, Some(control), MsgFlags::empty())?;
    let stamp = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
        _ => None,
    });
    Ok((message.bytes, stamp))
}

impl AsyncRead for Stamped {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.tcp.poll_read_ready(context))?;
            match this.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stamped {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // Before the call: on a fast path it ends when the server has the bytes.
        let began = Instant::now();
        let count = ready!(Pin::new(&mut this.tcp).poll_write(context, bytes))?;
        let began = this.departure.map_or(began, |departure| departure.began);
        this.departure = Some(Departure { began, ended: Instant::now() });
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn bytes_have_the_time_they_came_at_not_the_time_they_were_read_at() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut client = Stamped::new(TcpStream::connect(address).await.unwrap()).unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            let _stamping = Stamping::start();
            let mut last_read = Instant::now();
            let (lag, at, before, after) = loop {
                let before = Instant::now();
                server.write_all(b"a").await.unwrap();
                let after = Instant::now();
                // The client is busy elsewhere.
                std::thread::sleep(Duration::from_millis(50));
                let mut byte = [0];
                client.read_exact(&mut byte).await.unwrap();
                let Arrival { at, earliest, lag } = client.arrival();
                assert!(earliest <= last_read && earliest <= at);
                last_read = Instant::now();
                if let Some(lag) = lag {
                    break (lag, at, before, after);
                }
            };
            assert!(lag >= Duration::from_millis(50), "{lag:?}");
            // Two clocks are read one after the other, so the time is known to some microseconds.
            let slack = Duration::from_millis(5);
            assert!(before <= at + slack && at <= after + slack, "{:?}", at.duration_since(before));
        });
    }

    #[test]
    fn a_closed_connection_is_stale() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut client = Stamped::new(TcpStream::connect(address).await.unwrap()).unwrap();
            let (server, _) = listener.accept().await.unwrap();
            assert!(!client.is_stale());
            drop(server);
            client.tcp.readable().await.unwrap();
            assert!(client.is_stale());
        });
    }
}
