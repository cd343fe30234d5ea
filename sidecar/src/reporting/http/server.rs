//! Connections: a bounded number, each with little time, so that nobody keeps a probe of the kubelet
//! from its answer.
//!
//! A missed liveness probe restarts the tracer, and vLLM with it. So there is always room for one
//! more connection: when all slots are taken, the oldest one that has asked nothing yet is closed.

use std::{
    fs::File,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, bind, listen as start_listening, socket_with,
        sockopt,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    task::{AbortHandle, yield_now},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::answer;
use crate::{capabilities, reporting::status::Reporter};

/// From the first byte of a connection's life to the last of its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// From there to the last byte of the answer: a client may read slowly, but not for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client still sends after its answer is read for this long, as closing at once could
/// destroy the answer on its way.
const LINGER_TIMEOUT: Duration = Duration::from_millis(500);
const MAX_LINGER_BYTES: usize = 64 << 10;

/// Far more than honest clients need: the kubelet, Prometheus, `status`.
const MAX_CONNECTIONS: usize = 64;

/// Full statuses that are made at a time: each lists directories.
const MAX_REPORTS: usize = 1;

/// hyper reads no less; it bounds the head of a request.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// Between attempts to accept while descriptors or memory are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes the port, so that a start with a wrong address fails.
///
/// `[::]` listens on IPv4 too, whatever `net.ipv6.bindv6only` says, and on IPv4 alone where the
/// kernel has no IPv6: one setting for every cluster.
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = match try_to_listen(address) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if address.ip() == super::ANY_IPV6 => {
            try_to_listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        listener => listener,
    };
    listener.with_context(|| {
        format!(
            "cannot listen on HTTP_ADDRESS {address}: choose another address or port (port 0 takes a \
             free one), or set it to nothing to do without"
        )
    })
}

fn try_to_listen(address: SocketAddr) -> rustix::io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // A restarted sidecar takes the port while old connections linger.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, address.ip() != super::ANY_IPV6)?;
    }
    bind(&socket, &address)?;
    start_listening(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Answers until the process ends, on a thread of its own: uploads and what else runs on the
/// daemon's runtime must not delay a probe.
pub fn serve(listener: TcpListener, reporter: Arc<Reporter>) -> Result<()> {
    // One more than reports, so that no report ever waits for one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(MAX_REPORTS + 1)
        .thread_name("http-report")
        .enable_all()
        .build()
        .context("cannot start the runtime of HTTP_ADDRESS")?;
    let listener = {
        let _entered = runtime.enter();
        tokio::net::TcpListener::from_std(listener).context("cannot wait on HTTP_ADDRESS")?
    };
    thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || {
            // What anybody can connect to needs no rights over processes; nor do its helpers.
            capabilities::keep_files_only(reporter.trace_dir());
            runtime.block_on(accept(listener, reporter));
        })
        .context("cannot start the thread http")?;
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, reporter: Arc<Reporter>) {
    let answers = Answers { reporter, reports: Arc::new(Semaphore::new(MAX_REPORTS)) };
    let mut slots = Slots::default();
    let reserve = Arc::new(Reserve::default());
    reserve.renew();
    let mut is_failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                is_failing = false;
                slots.make_room();
                let peer = peer.ip();
                let has_asked = Arc::new(AtomicBool::new(false));
                let conversation =
                    serve_connection(stream, peer, answers.clone(), Arc::clone(&has_asked));
                let reserve = Arc::clone(&reserve);
                let task = tokio::spawn(async move {
                    conversation.await;
                    reserve.renew();
                });
                slots.held.push(Slot { peer, has_asked, task: task.abort_handle() });
                // A request that is there already is answered before the next connection can take
                // its slot.
                yield_now().await;
            }
            Err(error) if is_of_connection(&error) => debug!("a connection broke off: {error}"),
            // Too many open files, most likely, here or on the machine. The kernel says that also
            // when nobody waits to be accepted.
            Err(_) if !is_waited_for(&listener) => {
                reserve.renew();
                sleep(ACCEPT_PAUSE).await;
            }
            Err(error) => {
                if !is_failing {
                    warn!("cannot accept a connection, and tries again: {error}");
                }
                is_failing = true;
                if !reserve.release() {
                    sleep(ACCEPT_PAUSE).await;
                    slots.close_idle();
                }
            }
        }
    }
}

/// Whether a connection can be accepted.
fn is_waited_for(listener: &tokio::net::TcpListener) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Errors of the connection that would have been accepted, not of accepting: accept(2).
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    ) || error.raw_os_error().map(Errno::from_raw_os_error).is_some_and(|error| {
        matches!(
            error,
            Errno::PROTO | Errno::NOPROTOOPT | Errno::HOSTDOWN | Errno::NONET | Errno::OPNOTSUPP
        )
    })
}

/// One descriptor that is given up when none is left, so that a probe still gets its answer.
#[derive(Default)]
struct Reserve(Mutex<Option<File>>);

impl Reserve {
    /// As soon as a connection has ended, before somebody else takes its descriptor.
    fn renew(&self) {
        let mut reserve = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reserve.is_none() {
            *reserve = File::open("/dev/null").ok();
        }
    }

    /// Whether there was one.
    fn release(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}

/// Connections that are open, the oldest first.
#[derive(Default)]
struct Slots {
    held: Vec<Slot>,
}

struct Slot {
    peer: IpAddr,
    /// The head of its request is complete.
    has_asked: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Slots {
    /// Closes a connection if none can be added.
    fn make_room(&mut self) {
        if self.held.len() >= MAX_CONNECTIONS {
            self.held.retain(|slot| !slot.task.is_finished());
        }
        if self.held.len() >= MAX_CONNECTIONS {
            let slot = self.held.remove(self.least_useful());
            debug!(peer = %slot.peer, "a connection is closed to make room");
            slot.task.abort();
        }
    }

    /// The oldest that has asked nothing, of the peer that has most of these: one that opens many
    /// closes its own. Where all have asked, the oldest.
    fn least_useful(&self) -> usize {
        let is_idle = |slot: &&Slot| !slot.has_asked.load(Ordering::Relaxed);
        let of = |peer| self.held.iter().filter(is_idle).filter(|slot| slot.peer == peer).count();
        let idle = self.held.iter().enumerate().filter(|(_, slot)| is_idle(slot));
        // Of equals the last wins, so from the newest to the oldest.
        idle.rev().max_by_key(|(_, slot)| of(slot.peer)).map_or(0, |(index, _)| index)
    }

    /// Closes one that has asked nothing, if there is one.
    fn close_idle(&mut self) {
        self.held.retain(|slot| !slot.task.is_finished());
        if !self.held.is_empty() {
            let slot = self.least_useful();
            if !self.held[slot].has_asked.load(Ordering::Relaxed) {
                self.held.remove(slot).task.abort();
            }
        }
    }
}

#[derive(Clone)]
struct Answers {
    reporter: Arc<Reporter>,
    reports: Arc<Semaphore>,
}

async fn serve_connection(
    stream: TcpStream,
    peer: IpAddr,
    answers: Answers,
    has_asked: Arc<AtomicBool>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        let Answers { reporter, reports } = answers.clone();
        async move { answer(request, peer, reporter, reports).await }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown();
    let mut connection = std::pin::pin!(connection);
    let mut ended = timeout(HEAD_TIMEOUT, &mut connection).await;
    if ended.is_err() && has_asked.load(Ordering::Relaxed) {
        ended = timeout(ANSWER_TIMEOUT, &mut connection).await;
    }
    match ended {
        Ok(Ok(parts)) => {
            // What it sends meanwhile is nobody's concern.
            let _: Result<_, _> = timeout(LINGER_TIMEOUT, linger(parts.io.into_inner())).await;
        }
        Ok(Err(error)) => debug!(%peer, "a connection failed: {error}"),
        Err(_) => debug!(%peer, "a connection took too long"),
    }
}

/// Says that all is said, and waits for the other side to say so too.
async fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let (mut buffer, mut read) = ([0; 1024], 0);
    while read < MAX_LINGER_BYTES {
        match stream.read(&mut buffer).await? {
            0 => break,
            bytes => read += bytes,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots as (last byte of the peer, has asked), the oldest first; all of them are taken.
    fn least_useful(slots: &[(u8, bool)]) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let held = slots.iter().map(|&(peer, has_asked)| Slot {
            peer: IpAddr::from([10, 0, 0, peer]),
            has_asked: Arc::new(AtomicBool::new(has_asked)),
            task: runtime.spawn(std::future::pending::<()>()).abort_handle(),
        });
        Slots { held: held.collect() }.least_useful()
    }

    #[test]
    fn the_oldest_idle_connection_of_who_has_most_makes_room() {
        for (slots, expected) in [
            (&[(1, false), (1, false)][..], 0),
            (&[(1, true), (1, false)], 1),
            (&[(1, false), (2, false), (2, false)], 1),
            (&[(1, false), (2, true), (2, true), (2, true)], 0),
            (&[(1, true), (2, true)], 0),
        ] {
            assert_eq!(least_useful(slots), expected, "{slots:?}");
        }
    }

    #[test]
    fn errors_of_one_connection_are_told_from_those_of_accepting() {
        for (error, expected) in [
            (Errno::CONNABORTED, true),
            (Errno::NETDOWN, true),
            (Errno::PROTO, true),
            (Errno::MFILE, false),
            (Errno::NFILE, false),
            (Errno::NOMEM, false),
            (Errno::NOBUFS, false),
        ] {
            assert_eq!(is_of_connection(&error.into()), expected, "{error}");
        }
    }
}
