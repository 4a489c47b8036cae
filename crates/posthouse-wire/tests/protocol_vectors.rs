//! The vectors of PROTOCOL.md are what the code writes and what it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use posthouse_wire::{
    Bye, CHUNK_HEAD_BYTES, Entry, Event, Framing, HelloRule, Incoming, Key, Next, Outgoing, Reader,
    Rules, Session, SessionConfig, Status, TransferFrame, abort_code, code, encode_chunk_head,
    encode_listed, encode_reply, encode_request,
};

const CLIENT_NONCE: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const SERVER_NONCE: [u8; 16] = [16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31];
const START: Duration = Duration::ZERO;

/// The bytes of each vector, by name.
fn vectors() -> BTreeMap<&'static str, Vec<u8>> {
    let text = include_str!("../../../PROTOCOL.md");
    let (_, block) = text.split_once("```vectors\n").expect("there is a block of vectors");
    let (block, _) = block.split_once("```").expect("the block ends");
    let mut vectors = BTreeMap::new();
    let mut name = "";
    for line in block.lines() {
        if let Some(heading) = line.strip_suffix(':') {
            name = heading;
            assert_eq!(vectors.insert(name, Vec::new()), None, "{name} is there twice");
            continue;
        }
        let (hex, meaning) = line.split_once('#').expect("a line says what its bytes mean");
        assert!(!meaning.trim().is_empty(), "{line}");
        let bytes = hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).expect(line));
        vectors.get_mut(name).expect("a name comes first").extend(bytes);
    }
    vectors
}

fn configs() -> (SessionConfig, SessionConfig) {
    let key = Some(Key::new(b"0123456789abcdef").unwrap());
    let client = SessionConfig {
        payload_bytes_max: 1 << 20,
        heartbeat: Some(Duration::from_secs(15)),
        key: key.clone(),
        credential: b"device 7"[..].into(),
        hello: HelloRule::Required,
        control_replies_max: 64,
    };
    let server = SessionConfig {
        payload_bytes_max: 1 << 16,
        heartbeat: None,
        key,
        credential: Box::default(),
        hello: HelloRule::Required,
        control_replies_max: 64,
    };
    (client, server)
}

/// Hands the one frame that `bytes` are to `session`, and takes what it answers.
fn hand<T>(
    session: &mut Session,
    config: &SessionConfig,
    bytes: &[u8],
    look: impl FnOnce(Event<'_>) -> T,
) -> (T, Vec<u8>) {
    let rules = Rules { framing: Framing::Native, payload_bytes_max: 1 << 20 };
    let (mut reader, mut rest, mut out) = (Reader::new(), bytes, Vec::new());
    let frame = reader.next(&rules, 1 << 20, &mut rest).unwrap().expect("a whole frame");
    assert!(rest.is_empty(), "a vector is one frame");
    let mut nonce = || SERVER_NONCE;
    let event = session.handle_frame(config, START, &mut nonce, frame, &mut out).unwrap();
    (look(event), out)
}

/// Both sides of the session, and the vectors that have been said in it.
struct Talk {
    vectors: BTreeMap<&'static str, Vec<u8>>,
    said: BTreeSet<&'static str>,
    client_config: SessionConfig,
    server_config: SessionConfig,
    client: Session,
    server: Session,
}

impl Talk {
    fn new() -> Self {
        let (client_config, server_config) = configs();
        let (client, server) = (Session::connecting(), Session::accepted());
        let (vectors, said) = (vectors(), BTreeSet::new());
        Self { vectors, said, client_config, server_config, client, server }
    }

    fn vector(&mut self, name: &'static str) -> Vec<u8> {
        self.said.insert(name);
        self.vectors.get(name).unwrap_or_else(|| panic!("no {name}")).clone()
    }

    fn server_hears<T>(&mut self, bytes: &[u8], look: impl FnOnce(Event<'_>) -> T) -> (T, Vec<u8>) {
        hand(&mut self.server, &self.server_config, bytes, look)
    }

    fn client_hears<T>(&mut self, bytes: &[u8], look: impl FnOnce(Event<'_>) -> T) -> (T, Vec<u8>) {
        hand(&mut self.client, &self.client_config, bytes, look)
    }

    /// One side says this frame of a transfer: it is the vector, and the other side reads it.
    fn transfer(&mut self, by_client: bool, name: &'static str, frame: TransferFrame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(1 << 16, &mut bytes).unwrap();
        assert_eq!(bytes, self.vector(name), "{name}");
        let same = |event: Event<'_>| assert_eq!(event, Event::Transfer(frame));
        let ((), answer) = if by_client {
            self.server_hears(&bytes, same)
        } else {
            self.client_hears(&bytes, same)
        };
        assert!(answer.is_empty());
    }
}

#[test]
fn the_vectors_are_one_session_as_the_code_speaks_it() {
    let mut talk = Talk::new();
    agree(&mut talk);
    messages(&mut talk);
    a_file_is_sent(&mut talk);
    a_file_is_wanted(&mut talk);
    files_are_listed(&mut talk);
    let (after, mut bye) = (Some(Duration::from_secs(2)), Vec::new());
    assert!(talk.server.bye(code::BUSY, "come back", after, &mut bye));
    assert_eq!(bye, talk.vector("bye"));
    talk.client_hears(&bye, |event| {
        let (code, text) = (code::BUSY, "come back".to_owned());
        assert_eq!(event, Event::Bye(Bye { code, retry_after: after, text }));
    });
    assert_eq!(talk.said, talk.vectors.keys().copied().collect(), "all are checked");
}

fn agree(talk: &mut Talk) {
    let nothing = |event: Event<'_>| assert_eq!(event, Event::Nothing);
    let established = |event: Event<'_>| assert_eq!(event, Event::Established);
    let mut hello = Vec::new();
    talk.client.start(&talk.client_config, START, CLIENT_NONCE, &mut hello);
    assert_eq!(hello, talk.vector("hello"));
    let ((), answer) = talk.server_hears(&hello, nothing);
    assert_eq!(answer, talk.vector("server answer"));
    let ((), prove) = talk.client_hears(&answer, nothing);
    assert_eq!(prove, talk.vector("prove"));
    let ((), welcome) = talk.server_hears(&prove, established);
    assert_eq!(welcome, talk.vector("welcome"));
    let ((), none) = talk.client_hears(&welcome, established);
    assert!(none.is_empty());
    assert_eq!(&talk.server.agreed().unwrap().credential[..], b"device 7");
    assert_eq!(talk.client.agreed().unwrap().peer_payload_bytes_max, 1 << 16);

    let mut ping = Vec::new();
    talk.client.handle_deadline(talk.client.deadline().unwrap(), &mut ping).unwrap();
    assert_eq!(ping, talk.vector("ping"));
    let ((), answer) = talk.server_hears(&ping, nothing);
    assert_eq!(answer, talk.vector("pong"));
    talk.client_hears(&answer, nothing);
}

fn messages(talk: &mut Talk) {
    for (name, kind, payload) in
        [("text message", 0, &b"hello"[..]), ("empty message", 32, &b""[..])]
    {
        let mut message = Vec::new();
        Framing::Native.encode(kind, payload, 1 << 16, &mut message).unwrap();
        assert_eq!(message, talk.vector(name));
        talk.server_hears(&message, |event| {
            assert_eq!(event, Event::Message { kind, payload });
        });
    }
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    encode_request(7, 33, b"time?", 1 << 16, &mut request).unwrap();
    assert_eq!(request, talk.vector("request"));
    talk.server_hears(&request, |event| {
        assert_eq!(event, Event::Request { id: 7, kind: 33, payload: b"time?" });
    });
    encode_reply(7, Status::Ok, 33, b"noon", 1 << 20, &mut reply).unwrap();
    assert_eq!(reply, talk.vector("reply"));
    talk.client_hears(&reply, |event| {
        let (status, payload) = (Status::Ok, &b"noon"[..]);
        assert_eq!(event, Event::Reply { id: 7, status, kind: 33, payload });
    });
}

/// When the file of the vectors was modified.
const MODIFIED_MS: Option<i64> = Some(1_700_000_000_000);

fn a_file_is_sent(talk: &mut Talk) {
    let id = talk.client.first_transfer_id();
    // The first chunk fills the server's window.
    let (mut sender, mut receiver) = (Outgoing::new(id, 5, 4), Incoming::new(id, 5, 3));
    let (modified_ms, name) = (MODIFIED_MS, b"dir/hello.sh");
    let (answers, size, executable) = (0, 5, true);
    let offer = TransferFrame::Offer { id, answers, size, modified_ms, executable, name };
    talk.transfer(true, "offer", offer);
    let (offset, limit, prefix) = receiver.accept();
    talk.transfer(false, "accept", TransferFrame::Accept { id, offset, limit, prefix });
    sender.accepted(offset, limit, prefix).unwrap();
    for (name, content) in [("chunk", &b"hel"[..]), ("last chunk", b"lo")] {
        assert!(matches!(sender.next(), Next::Chunk { bytes, .. } if bytes == content.len()));
        talk.transfer(true, name, TransferFrame::Chunk { id, bytes: content });
        let mut head = Vec::new();
        encode_chunk_head(id, content.len(), 1 << 16, &mut head).unwrap();
        let chunk = talk.vector(name);
        assert_eq!(head, chunk[..5 + CHUNK_HEAD_BYTES], "its head can be written alone");
        sender.chunk(content);
        receiver.chunk(content).unwrap();
        if let Some(limit) = receiver.written(content.len() as u64) {
            talk.transfer(false, "credit", TransferFrame::Credit { id, limit });
            sender.credit(limit).unwrap();
        }
    }
    assert_eq!(sender.next(), Next::Done);
    let hash = sender.done();
    talk.transfer(true, "done", TransferFrame::Done { id, hash });
    assert_eq!(receiver.done(hash), Ok(true));
    talk.transfer(false, "done", TransferFrame::Done { id, hash: receiver.hash() });
    assert_eq!(sender.confirmed(receiver.hash()), Ok(()));
}

fn a_file_is_wanted(talk: &mut Talk) {
    let (get, id) = (talk.client.first_transfer_id() + 2, talk.server.first_transfer_id());
    assert!(talk.client.is_own_transfer(get) && talk.server.is_own_transfer(id));
    let name = b"hello.txt";
    talk.transfer(true, "get", TransferFrame::Get { id: get, name });
    let (answers, size, modified_ms, executable) = (get, 5, None, false);
    let offer = TransferFrame::Offer { id, answers, size, modified_ms, executable, name };
    talk.transfer(false, "answering offer", offer);
    let (mut sender, mut receiver) = (Outgoing::new(id, 5, 4), Incoming::new(id, 5, 100));
    receiver.held(b"he");
    let (offset, limit, prefix) = receiver.accept();
    talk.transfer(true, "resuming accept", TransferFrame::Accept { id, offset, limit, prefix });
    sender.accepted(offset, limit, prefix).unwrap();
    assert_eq!(sender.prefix(b"he"), Ok(()));
    assert_eq!(sender.next(), Next::Chunk { offset: 2, bytes: 3 });
    let (code, text) = (abort_code::CANCELLED, b"enough");
    talk.transfer(true, "abort", TransferFrame::Abort { id, code, text });
}

fn files_are_listed(talk: &mut Talk) {
    let id = talk.client.first_transfer_id() + 4;
    talk.transfer(true, "list", TransferFrame::List { id, after: b"dir/" });
    let first =
        Entry { size: 5, modified_ms: MODIFIED_MS, executable: true, name: b"dir/hello.sh" };
    let second = Entry { size: 0, modified_ms: None, executable: false, name: b"dir/hollow" };
    let mut listed = Vec::new();
    assert_eq!(encode_listed(id, true, [first, second], 1 << 16, &mut listed), Some(2));
    assert_eq!(listed, talk.vector("listed"));
    talk.client_hears(&listed, |event| {
        let Event::Transfer(TransferFrame::Listed { id: told, more: true, entries }) = event else {
            panic!("{event:?}");
        };
        assert_eq!((told, entries.collect::<Vec<_>>()), (id, vec![first, second]));
    });
}
