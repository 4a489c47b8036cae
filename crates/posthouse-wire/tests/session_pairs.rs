//! Tests that two sessions, whose streams are cut and interleaved at random, agree or end for the
//! reason that their configurations give, and that corrupted bytes never make them panic.

use std::time::Duration;

use posthouse_wire::{
    FrameError, Framing, HelloPolicy, Key, Reader, ReaderConfig, ReplyStatus, Session,
    SessionConfig, SessionEvent, Violation, encode_reply, encode_request,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// An observation of one side.
#[derive(Clone, Debug, PartialEq)]
enum Observed {
    Message(u8, Vec<u8>),
    Request(u32),
    Reply(u32, Vec<u8>),
    Transfer(u8),
    Established,
    Bye(u16),
    Violation(Violation),
}

struct Peer {
    config: SessionConfig,
    reader_config: ReaderConfig,
    session: Session,
    reader: Reader,
    nonce: u8,
    observed: Vec<Observed>,
    /// Bytes on their way to the other side.
    out: Vec<u8>,
    closed: bool,
    now: Duration,
    sent: Vec<Vec<u8>>,
}

impl Peer {
    fn new(config: SessionConfig, session: Session, nonce: u8) -> Self {
        config.check().unwrap();
        let max_payload_bytes = config.max_payload_bytes as usize;
        let reader_config = ReaderConfig { framing: Framing::Native, max_payload_bytes };
        let reader = Reader::new();
        let observed = Vec::new();
        let out = Vec::new();
        let sent = Vec::new();
        let closed = false;
        let now = Duration::ZERO;
        let mut peer = Self {
            config,
            reader_config,
            session,
            reader,
            nonce,
            observed,
            out,
            closed,
            now,
            sent,
        };
        peer.session.start(&peer.config, [nonce; 16], &mut peer.out);
        peer
    }

    fn receive(&mut self, mut chunk: &[u8]) {
        self.session.on_activity(self.now);
        while !self.closed {
            match self.step(&mut chunk) {
                Ok(true) => {}
                Ok(false) => return,
                Err(violation) => {
                    let text = violation.text_for_peer();
                    self.session.bye(violation.code(), text, None, &mut self.out);
                    assert!(!violation.to_string().is_empty());
                    self.observed.push(Observed::Violation(violation));
                    self.closed = true;
                }
            }
        }
    }

    /// Takes one frame. Returns whether there was one.
    fn step(&mut self, chunk: &mut &[u8]) -> Result<bool, Violation> {
        let max = self.reader_config.max_payload_bytes;
        let Some(frame) = self.reader.next(&self.reader_config, max, chunk)? else {
            return Ok(false);
        };
        let mut nonce = || [self.nonce; 16];
        let out = &mut self.out;
        let event = self.session.handle_frame(&self.config, self.now, &mut nonce, frame, out)?;
        self.observed.push(match event {
            SessionEvent::Message { kind, payload } => Observed::Message(kind, payload.to_vec()),
            SessionEvent::Request { id, kind, payload } => {
                let max = self.session.send_limit(&self.config);
                encode_reply(id, ReplyStatus::Ok, kind, payload, max, &mut self.out).unwrap();
                Observed::Request(id)
            }
            SessionEvent::Reply { id, status: _, kind: _, payload } => {
                Observed::Reply(id, payload.to_vec())
            }
            SessionEvent::Established => {
                assert!(self.session.is_established(&self.config));
                assert!(self.session.may_use_reserved_kinds());
                Observed::Established
            }
            SessionEvent::Bye(bye) => {
                self.closed = true;
                Observed::Bye(bye.code)
            }
            // Neither side sends files, but a corrupted kind may make a frame of transfers.
            SessionEvent::Transfer(frame) => Observed::Transfer(frame.kind()),
            SessionEvent::Nothing => return Ok(true),
        });
        Ok(true)
    }

    /// Sends a message and a request, each if the session allows it now.
    fn send(&mut self, number: u8) {
        if self.closed || !self.session.is_established(&self.config) {
            return;
        }
        let max = self.session.send_limit(&self.config);
        let kind = if self.session.kinds_are_reserved() { 32 } else { 8 };
        Framing::Native.encode(kind, &[number], max, &mut self.out).unwrap();
        self.sent.push(vec![number]);
        if self.session.may_use_reserved_kinds() {
            encode_request(u32::from(number), 0, b"?", max, &mut self.out).unwrap();
        }
    }

    fn messages(&self) -> Vec<Vec<u8>> {
        let message = |observed: &Observed| match observed {
            Observed::Message(_, payload) if payload.len() == 1 => Some(payload.clone()),
            _ => None,
        };
        self.observed.iter().filter_map(message).collect()
    }

    fn violation(&self) -> Option<&Violation> {
        self.observed.iter().find_map(|observed| match observed {
            Observed::Violation(violation) => Some(violation),
            _ => None,
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Deliver { to_server: bool, bytes: usize },
    Send { by_server: bool, number: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 1_usize..50)
            .prop_map(|(to_server, bytes)| Step::Deliver { to_server, bytes }),
        1 => (any::<bool>(), any::<u8>())
            .prop_map(|(by_server, number)| Step::Send { by_server, number }),
    ]
}

/// A configuration and the letter that its key is made of: the key itself does not reveal it.
type Config = (SessionConfig, Option<u8>);

fn config() -> impl Strategy<Value = Config> {
    let key = prop::sample::select(vec![None, Some(b'k'), Some(b'l')]);
    let hello = prop::sample::select(vec![
        HelloPolicy::Never,
        HelloPolicy::Optional,
        HelloPolicy::Required,
    ]);
    let heartbeat = prop::option::of((1_u64..100).prop_map(Duration::from_secs));
    // No limit below 256: a credential of up to 99 bytes must fit into the hello.
    (key, hello, heartbeat, 256_u32..5000, vec(any::<u8>(), 0..99)).prop_map(
        |(letter, hello, heartbeat, max_payload_bytes, credential)| {
            let config = SessionConfig {
                max_payload_bytes,
                heartbeat,
                key: letter.map(|letter| Key::new(&[letter; 16]).unwrap()),
                credential: credential.into(),
                hello,
                ..SessionConfig::default()
            };
            (config, letter)
        },
    )
}

fn deliver(client: &mut Peer, server: &mut Peer, to_server: bool, bytes: usize) {
    let (from, to) = if to_server { (client, server) } else { (server, client) };
    let bytes = bytes.min(from.out.len());
    let chunk: Vec<u8> = from.out.drain(..bytes).collect();
    to.receive(&chunk);
    if from.out.is_empty() {
        from.session.flushed();
        from.session.on_sent(from.now);
    }
}

fn drive(client: &mut Peer, server: &mut Peer, steps: &[Step]) {
    for step in steps {
        drive_one(client, server, *step);
    }
    while !client.out.is_empty() || !server.out.is_empty() {
        deliver(client, server, true, usize::MAX);
        deliver(client, server, false, usize::MAX);
    }
}

/// Returns whether both sides know hello, and have the same key or none.
fn should_agree((client, client_key): &Config, (server, server_key): &Config) -> bool {
    let says = |config: &SessionConfig| config.hello != HelloPolicy::Never || config.key.is_some();
    says(client) && says(server) && client_key == server_key
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn two_sides_agree_exactly_when_their_configurations_do(
        client_config in config(),
        server_config in config(),
        steps in vec(step(), 0..60),
    ) {
        let agree = should_agree(&client_config, &server_config);
        let mut client = Peer::new(client_config.0.clone(), Session::connecting(), 1);
        let mut server = Peer::new(server_config.0.clone(), Session::accepted(), 2);
        drive(&mut client, &mut server, &steps);

        let both = client.session.agreed().zip(server.session.agreed());
        prop_assert_eq!(both.is_some(), agree, "{:?} {:?}", client.observed, server.observed);
        if let Some((by_client, by_server)) = both {
            prop_assert_eq!(by_client.heartbeat, by_server.heartbeat);
            prop_assert_eq!((by_client.version, by_client.features), (1, 1));
            prop_assert_eq!((by_server.version, by_server.features), (1, 1));
            prop_assert_eq!(by_client.proven, client_config.1.is_some());
            prop_assert_eq!(by_server.proven, client_config.1.is_some());
            prop_assert_eq!(&by_server.credential, &client_config.0.credential);
            prop_assert!(by_client.credential.is_empty());
            prop_assert_eq!(by_client.peer_max_payload_bytes, server_config.0.max_payload_bytes);
            prop_assert_eq!(by_server.peer_max_payload_bytes, client_config.0.max_payload_bytes);
            // Nothing is lost, nothing arrives twice, and everything arrives in order.
            prop_assert_eq!(client.violation().or(server.violation()), None);
            prop_assert_eq!(client.messages(), server.sent.clone());
            prop_assert_eq!(server.messages(), client.sent.clone());
            for (asked, answered) in [(&server, &client), (&client, &server)] {
                let requests = asked.observed.iter().filter_map(|observed| match observed {
                    Observed::Request(id) => Some(*id),
                    _ => None,
                });
                let replies = answered.observed.iter().filter_map(|observed| match observed {
                    Observed::Reply(id, payload) if payload == b"?" => Some(*id),
                    _ => None,
                });
                prop_assert_eq!(requests.collect::<Vec<_>>(), replies.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn no_message_passes_before_the_proof(
        client_config in config(),
        server_config in config(),
        steps in vec(step(), 0..60),
    ) {
        let mut client = Peer::new(client_config.0.clone(), Session::connecting(), 1);
        let mut server = Peer::new(server_config.0.clone(), Session::accepted(), 2);
        drive(&mut client, &mut server, &steps);
        let proven = client_config.1 == server_config.1;
        for peer in [&client, &server] {
            if peer.config.key.is_some() {
                let established = peer.observed.iter().position(|it| *it == Observed::Established);
                let first = peer.observed.iter().position(|observed| {
                    matches!(
                        observed,
                        Observed::Message(..) | Observed::Request(_) | Observed::Reply(..)
                    )
                });
                prop_assert_eq!(established.is_some(), proven);
                prop_assert!(first.is_none_or(|first| Some(first) > established));
            }
        }
    }

    #[test]
    fn corrupted_bytes_never_make_a_session_panic(
        client_config in config(),
        server_config in config(),
        steps in vec(step(), 0..80),
        corruptions in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut client = Peer::new(client_config.0, Session::connecting(), 1);
        let mut server = Peer::new(server_config.0, Session::accepted(), 2);
        let mut corruptions = corruptions.into_iter();
        for (at, step) in steps.iter().enumerate() {
            drive_one(&mut client, &mut server, *step);
            let peer = if at % 2 == 0 { &mut client } else { &mut server };
            if at % 8 == 0
                && !peer.out.is_empty()
                && let Some((index, value)) = corruptions.next()
            {
                let at = index.index(peer.out.len());
                peer.out[at] = value;
            }
        }
        drive(&mut client, &mut server, &[]);
        for peer in [&client, &server] {
            let ends = peer.observed.iter().filter(|observed| {
                matches!(observed, Observed::Bye(_) | Observed::Violation(_))
            });
            prop_assert!(ends.count() <= 1);
        }
    }

    #[test]
    fn garbage_frames_never_make_a_session_panic(
        config in config(),
        connecting in any::<bool>(),
        frames in vec((0_u8..40, vec(any::<u8>(), 0..80)), 0..20),
    ) {
        let session = if connecting { Session::connecting() } else { Session::accepted() };
        let mut peer = Peer::new(config.0, session, 1);
        for (kind, payload) in frames {
            let mut bytes = Vec::new();
            Framing::Native.encode(kind, &payload, 80, &mut bytes).unwrap();
            peer.receive(&bytes);
        }
        let ours = |it: &Observed| matches!(it, Observed::Violation(Violation::Frame(error))
            if !matches!(error, FrameError::TooLarge { .. }));
        prop_assert!(!peer.observed.iter().any(ours));
    }
}

fn drive_one(client: &mut Peer, server: &mut Peer, step: Step) {
    match step {
        Step::Deliver { to_server, bytes } => deliver(client, server, to_server, bytes),
        Step::Send { by_server: true, number } => server.send(number),
        Step::Send { by_server: false, number } => client.send(number),
    }
}
