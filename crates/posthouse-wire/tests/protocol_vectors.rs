//! Tests that the code writes and reads the vectors of PROTOCOL.md.

use std::collections::BTreeMap;
use std::time::Duration;

use posthouse_wire::{
    Bye, DeliveryId, Entry, EntryKind, Framing, HelloPolicy, Key, OfferAttributes, Reader,
    ReaderConfig, Replace, ReplyStatus, SendQueue, Session, SessionConfig, SessionEvent,
    TransferFrame, abort_code, bye_code, encode_listed, encode_reply, encode_request,
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
        max_payload_bytes: 1 << 20,
        heartbeat: Some(Duration::from_secs(15)),
        key: key.clone(),
        credential: b"device 7"[..].into(),
        hello: HelloPolicy::Required,
        max_control_replies: 64,
    };
    let server = SessionConfig {
        max_payload_bytes: 1 << 16,
        heartbeat: None,
        key,
        credential: Box::default(),
        hello: HelloPolicy::Required,
        max_control_replies: 64,
    };
    (client, server)
}

/// Hands the one frame that `bytes` are to `session`, and takes what it answers.
fn handle_frame<T>(
    session: &mut Session,
    config: &SessionConfig,
    bytes: &[u8],
    check: impl FnOnce(SessionEvent<'_>) -> T,
) -> (T, Vec<u8>) {
    let reader_config = ReaderConfig { framing: Framing::Native, max_payload_bytes: 1 << 20 };
    let mut reader = Reader::new();
    let mut rest = bytes;
    let mut out = Vec::new();
    let frame = reader.next(&reader_config, 1 << 20, &mut rest).unwrap().expect("a whole frame");
    assert!(rest.is_empty(), "a vector is one frame");
    let mut nonce = || SERVER_NONCE;
    let event = session.handle_frame(config, START, &mut nonce, frame, &mut out).unwrap();
    (check(event), out)
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

/// Monday, 27 July 2026, 12:34:56.789012345 UTC.
const MODIFIED: Option<i64> = Some(1_785_155_696_789_012_345);
const DELIVERY_ID: Option<DeliveryId> = Some(DeliveryId(*b"delivery-number1"));
const NOTES: Entry<'static> = Entry {
    kind: EntryKind::File,
    size: 5,
    modified_ns: MODIFIED,
    mode: Some(0o644),
    name: b"notes/today.txt",
};

/// The frames of transfers with the names of their vectors, and who says them: the client gets a
/// file of which it has two bytes, asks for a list, and for a file that is not there.
fn transfers() -> [(&'static str, Side, TransferFrame<'static>); 10] {
    let prefix = blake3::hash(b"he").into();
    let hash = blake3::hash(b"hello").into();
    let offer = TransferFrame::Offer {
        id: 2,
        in_reply_to: 1,
        entry: NOTES,
        replace: Replace::Permitted,
        attributes: OfferAttributes { delivery_id: DELIVERY_ID, unknown_critical: None },
    };
    let accept = TransferFrame::Accept { id: 2, offset: 2, limit: 4, prefix };
    let code = abort_code::NOT_FOUND;
    let text = b"no such file";
    [
        ("get", Side::Client, TransferFrame::Get { id: 1, name: NOTES.name }),
        ("offer", Side::Server, offer),
        ("accept", Side::Client, accept),
        ("chunk", Side::Server, TransferFrame::Chunk { id: 2, bytes: b"ll" }),
        ("credit", Side::Client, TransferFrame::Credit { id: 2, limit: 5 }),
        ("done", Side::Server, TransferFrame::Done { id: 2, hash, delivery_id: None }),
        ("working", Side::Client, TransferFrame::Working { id: 2 }),
        (
            "done of the receiver",
            Side::Client,
            TransferFrame::Done { id: 2, hash, delivery_id: DELIVERY_ID },
        ),
        ("list", Side::Client, TransferFrame::List { id: 3, after: b"apart" }),
        ("abort", Side::Server, TransferFrame::Abort { id: 5, code, text }),
    ]
}

/// Checks the frames of file transfers of the client and the server.
fn check_transfers(
    vector: &mut impl FnMut(&str) -> Vec<u8>,
    (client, client_config): (&mut Session, &SessionConfig),
    (server, server_config): (&mut Session, &SessionConfig),
) {
    for (name, says, frame) in transfers() {
        let mut bytes = Vec::new();
        frame.encode(1 << 16, &mut bytes).unwrap();
        assert_eq!(bytes, vector(name), "{name}");
        let (hears, config) = match says {
            Side::Client => (&mut *server, server_config),
            Side::Server => (&mut *client, client_config),
        };
        handle_frame(hears, config, &bytes, |event| {
            assert_eq!(event, SessionEvent::Transfer(frame));
        });
    }
    let entries = [
        Entry {
            kind: EntryKind::File,
            size: 1 << 40,
            modified_ns: None,
            mode: None,
            name: b"bin/\xc3\xa4",
        },
        Entry { kind: EntryKind::Directory, size: 0, mode: Some(0o750), name: b"empty", ..NOTES },
        NOTES,
    ];
    let mut listed = Vec::new();
    encode_listed(3, true, entries, 1 << 20, &mut listed);
    assert_eq!(listed, vector("listed"));
    handle_frame(client, client_config, &listed, |event| {
        let SessionEvent::Transfer(TransferFrame::Listed { id: 3, more: true, entries: read }) =
            event
        else {
            panic!("{event:?}");
        };
        assert_eq!(read.collect::<Vec<_>>(), entries);
    });
}

#[test]
fn the_vectors_are_one_session_as_the_code_speaks_it() {
    let mut vectors = vectors();
    let mut vector = |name: &str| vectors.remove(name).unwrap_or_else(|| panic!("no {name}"));
    let (client_config, server_config) = configs();
    let mut client = Session::connecting();
    let mut server = Session::accepted();
    let nothing = |event: SessionEvent<'_>| assert_eq!(event, SessionEvent::Nothing);
    let established = |event: SessionEvent<'_>| assert_eq!(event, SessionEvent::Established);

    let mut hello = Vec::new();
    client.start(&client_config, CLIENT_NONCE, &mut hello);
    assert_eq!(hello, vector("hello"));
    let ((), answer) = handle_frame(&mut server, &server_config, &hello, nothing);
    assert_eq!(answer, vector("server answer"));
    let ((), prove) = handle_frame(&mut client, &client_config, &answer, nothing);
    assert_eq!(prove, vector("prove"));
    let ((), welcome) = handle_frame(&mut server, &server_config, &prove, established);
    assert_eq!(welcome, vector("welcome"));
    let ((), none) = handle_frame(&mut client, &client_config, &welcome, established);
    assert!(none.is_empty());
    assert_eq!(&server.agreed().unwrap().credential[..], b"device 7");
    assert_eq!(client.agreed().unwrap().peer_max_payload_bytes, 1 << 16);

    let mut ping = Vec::new();
    client.handle_deadline(client.deadline().unwrap(), SendQueue::Empty, &mut ping).unwrap();
    assert_eq!(ping, vector("ping"));
    let ((), answer) = handle_frame(&mut server, &server_config, &ping, nothing);
    assert_eq!(answer, vector("pong"));
    handle_frame(&mut client, &client_config, &answer, nothing);

    for (name, kind, payload) in
        [("text message", 0, &b"hello"[..]), ("empty message", 32, &b""[..])]
    {
        let mut message = Vec::new();
        Framing::Native.encode(kind, payload, 1 << 16, &mut message).unwrap();
        assert_eq!(message, vector(name));
        handle_frame(&mut server, &server_config, &message, |event| {
            assert_eq!(event, SessionEvent::Message { kind, payload });
        });
    }

    let mut request = Vec::new();
    let mut reply = Vec::new();
    let mut bye = Vec::new();
    encode_request(7, 33, b"time?", 1 << 16, &mut request).unwrap();
    assert_eq!(request, vector("request"));
    handle_frame(&mut server, &server_config, &request, |event| {
        assert_eq!(event, SessionEvent::Request { id: 7, kind: 33, payload: b"time?" });
    });
    encode_reply(7, ReplyStatus::Ok, 33, b"noon", 1 << 20, &mut reply).unwrap();
    assert_eq!(reply, vector("reply"));
    handle_frame(&mut client, &client_config, &reply, |event| {
        let status = ReplyStatus::Ok;
        let payload = &b"noon"[..];
        assert_eq!(event, SessionEvent::Reply { id: 7, status, kind: 33, payload });
    });
    check_transfers(&mut vector, (&mut client, &client_config), (&mut server, &server_config));

    let after = Some(Duration::from_secs(2));
    assert!(server.bye(bye_code::BUSY, "come back", after, &mut bye));
    assert_eq!(bye, vector("bye"));
    handle_frame(&mut client, &client_config, &bye, |event| {
        let code = bye_code::BUSY;
        let text = "come back".to_owned();
        assert_eq!(event, SessionEvent::Bye(Bye { code, retry_after: after, text }));
    });

    assert!(vectors.is_empty(), "not checked: {:?}", vectors.keys());
}
