use super::*;
use crate::{Reader, ReaderConfig, bye_code, encode_request};

const NOW: Duration = Duration::from_secs(100);
const HEARTBEAT: Duration = Duration::from_secs(4);

fn config(hello: HelloPolicy) -> SessionConfig {
    SessionConfig { hello, ..SessionConfig::default() }
}

fn config_with_key(letter: u8) -> SessionConfig {
    let key = Some(Key::new(&[letter; 32]).unwrap());
    SessionConfig { key, ..SessionConfig::default() }
}

/// An event that owns its content.
#[derive(Debug, PartialEq)]
enum OwnedEvent {
    Transfer(u8),
    Message(u8, Vec<u8>),
    Request(u32),
    Reply(u32, ReplyStatus),
    Established,
    Bye(u16),
    Nothing,
}

fn handle(
    session: &mut Session,
    config: &SessionConfig,
    kind: u8,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<OwnedEvent, Violation> {
    let frame = Frame { kind, payload };
    session.handle_frame(config, NOW, &mut || [2; 16], frame, out).map(|event| match event {
        SessionEvent::Message { kind, payload } => OwnedEvent::Message(kind, payload.to_vec()),
        SessionEvent::Request { id, .. } => OwnedEvent::Request(id),
        SessionEvent::Established => OwnedEvent::Established,
        SessionEvent::Bye(bye) => OwnedEvent::Bye(bye.code),
        SessionEvent::Nothing => OwnedEvent::Nothing,
        SessionEvent::Transfer(frame) => OwnedEvent::Transfer(frame.kind()),
        SessionEvent::Reply { id, status, .. } => OwnedEvent::Reply(id, status),
    })
}

/// Hands over all the frames in `bytes`; returns the last event and the replies.
fn handle_all(
    session: &mut Session,
    config: &SessionConfig,
    mut bytes: &[u8],
) -> (Result<OwnedEvent, Violation>, Vec<u8>) {
    let reader_config = ReaderConfig { framing: Framing::Native, max_payload_bytes: 1 << 20 };
    let mut reader = Reader::new();
    let mut out = Vec::new();
    let mut last = Ok(OwnedEvent::Nothing);
    while let Some(Frame { kind, payload }) =
        reader.next(&reader_config, 1 << 20, &mut bytes).unwrap()
    {
        last = handle(session, config, kind, payload, &mut out);
    }
    (last, out)
}

fn connecting(config: &SessionConfig) -> (Session, Vec<u8>) {
    let mut session = Session::connecting();
    let mut out = Vec::new();
    session.start(config, [1; 16], &mut out);
    (session, out)
}

/// Hands over frames that must be accepted; returns the replies.
fn replies_to(session: &mut Session, config: &SessionConfig, bytes: &[u8]) -> Vec<u8> {
    let (event, out) = handle_all(session, config, bytes);
    assert!(event.is_ok(), "{event:?}");
    out
}

/// A client and a server that have agreed.
fn agreed_pair(client: &SessionConfig, server: &SessionConfig) -> (Session, Session) {
    let (mut connected, hello) = connecting(client);
    let mut accepted = Session::accepted();
    let answer = replies_to(&mut accepted, server, &hello);
    let prove = replies_to(&mut connected, client, &answer);
    let welcome = replies_to(&mut accepted, server, &prove);
    replies_to(&mut connected, client, &welcome);
    assert!(connected.may_use_reserved_kinds() && accepted.may_use_reserved_kinds());
    (connected, accepted)
}

fn kind_of(frame: &[u8]) -> Option<u8> {
    frame.get(4).copied()
}

#[test]
fn a_plain_peer_may_use_every_kind_and_hears_nothing_of_ours() {
    let config = config(HelloPolicy::Optional);
    let mut session = Session::accepted();
    let mut out = Vec::new();
    for kind in (0..=255).rev().chain(0..=255) {
        let event = handle(&mut session, &config, kind, b"x", &mut out);
        assert_eq!(event, Ok(OwnedEvent::Message(kind, b"x".to_vec())));
    }
    // A hello that is not the first frame is a message, too.
    let (_, hello) = connecting(&config);
    let event = handle(&mut session, &config, 4, &hello[5..], &mut out);
    assert_eq!(event, Ok(OwnedEvent::Message(4, hello[5..].to_vec())));
    assert!(!session.bye(bye_code::NORMAL, "", None, &mut out));
    assert!(!session.kinds_are_reserved() && !session.may_use_reserved_kinds());
    assert!(session.is_established(&config) && session.agreed().is_none());
    assert_eq!((out, session.deadline()), (Vec::new(), None));
}

#[test]
fn a_first_frame_of_kind_4_without_the_magic_is_a_message() {
    let config = config(HelloPolicy::Optional);
    let mut session = Session::accepted();
    let mut out = Vec::new();
    let event = handle(&mut session, &config, 4, b"POSTHOU", &mut out);
    assert_eq!(event, Ok(OwnedEvent::Message(4, b"POSTHOU".to_vec())));
}

#[test]
fn where_hello_is_never_it_is_a_message_and_none_is_said() {
    let never = config(HelloPolicy::Never);
    let (session, out) = connecting(&never);
    assert!(out.is_empty() && session.is_established(&never));
    let (_, hello) = connecting(&config(HelloPolicy::Required));
    let mut session = Session::accepted();
    let (event, answer) = handle_all(&mut session, &never, &hello);
    assert_eq!(event, Ok(OwnedEvent::Message(4, hello[5..].to_vec())));
    assert!(answer.is_empty() && !session.kinds_are_reserved());
}

#[test]
fn where_hello_is_required_another_first_frame_is_refused() {
    for config in [config(HelloPolicy::Required), config_with_key(1)] {
        let mut session = Session::accepted();
        let mut out = Vec::new();
        assert!(!session.is_established(&config));
        let event = handle(&mut session, &config, 0, b"hi", &mut out);
        assert_eq!(event, Err(Violation::HelloMissing { kind: 0 }));
        assert!(!session.bye(bye_code::PROTOCOL_VIOLATION, "", None, &mut out));
        assert!(out.is_empty());
    }
}

#[test]
fn a_server_may_speak_before_it_answers_but_not_to_a_client_with_a_key() {
    for config in [config(HelloPolicy::Optional), config(HelloPolicy::Required)] {
        let mut session = connecting(&config).0;
        let mut out = Vec::new();
        assert_eq!(session.is_established(&config), config.hello == HelloPolicy::Optional);
        assert!(session.kinds_are_reserved() && !session.may_use_reserved_kinds());
        for kind in [0, 4, 5, 16, 200] {
            let event = handle(&mut session, &config, kind, b"POST", &mut out);
            assert_eq!(event, Ok(OwnedEvent::Message(kind, b"POST".to_vec())));
        }
        assert!(out.is_empty());
    }
    let config = config_with_key(1);
    let mut session = connecting(&config).0;
    let mut out = Vec::new();
    let event = handle(&mut session, &config, 0, b"hi", &mut out);
    assert_eq!(event, Err(Violation::HelloMissing { kind: 0 }));
}

#[test]
fn an_echo_of_our_hello_is_no_answer() {
    let config = config(HelloPolicy::Optional);
    let (mut session, hello) = connecting(&config);
    let (event, _) = handle_all(&mut session, &config, &hello);
    assert_eq!(event, Ok(OwnedEvent::Message(4, hello[5..].to_vec())));
    assert!(session.agreed().is_none());
    // A server does not take an answer for a hello either.
    let answer = replies_to(&mut Session::accepted(), &config, &hello);
    let (event, _) = handle_all(&mut Session::accepted(), &config, &answer);
    assert!(matches!(event, Err(Violation::Malformed { kind: 4, .. })));
}

#[test]
fn a_later_version_is_negotiated_down_and_an_impossible_one_told() {
    let config = config(HelloPolicy::Optional);
    let (_, mut hello) = connecting(&config);
    hello[5 + 8] = 9;
    let mut session = Session::accepted();
    let (event, answer) = handle_all(&mut session, &config, &hello);
    assert_eq!((event, answer[5 + 8]), (Ok(OwnedEvent::Established), 1));

    hello[5 + 8] = 0;
    let mut session = Session::accepted();
    let (event, mut answer) = handle_all(&mut session, &config, &hello);
    assert_eq!((event, answer[5 + 8]), (Err(Violation::Version { version: 0 }), 1));
    assert!(session.bye(bye_code::VERSION_NOT_SUPPORTED, "", None, &mut answer));

    for version in [0, 2] {
        answer[5 + 8] = version;
        let (mut session, mut out) = connecting(&config);
        let event = handle(&mut session, &config, 4, &answer[5..46], &mut out);
        assert_eq!(event, Err(Violation::Version { version: u16::from(version) }));
        assert!(session.bye(bye_code::VERSION_NOT_SUPPORTED, "", None, &mut out));
    }
}

#[test]
fn both_sides_prove_that_they_hold_the_key() {
    let (client, server) = agreed_pair(&config_with_key(1), &config_with_key(1));
    assert!(client.agreed().unwrap().proven && server.agreed().unwrap().proven);
}

#[test]
fn a_wrong_proof_is_told_once_and_nothing_passes() {
    let ours = config_with_key(1);
    let theirs = config_with_key(2);
    let (mut client, hello) = connecting(&theirs);
    let mut server = Session::accepted();
    let answer = replies_to(&mut server, &ours, &hello);
    let prove = replies_to(&mut client, &theirs, &answer);
    let (event, mut out) = handle_all(&mut server, &ours, &prove);
    assert_eq!(event, Err(Violation::ProofWrong));
    assert!(out.is_empty() && server.agreed().is_none());
    assert!(server.bye(bye_code::NOT_ADMITTED, "not admitted", None, &mut out));
    assert!(!server.bye(bye_code::NOT_ADMITTED, "not admitted", None, &mut out));
    let (event, _) = handle_all(&mut client, &theirs, &out);
    assert_eq!(event, Ok(OwnedEvent::Bye(bye_code::NOT_ADMITTED)));
}

#[test]
fn a_server_without_the_key_cannot_pass_for_one_with_it() {
    let client_config = config_with_key(1);
    let hello = connecting(&config_with_key(1)).1;
    let answer = replies_to(&mut Session::accepted(), &config_with_key(2), &hello);
    let (mut client, _) = connecting(&client_config);
    let prove = replies_to(&mut client, &client_config, &answer);
    // The client's own proof, sent back, is not a valid welcome; neither is a cut or an empty one.
    for welcome in [&prove[5..], &prove[5..36], &[]] {
        let (mut client, _) = connecting(&client_config);
        replies_to(&mut client, &client_config, &answer);
        let event = handle(&mut client, &client_config, kind::WELCOME, welcome, &mut Vec::new());
        assert_eq!(event, Err(Violation::ProofWrong));
    }
    // The proof of one connection is not valid on another, whose nonces differ.
    let mut server = Session::accepted();
    let config = &client_config;
    let hello = connecting(config).1;
    let mut nonce = || [3; 16];
    let frame = Frame { kind: kind::HELLO, payload: &hello[5..] };
    server.handle_frame(config, NOW, &mut nonce, frame, &mut Vec::new()).unwrap();
    let (mut client, hello) = connecting(config);
    let answer = replies_to(&mut Session::accepted(), config, &hello);
    let old = replies_to(&mut client, config, &answer);
    let event = handle(&mut server, config, kind::PROVE, &old[5..], &mut Vec::new());
    assert_eq!(event, Err(Violation::ProofWrong));
}

/// A man in the middle changes one byte of the hello or of the answer.
#[test]
fn no_change_of_the_first_two_frames_survives_the_proof() {
    let config = SessionConfig {
        heartbeat: Some(Duration::from_secs(9)),
        credential: b"device 7"[..].into(),
        ..config_with_key(1)
    };
    let (_, hello) = connecting(&config);
    let answer = replies_to(&mut Session::accepted(), &config, &hello);
    for (frames, is_hello) in [(&hello, true), (&answer, false)] {
        for at in 5..frames.len() {
            for bit in 0..8 {
                let mut changed = frames.clone();
                changed[at] ^= 1 << bit;
                assert!(!is_proven_after(&config, is_hello.then_some(&changed), Some(&changed)));
            }
        }
    }
    // An added credential, which the client has not said, and bytes that this version ignores.
    let mut longer = hello.clone();
    longer.extend_from_slice(b"admin");
    longer[0] += 5;
    assert!(!is_proven_after(&config, Some(&longer), None));
    longer[5 + 39] += 5;
    assert!(!is_proven_after(&config, Some(&longer), None));
    assert!(is_proven_after(&config, None, None));
}

/// Returns whether one of the sides counts the other as proven, when the frames on the way are
/// replaced by these.
fn is_proven_after(
    config: &SessionConfig,
    hello_there: Option<&Vec<u8>>,
    answer_there: Option<&Vec<u8>>,
) -> bool {
    let (mut client, hello) = connecting(config);
    let mut server = Session::accepted();
    let (event, mut answer) = handle_all(&mut server, config, hello_there.unwrap_or(&hello));
    if event.is_err() {
        return false;
    }
    if let (None, Some(changed)) = (hello_there, answer_there) {
        answer.clone_from(changed);
    }
    let (event, prove) = handle_all(&mut client, config, &answer);
    if event.is_err() {
        return false;
    }
    let (_, welcome) = handle_all(&mut server, config, &prove);
    handle_all(&mut client, config, &welcome).0.is_ok_and(|_| client.agreed().is_some())
        || server.agreed().is_some()
}

#[test]
fn keys_on_one_side_only_are_refused_by_the_client() {
    let plain = config(HelloPolicy::Optional);
    let key = config_with_key(1);
    for (ours, theirs, expected) in
        [(&plain, &key, Violation::KeyMissing), (&key, &plain, Violation::ProofNotOffered)]
    {
        let (mut client, hello) = connecting(ours);
        let answer = replies_to(&mut Session::accepted(), theirs, &hello);
        let (event, mut out) = handle_all(&mut client, ours, &answer);
        assert_eq!(event, Err(expected));
        assert!(client.bye(bye_code::NOT_ADMITTED, "", None, &mut out));
        assert_eq!(kind_of(&out), Some(kind::BYE));
    }
}

#[test]
fn nothing_but_the_proof_may_come_while_it_is_awaited() {
    let config = config_with_key(1);
    for frame_kind in [0, 4, 7, 8, 9, 15, 16, 18, 31, 255] {
        let mut server = Session::accepted();
        replies_to(&mut server, &config, &connecting(&config).1);
        assert!(!server.is_established(&config) && !server.may_use_reserved_kinds());
        let event = handle(&mut server, &config, frame_kind, &[0; 32], &mut Vec::new());
        assert_eq!(event, Err(Violation::OutOfState { kind: frame_kind }));
    }
}

#[test]
fn each_reserved_kind_is_judged_once_hello_is_agreed() {
    let config = config(HelloPolicy::Optional);
    for frame_kind in 0..=255 {
        let (mut client, mut server) = agreed_pair(&config, &config);
        for session in [&mut client, &mut server] {
            let mut out = Vec::new();
            let event = handle(session, &config, frame_kind, &[0; 8], &mut out);
            let expected = match frame_kind {
                4 | 6 | 7 => Err(Violation::OutOfState { kind: frame_kind }),
                5 => Ok(OwnedEvent::Bye(bye_code::NORMAL)),
                8 => Ok(OwnedEvent::Request(0)),
                9 => Ok(OwnedEvent::Reply(0, ReplyStatus::Ok)),
                10..=15 | 18..=21 => {
                    Err(Violation::Malformed { kind: frame_kind, why: "its number is 0" })
                }
                16..=31 => Ok(OwnedEvent::Nothing),
                _ => Ok(OwnedEvent::Message(frame_kind, vec![0; 8])),
            };
            assert_eq!(event, expected, "kind {frame_kind}");
            assert_eq!(kind_of(&out), (frame_kind == 16).then_some(17), "kind {frame_kind}");
        }
    }
}

#[test]
fn files_pass_only_where_both_sides_know_them() {
    let config = config(HelloPolicy::Optional);
    let get = [1, 0, 0, 0, b'a'];
    let (mut client, mut server) = agreed_pair(&config, &config);
    for (session, first) in [(&mut client, 1), (&mut server, 2)] {
        assert!(session.may_transfer());
        assert_eq!(session.first_transfer_id(), first);
        assert!(session.is_local_transfer(first) && session.is_local_transfer(first + 2));
        assert!(!session.is_local_transfer(first + 1) && !session.is_local_transfer(0));
        let mut out = Vec::new();
        let event = handle(session, &config, kind::GET, &get, &mut out);
        assert_eq!(event, Ok(OwnedEvent::Transfer(kind::GET)));
        assert!(session.bye(bye_code::NORMAL, "", None, &mut out) && !session.may_transfer());
        assert_eq!(handle(session, &config, kind::GET, &get, &mut out), Ok(OwnedEvent::Nothing));
    }
    assert!(!Session::accepted().may_transfer() && !connecting(&config).0.may_transfer());
    // An older client's hello, and the answer to it, have no features.
    let (mut client, mut hello) = connecting(&config);
    hello[15..19].fill(0);
    let mut server = Session::accepted();
    let answer = replies_to(&mut server, &config, &hello);
    assert_eq!(answer[15..19], [0; 4]);
    replies_to(&mut client, &config, &answer);
    for session in [&mut client, &mut server] {
        assert!(session.may_use_reserved_kinds() && !session.may_transfer());
        for kind in 10..=15 {
            let event = handle(session, &config, kind, &get, &mut Vec::new());
            assert_eq!(event, Err(Violation::UnknownKind { kind }));
        }
        for kind in 18..=20 {
            assert_eq!(
                handle(session, &config, kind, &get, &mut Vec::new()),
                Ok(OwnedEvent::Nothing)
            );
        }
    }
}

#[test]
fn features_of_a_later_version_are_not_agreed() {
    let config = config(HelloPolicy::Optional);
    let (mut client, mut hello) = connecting(&config);
    hello[15..19].fill(0xff);
    let mut server = Session::accepted();
    let mut answer = replies_to(&mut server, &config, &hello);
    assert_eq!(answer[15..19], [1, 0, 0, 0]);
    answer[15..19].fill(0xff);
    replies_to(&mut client, &config, &answer);
    for session in [&client, &server] {
        assert_eq!(session.agreed().unwrap().features, FEATURE_TRANSFERS);
    }
}

#[test]
fn truncated_control_frames_are_malformed() {
    let config = config(HelloPolicy::Optional);
    for (kind, len) in [(5, 5), (8, 4), (9, 5), (16, 7), (16, 9), (17, 0)] {
        let (mut client, _) = agreed_pair(&config, &config);
        let event = handle(&mut client, &config, kind, &[0; 9][..len], &mut Vec::new());
        assert!(matches!(event, Err(Violation::Malformed { kind: told, .. }) if told == kind));
    }
}

#[test]
fn pings_are_answered_up_to_a_limit_until_the_pongs_have_left() {
    let config = SessionConfig { max_control_replies: 3, ..SessionConfig::default() };
    let (mut client, _) = agreed_pair(&config, &config);
    let mut out = Vec::new();
    for _ in 0..3 {
        assert_eq!(
            handle(&mut client, &config, 16, b"12345678", &mut out),
            Ok(OwnedEvent::Nothing)
        );
    }
    assert!(out.ends_with(b"\x0912345678".map(|b| if b == 9 { 17 } else { b }).as_slice()));
    client.flushed();
    for _ in 0..3 {
        assert_eq!(
            handle(&mut client, &config, 16, b"12345678", &mut out),
            Ok(OwnedEvent::Nothing)
        );
    }
    let event = handle(&mut client, &config, 16, b"12345678", &mut out);
    assert_eq!(event, Err(Violation::ControlFlood { max_control_replies: 3 }));
    assert_eq!(out.len(), 6 * 13);
}

#[test]
fn after_a_bye_frames_are_ignored_and_no_second_one_is_said() {
    let config = SessionConfig { heartbeat: Some(HEARTBEAT), ..SessionConfig::default() };
    for bye_received in [false, true] {
        let (mut client, _) = agreed_pair(&config, &config);
        let mut out = Vec::new();
        if bye_received {
            let event = handle(&mut client, &config, 5, b"\xe8\x03\0\0\0\0x", &mut out);
            assert_eq!(event, Ok(OwnedEvent::Bye(bye_code::APPLICATION)));
        } else {
            assert!(client.bye(bye_code::GOING_AWAY, "restart", None, &mut out));
        }
        out.clear();
        for kind in [0, 4, 5, 8, 15, 16] {
            assert_eq!(handle(&mut client, &config, kind, b"", &mut out), Ok(OwnedEvent::Nothing));
        }
        assert!(!client.bye(bye_code::NORMAL, "", None, &mut out));
        assert!(!client.may_use_reserved_kinds() && client.deadline().is_none());
        client.handle_deadline(Duration::MAX, SendQueue::Empty, &mut out).unwrap();
        assert!(out.is_empty());
    }
}

#[test]
fn a_silent_peer_is_pinged_and_one_that_answers_stays() {
    let with_heartbeat = SessionConfig { heartbeat: Some(HEARTBEAT), ..SessionConfig::default() };
    let (mut client, mut server) = agreed_pair(&config(HelloPolicy::Optional), &with_heartbeat);
    for session in [&client, &server] {
        assert_eq!(session.agreed().unwrap().heartbeat, Some(HEARTBEAT));
        assert_eq!(session.deadline(), Some(NOW + HEARTBEAT));
    }
    for round in 1..10 {
        let now = NOW + HEARTBEAT * round;
        let mut ping = Vec::new();
        server.handle_deadline(now, SendQueue::Empty, &mut ping).unwrap();
        assert_eq!(kind_of(&ping), Some(16));
        client.on_activity(now);
        let (event, reply) = handle_all(&mut client, &with_heartbeat, &ping);
        assert_eq!((event, kind_of(&reply)), (Ok(OwnedEvent::Nothing), Some(17)));
        server.on_activity(now);
        assert_eq!(handle_all(&mut server, &with_heartbeat, &reply).0, Ok(OwnedEvent::Nothing));
    }
    let end = server.handle_deadline(NOW + HEARTBEAT * 12, SendQueue::Empty, &mut Vec::new());
    assert_eq!(end, Err(Violation::Silent { silence: HEARTBEAT * 3 }));
}

#[test]
fn the_peers_limit_bounds_what_is_sent() {
    let small = SessionConfig { max_payload_bytes: 64, ..SessionConfig::default() };
    let huge = SessionConfig { max_payload_bytes: u32::MAX, ..SessionConfig::default() };
    let (mut client, server) = agreed_pair(&huge, &small);
    assert_eq!(client.send_limit(&huge), 64);
    assert_eq!(server.send_limit(&small), MAX_PAYLOAD_BYTES);
    assert_eq!(Session::accepted().send_limit(&small), 64);
    let mut out = Vec::new();
    assert!(encode_request(1, 0, &[0; 59], 64, &mut out).is_ok());
    assert!(encode_request(1, 0, &[0; 60], 64, &mut out).is_err());
    out.clear();
    assert!(client.bye(bye_code::NORMAL, &"x".repeat(100), None, &mut out));
    assert_eq!(out.len(), 5 + 64);
}

#[test]
fn a_configuration_that_cannot_be_is_told() {
    assert_eq!(SessionConfig::default().check(), Ok(()));
    let credential = vec![0; MAX_CREDENTIAL_BYTES + 1].into();
    let long = SessionConfig { credential, ..SessionConfig::default() };
    assert_eq!(long.check(), Err(SessionConfigError::CredentialTooLong { len: 1025 }));
    let mut small = SessionConfig { max_payload_bytes: 63, ..SessionConfig::default() };
    assert_eq!(
        small.check(),
        Err(SessionConfigError::PayloadLimitTooSmall { max_payload_bytes: 63 })
    );
    small.hello = HelloPolicy::Never;
    assert_eq!(small.check(), Ok(()));
}

#[test]
fn a_key_is_neither_short_nor_told() {
    for (len, is_right) in [(0, false), (15, false), (16, true), (1024, true), (1025, false)] {
        assert_eq!(Key::new(&vec![b's'; len]).is_ok(), is_right, "{len} bytes");
    }
    let key = |bytes: &[u8]| Key::new(bytes).unwrap();
    assert_eq!(key(&[1; 16]), key(&[1; 16]));
    assert_ne!(key(&[1; 16]), key(&[1; 17]));
    assert_ne!(
        key(&[1; 16]),
        key(b"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x02")
    );
    assert_eq!(format!("{:?}", Key::new(b"a very secret key").unwrap()), "Key(..)");
}
