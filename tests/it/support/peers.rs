//! Raw streams in the test process: a server that sends its name, and clients with their own addresses.

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{PATIENCE, at, own_address};

/// The port of every [`Backend`].
pub(crate) const PORT: u16 = 7000;

/// A runtime on its own thread that outlives every test, for servers with thousands of connections.
pub(crate) fn background() -> &'static Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    })
}

/// A server that responds to the first bytes of a connection with its name and a line feed, and echoes all later bytes.
/// Dropping it resets its connections, as in a crash.
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    running: Mutex<Option<(CancellationToken, TaskTracker)>>,
    /// Cancelled to refuse connections.
    refusing: Mutex<CancellationToken>,
}

impl Backend {
    pub(crate) fn start(name: &str) -> Self {
        let backend = Self {
            name: name.to_owned(),
            address: at(own_address(), PORT),
            accepted: Arc::default(),
            open: Arc::default(),
            running: Mutex::new(None),
            refusing: Mutex::default(),
        };
        backend.start_again();
        backend
    }

    /// Starts `count` servers, named `a`, `b`, ...
    pub(crate) fn several(count: u8) -> Vec<Self> {
        (0..count)
            .map(|number| Self::start(&char::from(b'a' + number).to_string()))
            .collect()
    }

    /// The entry for `backends`.
    pub(crate) fn entry(&self) -> String {
        format!("{{ name: {}, address: \"{}\" }}", self.name, self.address)
    }

    pub(crate) fn start_again(&self) {
        let listener = listen(self.address);
        let (accepted, open, name) = (
            self.accepted.clone(),
            self.open.clone(),
            format!("{}\n", self.name),
        );
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (stopped, connections) = (stop.clone(), tasks.clone());
        let refusing = stop.child_token();
        *self.refusing.lock().unwrap() = refusing.clone();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = tokio::select! {
                    biased;
                    () = refusing.cancelled() => return,
                    new = listener.accept() => new.unwrap(),
                };
                accepted.fetch_add(1, Ordering::SeqCst);
                open.fetch_add(1, Ordering::SeqCst);
                let (name, open, stopped) = (name.clone(), open.clone(), stopped.clone());
                connections.spawn(async move {
                    serve(stream, &name, stopped).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        };
        tasks.spawn_on(serve, background());
        *self.running.lock().unwrap() = Some((stop, tasks));
    }

    /// Refuses new connections and resets the open ones.
    pub(crate) fn stop(&self) {
        if let Some((stop, tasks)) = self.running.lock().unwrap().take() {
            stop.cancel();
            tasks.close();
            background().block_on(tasks.wait());
        }
    }

    /// Refuses new connections and keeps serving the open ones.
    pub(crate) fn refuse(&self) {
        self.refusing.lock().unwrap().cancel();
    }

    /// Number of connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Number of open connections.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Raises the descriptor limit of this process to the hard limit and returns it.
pub(crate) fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .unwrap();
    maximum.unwrap_or(u64::MAX)
}

/// `backends: [...]` with the entries of these servers.
pub(crate) fn entries(backends: &[Backend]) -> String {
    let entries: Vec<String> = backends.iter().map(Backend::entry).collect();
    format!("backends: [{}]", entries.join(", "))
}

/// A listening socket with a backlog for thousands of connections.
fn listen(address: SocketAddr) -> std::net::TcpListener {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(4096).unwrap();
    socket.into()
}

async fn serve(mut stream: tokio::net::TcpStream, name: &str, stopped: CancellationToken) {
    let mut buffer = vec![0; 1024];
    let mut first = true;
    loop {
        let read = tokio::select! {
            biased;
            () = stopped.cancelled() => {
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                return;
            }
            read = stream.read(&mut buffer) => read,
        };
        let Ok(read @ 1..) = read else { return };
        let response = if std::mem::take(&mut first) {
            name.as_bytes()
        } else {
            &buffer[..read]
        };
        if stream.write_all(response).await.is_err() {
            return;
        }
    }
}

/// Connects from this source address.
pub(crate) fn connect_from(source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&at(source, 0).into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects from the source address that the kernel selects.
pub(crate) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    connect_from(Ipv4Addr::UNSPECIFIED.into(), to)
}

/// The first bytes of a client on an `http` listener.
pub(crate) fn request(name: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").into_bytes()
}

/// Sends bytes to a [`Backend`] and reads one line of its response, which is its name the first time.
pub(crate) fn ask(mut stream: &TcpStream, first: &[u8]) -> io::Result<String> {
    stream.write_all(first)?;
    read_line(stream)
}

pub(crate) fn read_line(mut stream: &TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        if stream.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if byte == *b"\n" {
            return Ok(String::from_utf8(line).unwrap());
        }
        line.push(byte[0]);
    }
}

/// Whether an open connection still reaches its server.
pub(crate) fn is_alive(stream: &TcpStream) -> bool {
    ask(stream, b"still there?\n").is_ok_and(|line| line == "still there?")
}

/// Reads to the end of the stream and returns the number of bytes, or the error that ended it.
pub(crate) fn read_to_end(mut stream: &TcpStream) -> io::Result<usize> {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(total),
            read => total += read,
        }
    }
}

/// Waits until the other side has reset the connection; an orderly close is a failure.
pub(crate) fn assert_reset(stream: &TcpStream) {
    match read_to_end(stream) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("expected a reset, got {other:?}"),
    }
}

/// Resets the connection.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

/// Half-closes the connection: sends FIN.
pub(crate) fn close_write(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Two connected ends: the client's, through the balancer at `to`, and the backend's, as `server` accepts it. `first`
/// is sent by the client so that the balancer connects it; the backend's end has read it.
pub(crate) fn pair(
    to: SocketAddr,
    server: &std::net::TcpListener,
    first: &[u8],
) -> (TcpStream, TcpStream) {
    let mut client = connect(to).unwrap();
    client.write_all(first).unwrap();
    let (mut backend, _) = server.accept().unwrap();
    backend.set_read_timeout(Some(PATIENCE)).unwrap();
    backend.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut read = vec![0; first.len()];
    backend.read_exact(&mut read).unwrap();
    assert_eq!(read, first);
    (client, backend)
}
