//! A server of tokens that knows what it did: the truth that load generators are measured against.
//!
//! It speaks enough of vLLM's protocol for a load, in one thread that does nothing else. It notes when the kernel had
//! each request, and when each token was handed to the kernel, both by the wall clock of this machine.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io::{self, IoSliceMut, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use nix::{
    cmsg_space,
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns},
        time::{TimeSpec, TimeValLike as _},
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};
use serde_json::Value;

/// The model that it lists and answers for.
pub const MODEL: &str = "reference";

const LISTENER: u64 = 0;
const TIMER: u64 = 1;
const FIRST_CONNECTION: u64 = 2;
/// More than any request of a load has.
const MAX_REQUEST: usize = 4 << 20;

/// When tokens are due, from the arrival of their request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delays {
    pub first: Duration,
    pub each: Duration,
}

/// One request, in nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// What `X-Request-Id` said.
    pub id: String,
    /// When the kernel had the last bytes of it.
    pub arrived: u64,
    /// Before and after each token was handed to the kernel: it was on its way in between.
    pub sent: Vec<(u64, u64)>,
}

/// Until dropped.
#[derive(Debug)]
pub struct ReferenceServer {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    delays: Mutex<Delays>,
    served: Mutex<Vec<Served>>,
}

impl ReferenceServer {
    pub fn start(delays: Delays) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            delays: Mutex::new(delays),
            served: Mutex::default(),
        });
        let server = Loop::new(listener, Arc::clone(&shared))?;
        let thread = thread::Builder::new()
            .name("reference".to_owned())
            .spawn(move || server.run())
            .context("cannot start a thread")?;
        Ok(Self { port, shared, thread: Some(thread) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// For requests that arrive from now on.
    pub fn set_delays(&self, delays: Delays) {
        *self.shared.delays.lock().unwrap_or_else(PoisonError::into_inner) = delays;
    }

    /// The answers that were completed since this was last asked, in the order of their ends.
    pub fn take_served(&self) -> Vec<Served> {
        std::mem::take(&mut *self.shared.served.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for ReferenceServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Loop {
    listener: TcpListener,
    shared: Arc<Shared>,
    epoll: Epoll,
    timer: TimerFd,
    connections: HashMap<u64, Connection>,
    next: u64,
    /// When each connection's next token is due.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
}

struct Connection {
    tcp: TcpStream,
    unread: Vec<u8>,
    answer: Option<Answer>,
}

struct Answer {
    served: Served,
    tokens: usize,
    input_tokens: usize,
    delays: Delays,
    /// On the monotonic clock.
    arrived: Instant,
}

impl Loop {
    fn new(listener: TcpListener, shared: Arc<Shared>) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let (connections, due) = (HashMap::new(), BinaryHeap::new());
        Ok(Self { listener, shared, epoll, timer, connections, next: FIRST_CONNECTION, due })
    }

    fn run(mut self) -> Result<()> {
        let mut events = vec![EpollEvent::empty(); 256];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                count => count?,
            };
            if self.shared.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            for event in &events[..count] {
                match event.data() {
                    LISTENER => self.accept()?,
                    TIMER => (),
                    connection => self.read(connection),
                }
            }
            self.send_what_is_due();
            self.set_timer()?;
        }
    }

    fn accept(&mut self) -> Result<()> {
        while let Ok((tcp, _)) = self.listener.accept() {
            tcp.set_nonblocking(true)?;
            tcp.set_nodelay(true)?;
            setsockopt(&tcp, ReceiveTimestampns, &true)?;
            self.epoll.add(&tcp, EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
            let connection = Connection { tcp, unread: Vec::new(), answer: None };
            self.connections.insert(self.next, connection);
            self.next += 1;
        }
        Ok(())
    }

    /// A connection that ends, or says what this server does not understand, is closed.
    fn read(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let delays = *self.shared.delays.lock().unwrap_or_else(PoisonError::into_inner);
        match connection.read(delays) {
            Ok(Some(due)) => self.due.push(Reverse((due, number))),
            Ok(None) => (),
            // Closing it takes it out of the epoll set.
            Err(_) => drop(self.connections.remove(&number)),
        }
    }

    fn send_what_is_due(&mut self) {
        while let Some(&Reverse((due, number))) = self.due.peek()
            && due <= Instant::now()
        {
            self.due.pop();
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            match connection.send_token() {
                Ok(Sent::More(due)) => self.due.push(Reverse((due, number))),
                Ok(Sent::Last(served)) => {
                    let mut all = self.shared.served.lock().unwrap_or_else(PoisonError::into_inner);
                    all.push(served);
                }
                Err(_) => drop(self.connections.remove(&number)),
            }
        }
    }

    fn set_timer(&self) -> Result<()> {
        // What was read of it does not matter; that it is read does, for it would wake again.
        let _ = nix::unistd::read(self.timer.as_fd(), &mut [0; 8]);
        if let Some(Reverse((due, _))) = self.due.peek() {
            let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let wait = TimeSpec::nanoseconds(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX));
            self.timer.set(Expiration::OneShot(wait), TimerSetTimeFlags::empty())?;
        }
        Ok(())
    }
}

enum Sent {
    More(Instant),
    Last(Served),
}

impl Connection {
    /// When the first token of a request is due whose last bytes came.
    fn read(&mut self, delays: Delays) -> Result<Option<Instant>> {
        let mut came = None;
        let mut buffer = vec![0; 64 << 10];
        let mut control = cmsg_space!(TimeSpec);
        loop {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let (bytes, stamp) = match recvmsg::<()>(
                self.tcp.as_raw_fd(),
                &mut slices,
                Some(&mut control),
                MsgFlags::empty(),
            ) {
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error.into()),
                Ok(message) => {
                    let stamp = message.cmsgs()?.find_map(|control| match control {
                        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
                        _ => None,
                    });
                    (message.bytes, stamp)
                }
            };
            anyhow::ensure!(bytes > 0, "the client is gone");
            self.unread.extend_from_slice(&buffer[..bytes]);
            anyhow::ensure!(self.unread.len() <= MAX_REQUEST, "a request without end");
            came = stamp.and_then(|stamp| u64::try_from(stamp.as_nanos()).ok());
        }
        let arrived = Instant::now();
        let Some(request) = self.take_request()? else { return Ok(None) };
        if request.is_list {
            self.send(&list_of_models())?;
            return Ok(None);
        }
        self.send(HEAD.as_bytes())?;
        let Request { id, tokens, input_tokens, .. } = request;
        let served =
            Served { id, arrived: came.unwrap_or_else(now), sent: Vec::with_capacity(tokens) };
        self.answer = Some(Answer { served, tokens, input_tokens, delays, arrived });
        Ok(Some(arrived + delays.first))
    }

    fn send_token(&mut self) -> Result<Sent> {
        let answer = self.answer.as_mut().context("no answer is due")?;
        let is_last = answer.served.sent.len() + 1 >= answer.tokens;
        let token = if is_last { token("\"length\"") } else { token("null") };
        let before = now();
        send(&mut self.tcp, token.as_bytes())?;
        answer.served.sent.push((before, now()));
        if !is_last {
            let tokens = u32::try_from(answer.served.sent.len())?;
            return Ok(Sent::More(
                answer.arrived + answer.delays.first + answer.delays.each * tokens,
            ));
        }
        let end = end(answer.input_tokens, answer.tokens);
        let served = self.answer.take().context("no answer is due")?.served;
        self.send(end.as_bytes())?;
        Ok(Sent::Last(served))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(send(&mut self.tcp, bytes)?)
    }

    /// The first whole request among what was read.
    fn take_request(&mut self) -> Result<Option<Request>> {
        let Some(head_end) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = str::from_utf8(&self.unread[..head_end])?;
        let header = |name: &str| {
            let line = head.lines().skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            });
            line.unwrap_or_default()
        };
        let length: usize = header("content-length").parse().unwrap_or(0);
        let end = head_end + 4 + length;
        if self.unread.len() < end {
            return Ok(None);
        }
        let body: Value = match length {
            0 => Value::Null,
            _ => serde_json::from_slice(&self.unread[head_end + 4..end])?,
        };
        let request = Request {
            is_list: head.starts_with("GET"),
            id: header("x-request-id").to_owned(),
            tokens: usize::try_from(body["max_tokens"].as_u64().unwrap_or(16).max(1))?,
            input_tokens: body["prompt"].as_str().map_or(1, |text| text.split(' ').count()),
        };
        self.unread.drain(..end);
        Ok(Some(request))
    }
}

struct Request {
    is_list: bool,
    id: String,
    tokens: usize,
    input_tokens: usize,
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                    transfer-encoding: chunked\r\n\r\n";

fn list_of_models() -> Vec<u8> {
    let body = format!(r#"{{"object":"list","data":[{{"id":"{MODEL}","object":"model"}}]}}"#);
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn chunk(data: &str) -> String {
    let event = format!("data: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}

/// As long as those of vLLM are.
fn token(finish_reason: &str) -> String {
    chunk(&format!(
        r#"{{"id":"cmpl-0123456789abcdef0123456789abcdef","object":"text_completion","created":1767225600,"model":"{MODEL}","choices":[{{"index":0,"text":" the","logprobs":null,"finish_reason":{finish_reason},"stop_reason":null}}],"usage":null}}"#
    ))
}

fn end(input_tokens: usize, tokens: usize) -> String {
    let usage = chunk(&format!(
        r#"{{"id":"cmpl-0","object":"text_completion","model":"{MODEL}","choices":[],"usage":{{"prompt_tokens":{input_tokens},"completion_tokens":{tokens},"total_tokens":{}}}}}"#,
        input_tokens + tokens
    ));
    format!("{usage}{}0\r\n\r\n", chunk("[DONE]"))
}

/// Waits for a client that reads slowly: the others wait too, which their stamps show.
fn send(tcp: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match tcp.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let descriptor = PollFd::new(tcp.as_fd(), PollFlags::POLLOUT);
                poll(&mut [descriptor], PollTimeout::NONE)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn ask(tcp: &mut TcpStream, id: &str, tokens: u32) -> String {
        let body = format!(r#"{{"prompt":"a b c","max_tokens":{tokens}}}"#);
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nX-Request-Id: {id}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        // In two pieces: a request has arrived when its end has.
        tcp.write_all(head.as_bytes()).unwrap();
        thread::sleep(Duration::from_millis(20));
        tcp.write_all(body.as_bytes()).unwrap();
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.ends_with("0\r\n\r\n") {
            let count = tcp.read(&mut buffer).unwrap();
            text += str::from_utf8(&buffer[..count]).unwrap();
        }
        text
    }

    #[test]
    fn tokens_come_when_they_are_due_and_are_noted() {
        let delays = Delays { first: Duration::from_millis(30), each: Duration::from_millis(10) };
        let server = ReferenceServer::start(delays).unwrap();
        let mut tcp = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        let began = now();
        for id in ["first", "second"] {
            let text = ask(&mut tcp, id, 4);
            assert_eq!(text.matches("\"text\":\" the\"").count(), 4, "{text}");
            assert_eq!(text.matches("\"finish_reason\":\"length\"").count(), 1, "{text}");
            assert!(text.contains("\"prompt_tokens\":3,\"completion_tokens\":4"), "{text}");
        }
        let ended = now();
        // An answer is noted after its last byte was sent, and so maybe after that was read.
        let mut served = Vec::new();
        while served.len() < 2 {
            served.extend(server.take_served());
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(served.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["first", "second"]);
        for Served { arrived, sent, .. } in &served {
            let times: Vec<u64> = std::iter::once(*arrived)
                .chain(sent.iter().flat_map(|&(before, after)| [before, after]))
                .collect();
            assert!(times.is_sorted() && times[0] > began && times[8] < ended, "{times:?}");
            // Never before it is due; how much later is the machine's affair.
            for (token, (before, _)) in (0_u64..).zip(sent) {
                assert!(before - arrived >= 30_000_000 + token * 10_000_000, "{served:?}");
            }
        }
        assert!(server.take_served().is_empty());
    }

    #[test]
    fn what_is_no_request_closes_its_connection_and_no_other() {
        let delays = Delays { first: Duration::ZERO, each: Duration::ZERO };
        let server = ReferenceServer::start(delays).unwrap();
        let mut broken = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        broken.write_all(b"POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n{").unwrap();
        assert_eq!(broken.read(&mut [0; 16]).unwrap_or(0), 0);
        let mut tcp = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        assert!(ask(&mut tcp, "a", 1).contains("[DONE]"));
    }
}
