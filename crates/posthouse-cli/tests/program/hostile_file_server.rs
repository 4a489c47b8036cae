//! A file server that answers each frame as a test wants.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::native_client::frame;

pub(crate) const BYE: u8 = 5;
pub(crate) const OFFER: u8 = 10;
pub(crate) const ACCEPT: u8 = 11;
pub(crate) const CHUNK: u8 = 12;
pub(crate) const DONE: u8 = 14;
pub(crate) const ABORT: u8 = 15;
pub(crate) const GET: u8 = 18;
pub(crate) const LIST: u8 = 19;
pub(crate) const LISTED: u8 = 20;

/// The frames that a server has got and not answered, and those that it answers.
pub(crate) struct HostileConnection {
    stream: TcpStream,
    answers: Vec<u8>,
    next_id: u32,
}

/// A frame of the client about a transfer, a get or a list.
#[derive(Clone, Debug)]
pub(crate) struct ClientFrame {
    pub(crate) kind: u8,
    pub(crate) id: u32,
    /// The bytes after the id.
    pub(crate) rest: Vec<u8>,
}

/// An entry of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed<'a> {
    name: &'a [u8],
    size: u64,
    flags: u8,
}

impl<'a> Listed<'a> {
    pub(crate) fn file<N: AsRef<[u8]> + ?Sized>(name: &'a N, size: u64) -> Self {
        Self { name: name.as_ref(), size, flags: 0 }
    }

    pub(crate) fn directory(name: &'a str) -> Self {
        Self { name: name.as_bytes(), size: 0, flags: 2 }
    }
}

/// Starts a server that says hello and passes each later frame about files to `answer`, until that
/// returns false or the client ends. Each connection gets a clone of `answer`.
pub(crate) fn hostile_server(
    answer: impl FnMut(&mut HostileConnection, ClientFrame) -> bool + Clone + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("the socket is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut answer = answer.clone();
            thread::spawn(move || serve(stream, &mut answer));
        }
    });
    address
}

fn serve(
    stream: TcpStream,
    answer: &mut impl FnMut(&mut HostileConnection, ClientFrame) -> bool,
) -> Option<()> {
    let mut connection = HostileConnection { stream, answers: Vec::new(), next_id: 2 };
    let (_, client_hello) = connection.read()?;
    // The features, the largest payload, no heartbeat; an answer without a demand.
    let mut hello = client_hello[..10].to_vec();
    hello.extend_from_slice(&1_u32.to_le_bytes());
    hello.extend_from_slice(&(1_u32 << 20).to_le_bytes());
    hello.extend_from_slice(&[0; 4 + 16]);
    hello.extend_from_slice(&[0x80, 0, 0]);
    connection.say(4, &hello);
    connection.flush()?;
    loop {
        let (kind, payload) = connection.read()?;
        if !(OFFER..=LISTED).contains(&kind) {
            continue;
        }
        let (id, rest) = payload.split_first_chunk()?;
        let frame = ClientFrame { kind, id: u32::from_le_bytes(*id), rest: rest.to_vec() };
        let goes_on = answer(&mut connection, frame);
        connection.flush()?;
        if !goes_on {
            // The client reads what was sent, and ends.
            let _ = connection.stream.shutdown(std::net::Shutdown::Write);
            while connection.read().is_some() {}
            return None;
        }
    }
}

impl HostileConnection {
    fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).ok()?;
        let [a, b, c, _, kind] = head;
        let mut payload = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize - 1];
        self.stream.read_exact(&mut payload).ok()?;
        Some((kind, payload))
    }

    fn flush(&mut self) -> Option<()> {
        let answers = std::mem::take(&mut self.answers);
        self.stream.write_all(&answers).ok()
    }

    /// Sends a frame.
    pub(crate) fn say(&mut self, kind: u8, payload: &[u8]) {
        self.answers.extend_from_slice(&frame(kind, payload));
    }

    pub(crate) fn abort(&mut self, id: u32, code: u16, text: &str) {
        self.say(ABORT, &[&id.to_le_bytes(), &code.to_le_bytes()[..], text.as_bytes()].concat());
    }

    /// Lists files of one byte; others follow, unless there are none.
    pub(crate) fn list(&mut self, id: u32, names: &[impl AsRef<str>]) {
        let entries = names.iter().map(|name| Listed::file(name.as_ref(), 1));
        self.list_page(id, !names.is_empty(), &entries.collect::<Vec<_>>());
    }

    /// Lists these entries; `more` says whether others follow.
    pub(crate) fn list_page(&mut self, id: u32, more: bool, entries: &[Listed<'_>]) {
        let mut page = id.to_le_bytes().to_vec();
        page.push(u8::from(more));
        for Listed { name, size, flags } in entries {
            page.extend_from_slice(&size.to_le_bytes());
            page.extend_from_slice(&0_i64.to_le_bytes());
            page.extend_from_slice(&[0xff, 0xff, *flags]);
            page.extend_from_slice(&(name.len() as u16).to_le_bytes());
            page.extend_from_slice(name);
        }
        self.say(LISTED, &page);
    }

    /// Offers a file, in answer to a get or to nothing (0), and returns the id of the offer.
    pub(crate) fn offer(&mut self, answers: u32, size: u64, flags: u8, name: &str) -> u32 {
        let id = self.next_id;
        self.next_id += 2;
        let mut offer = [id.to_le_bytes(), answers.to_le_bytes()].concat();
        offer.extend_from_slice(&size.to_le_bytes());
        offer.extend_from_slice(&0_i64.to_le_bytes());
        offer.extend_from_slice(&[0xff, 0xff, flags, 0, 0]);
        offer.extend_from_slice(name.as_bytes());
        self.say(OFFER, &offer);
        id
    }
}

/// Returns the names of a long list, page by page, in order.
pub(crate) fn pages(pages: usize, names: usize) -> VecDeque<Vec<String>> {
    let page = |page| (0..names).map(move |at| format!("{page:06}/{at:06}{}", "x".repeat(200)));
    (0..pages).map(|number| page(number).collect()).collect()
}
