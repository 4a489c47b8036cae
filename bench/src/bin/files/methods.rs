//! The methods: the commands of each server and client.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use posthouse_bench::processes::Ticks;

use super::fixture::{FileSet, Fixture, SMALL_FILES};

/// The cost of one transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// The processor time of all processes of both ends.
    pub(crate) cpu: Duration,
}

/// A method to transfer files: a server and a client.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    begin: Box<Begin>,
}

/// A function that prepares both ends, with a server that listens on the given port.
type Begin = dyn Fn(FileSet, &Fixture, u16) -> Result<Ends, String>;

/// A server, and the client whose time is measured.
struct Ends {
    server: Command,
    client: Command,
    /// True exactly when the server ends by itself after the client.
    stops_alone: bool,
    /// True exactly when the server accepts only one connection, so that a probing connect would
    /// use it up.
    takes_one: bool,
}

impl Method {
    pub(crate) fn all(program: &Path) -> Vec<Method> {
        let mut methods = vec![Method { name: "sendfile by hand", begin: Box::new(raw) }];
        for (name, backend) in [("posthouse, io_uring", "uring"), ("posthouse, epoll", "readiness")]
        {
            let program = program.to_owned();
            let begin = move |set, fixture: &Fixture, port| {
                Ok(posthouse(&program, backend, set, fixture, port))
            };
            methods.push(Method { name, begin: Box::new(begin) });
        }
        for (name, tool, begin) in [
            ("nginx, curl", "nginx", nginx as fn(FileSet, &Fixture, u16) -> Result<Ends, String>),
            ("rsync daemon", "rsync", rsync),
            ("tar through nc", "nc", tar),
        ] {
            if is_there(tool) {
                methods.push(Method { name, begin: Box::new(begin) });
            } else {
                eprintln!("skipped, not installed: {name}");
            }
        }
        methods
    }

    /// Transfers everything once.
    pub(crate) fn transfer(&self, set: FileSet, fixture: &Fixture) -> Result<Cost, String> {
        let told = |error: std::io::Error| format!("{}: {error}", self.name);
        let port = free_port().map_err(told)?;
        let mut ends = (self.begin)(set, fixture, port)?;
        let before = cpu_of_children();
        let mut server = ends.server.stdin(Stdio::null()).spawn().map_err(told)?;
        wait_for(port, ends.takes_one)?;
        let started = Instant::now();
        let done = ends.client.stdin(Stdio::null()).stdout(Stdio::null()).status();
        let wall = started.elapsed();
        let ended = end(&mut server, ends.stops_alone);
        let done = done.map_err(told)?;
        ended.map_err(told)?;
        if !done.success() {
            return Err(format!("{}: the client failed ({done})", self.name));
        }
        Ok(Cost { wall, cpu: cpu_of_children().saturating_sub(before) })
    }
}

fn raw(set: FileSet, fixture: &Fixture, port: u16) -> Result<Ends, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let address = format!("127.0.0.1:{port}");
    let mut server = Command::new(&this);
    let mut client = Command::new(&this);
    server.args(["raw-receive", &address]).arg(fixture.inbox());
    let what = if set == FileSet::Large { "large.bin" } else { "small/" };
    client.args(["raw-send", &address]).arg(fixture.outbox()).arg(what);
    Ok(Ends { server, client, stops_alone: true, takes_one: true })
}

fn posthouse(program: &Path, backend: &str, set: FileSet, fixture: &Fixture, port: u16) -> Ends {
    let address = format!("127.0.0.1:{port}");
    let mut server = Command::new(program);
    let mut client = Command::new(program);
    server.args(["serve", "--backend", backend, "--listen", &address, "--dir"]);
    server.arg(fixture.inbox()).stdout(Stdio::null());
    client.args(["send", "--quiet", "--backend", backend, &address]).arg(source(set, fixture));
    Ends { server, client, stops_alone: false, takes_one: false }
}

fn source(set: FileSet, fixture: &Fixture) -> PathBuf {
    fixture.outbox().join(if set == FileSet::Large { "large.bin" } else { "small" })
}

fn nginx(set: FileSet, fixture: &Fixture, port: u16) -> Result<Ends, String> {
    let root = fixture.root();
    let conf = fixture.root().join("nginx.conf");
    let text = format!(
        "daemon off; master_process off; error_log stderr error; pid {0}/nginx.pid;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000;\n\
         client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3;\n\
         uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;\n\
         server {{ listen 127.0.0.1:{port}; root {1}; }} }}\n",
        root.display(),
        fixture.outbox().display()
    );
    fs::write(&conf, text).map_err(|error| error.to_string())?;
    let mut server = Command::new("nginx");
    server.arg("-c").arg(&conf).arg("-e").arg("stderr").stderr(Stdio::null());
    let mut list = String::new();
    let mut add = |name: &str| {
        let to = word(&fixture.inbox().join(name));
        let _ = write!(list, "url = \"http://127.0.0.1:{port}/{name}\"\noutput = \"{to}\"\n");
    };
    match set {
        FileSet::Large => add("large.bin"),
        FileSet::Small => (0..SMALL_FILES).for_each(|n| add(&format!("small/{n:04}.bin"))),
    }
    let config = root.join("curl.conf");
    fs::write(&config, list).map_err(|error| error.to_string())?;
    let mut client = Command::new("curl");
    client.args(["-s", "-f", "-K"]).arg(config);
    Ok(Ends { server, client, stops_alone: false, takes_one: false })
}

fn rsync(set: FileSet, fixture: &Fixture, port: u16) -> Result<Ends, String> {
    let conf = fixture.root().join("rsyncd.conf");
    let text = format!(
        "use chroot = no\n[inbox]\npath = {}\nread only = no\nuid = root\ngid = root\n",
        fixture.inbox().display()
    );
    fs::write(&conf, text).map_err(|error| error.to_string())?;
    let mut server = Command::new("rsync");
    server.args(["--daemon", "--no-detach", "--address", "127.0.0.1", "--port", &port.to_string()]);
    server.arg(format!("--config={}", conf.display()));
    let mut client = Command::new("rsync");
    client.args(["-a", "--whole-file"]).arg(source(set, fixture));
    client.arg(format!("rsync://127.0.0.1:{port}/inbox/"));
    Ok(Ends { server, client, stops_alone: false, takes_one: false })
}

#[expect(clippy::unnecessary_wraps, reason = "every method begins like this")]
fn tar(set: FileSet, fixture: &Fixture, port: u16) -> Result<Ends, String> {
    let what = if set == FileSet::Large { "large.bin" } else { "small" };
    let mut server = Command::new("sh");
    let mut client = Command::new("sh");
    let inbox = fixture.inbox();
    let outbox = fixture.outbox();
    server.args(["-c", &format!("nc -l 127.0.0.1 {port} | tar xf - -C {}", inbox.display())]);
    client
        .args(["-c", &format!("tar cf - -C {} {what} | nc -N 127.0.0.1 {port}", outbox.display())]);
    Ok(Ends { server, client, stops_alone: true, takes_one: true })
}

/// Returns a path as a word of a command.
fn word(path: &Path) -> String {
    path.to_str().expect("the paths of the benchmark are UTF-8").to_owned()
}

fn is_there(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|path| path.join(tool).is_file())
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until the server listens.
fn wait_for(port: u16, without_a_look: bool) -> Result<(), String> {
    for _ in 0..2000 {
        let listens = if without_a_look {
            let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
            table.contains(&format!("0100007F:{port:04X} 00000000:0000 0A"))
        } else {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        };
        if listens {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(format!("the server does not listen on port {port}"))
}

fn end(server: &mut Child, stops_alone: bool) -> std::io::Result<()> {
    if !stops_alone {
        let pid = rustix::process::Pid::from_child(server);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    server.wait().map(drop)
}

/// Returns the processor time of all children that were waited for, and of their children.
fn cpu_of_children() -> Duration {
    // Ticks are hundredths of a second.
    Duration::from_millis(10 * Ticks::of(std::process::id()).children)
}
