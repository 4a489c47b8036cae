//! Uses the whole public interface as a program of a user does: each item is called once, in
//! simulation, and what it does is seen. The tests of behaviour are in `it`.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::{
    Backend, ClientError, Close, ConnectError, ConnectFailure, ConnectionOptions, Delimiter,
    Destination, Directory, DisconnectKind, DisconnectReason, Endian, Endpoint, EndpointOptions,
    Fault, FinishedTransfer, Framing, Group, Handler, HandlerResult, Hello, Key, Layout,
    LengthField, ListenError, Listener, Message, Offer, OfferResponder, OrClose, Output,
    OwnedMessage, OwnedResponder, Peer, ReadMode, Reject, RequestError, Responder, RunError,
    SendError, Source, StartError, Target, TransferHandle, Tuning, WouldDeadlock, sim,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that happened, by the names of the callbacks.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn has(&self, what: &str) -> bool {
        self.0.lock().unwrap().iter().any(|entry| entry == what)
    }

    fn wait(&self, world: &sim::World, what: &str) {
        let seen = world.run_until(PATIENCE, || self.has(what).then_some(()));
        assert!(seen.is_some(), "waited for {what} in {:?}", self.0.lock().unwrap());
    }
}

/// A handler with every method.
struct Everything {
    log: Log,
    inbox: Directory,
    kept: Mutex<Vec<OwnedResponder>>,
}

#[derive(Default)]
struct State {
    name: Vec<u8>,
}

impl Handler for Everything {
    type State = State;

    fn connected(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        self.log.add(format!("connected {}", peer.origin()));
        assert!(peer.is_open() && peer.address().is_some() && peer.info().is_some());
        peer.admit();
        let room: Group = peer.endpoint().group("room");
        peer.join(&room);
        peer.after(Duration::from_millis(1), |peer| {
            peer.handler().log.add("timer");
            Ok(())
        })?;
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        let owned: OwnedMessage = message.to_owned();
        assert_eq!((owned.kind, owned.payload), (message.kind(), message.to_vec()));
        peer.state_mut().name = message.to_vec();
        match message.payload() {
            b"pause" => {
                peer.pause_reading();
                peer.resume_reading();
            }
            b"leave" => peer.leave(&peer.endpoint().group("room")),
            b"close" => {
                peer.close(
                    Close::with_code(1001, "as you like").retry_after(PATIENCE).log("asked"),
                );
            }
            b"fault" => return Err(Close::peer_fault(1000, "that is no number")),
            b"parse" => drop("x".parse::<u8>()?),
            b"other" => Err("a text").or_close()?,
            b"abort" => return Err(Close::abort()),
            _ => {
                let (state, output): (&mut State, &mut Output<'_>) = peer.split();
                output.send(message.kind(), &state.name);
                assert!(output.is_open() && output.queued_bytes() > 0);
            }
        }
        Ok(())
    }

    fn requested(
        &self,
        peer: &mut Peer<'_, Self>,
        message: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult {
        assert!(peer.has_hello() && peer.credential() == b"who");
        match message.payload() {
            b"now" => responder.reply(41, b"here"),
            b"never" => responder.reject("no"),
            _ => self.kept.lock().unwrap().extend(responder.take()),
        }
        Ok(())
    }

    fn writable(&self, _: &mut Peer<'_, Self>) -> HandlerResult {
        self.log.add("writable");
        Ok(())
    }

    fn offered(
        &self,
        _: &mut Peer<'_, Self>,
        offer: &Offer<'_>,
        answer: &mut OfferResponder<'_>,
    ) -> Result<Option<Destination>, Reject> {
        assert!(offer.size() > 0 && !offer.is_executable() && offer.modified_ns().is_some());
        match offer.name() {
            "no" => Err(Reject::new("not that one")),
            "later" => {
                let late = answer.take().expect("the first call succeeds");
                late.accept(Destination::new(&self.inbox).named("came later"));
                Ok(None)
            }
            _ => Ok(Some((&self.inbox).into())),
        }
    }

    fn download_requested(&self, _: &mut Peer<'_, Self>, name: &str) -> Result<Source, Reject> {
        Ok(Source::new(&self.inbox, name))
    }

    fn list_requested(&self, _: &mut Peer<'_, Self>, _: &str) -> Result<Directory, Reject> {
        Ok(self.inbox.clone())
    }

    fn transferred(&self, _: &mut Peer<'_, Self>, done: &FinishedTransfer) -> HandlerResult {
        let handle: &TransferHandle = done.handle();
        assert_eq!((handle.name(), handle.is_incoming()), (done.name(), done.is_incoming()));
        let result = if done.result().is_ok() { "transferred" } else { "not transferred" };
        self.log.add(format!("{result} {}", done.name()));
        Ok(())
    }

    fn disconnected(&self, _: &mut Peer<'_, Self>, reason: &DisconnectReason) {
        self.log.add(format!("disconnected {:?}", reason.kind()));
        if let (Some(code), Some(text)) = (reason.code(), reason.text()) {
            self.log.add(format!("goodbye {code} {text} {:?}", reason.retry_after()));
        }
        assert!(reason.unsent_bytes() < 1 << 20);
        assert!(matches!(reason.fault(), Fault::Peer | Fault::Local | Fault::System));
    }

    fn connect_failed(&self, endpoint: &Endpoint<Self>, failure: &ConnectFailure) {
        assert_eq!(failure.reason().kind(), DisconnectKind::Unreachable);
        assert!(endpoint.peer(failure.id()).is_none());
        self.log.add(format!("connect_failed {}", failure.target()));
    }
}

/// A second kind of connection; it takes nothing.
struct Silent;

impl Handler for Silent {
    type State = u8;
}

fn everything(world: &sim::World, place: &str) -> Everything {
    let inbox = world.disk(place).directory();
    Everything { log: Log::default(), inbox, kept: Mutex::default() }
}

#[test]
fn a_program_uses_every_item_of_the_interface() {
    sim::check(0..4, |world| {
        let handler = everything(world, "server");
        let log = handler.log.clone();
        let options = EndpointOptions::default()
            .with_backend(Backend::Auto)
            .with_layout(Layout::Shared)
            .with_io_workers(2);
        let tuning = Tuning::default().with_read_mode(ReadMode::ZeroByte).with_pending_reads(2);
        let native = ConnectionOptions::default().with_hello(Hello::Optional);
        let listener = Listener::new("10.0.0.1:9990").name("native").options(native);
        let builder = Endpoint::builder(handler).options(options).tuning(tuning).listen(listener);
        let server = world.start(builder).unwrap();
        assert_eq!((server.layout(), server.backend()), (Layout::Shared, "simulation"));
        assert!(!server.backend_reason().is_empty() && server.options().io_workers == 2);
        assert_eq!(server.tuning().pending_reads, 2);

        messages(world, &server, &log);
        requests(world, &server);
        files(world, &log);
        others(world, &server, &log);
        ends(world, &server, &log);

        server.shutdown(Duration::ZERO);
        server.wait().unwrap();
        assert!(server.has_ended() && server.count() == 0);
        assert!(matches!(server.listen("10.0.0.1:1"), Err(ListenError::Shutdown)));
        assert!(matches!(server.attach(Silent), Err(StartError::Shutdown)));
        assert_eq!(server.connect("10.0.0.1:1", State::default()), Err(ConnectError::Shutdown));
    });
}

fn messages(world: &sim::World, server: &Endpoint<Everything>, log: &Log) {
    let client = world.client(Target::new("10.0.0.1:9990").name("here")).unwrap();
    client.send(40, b"hello").unwrap();
    assert_eq!(client.receive(PATIENCE).unwrap().payload, b"hello");
    log.wait(world, "connected native");
    log.wait(world, "timer");
    client.send(40, b"pause").unwrap();

    let room = server.group("room");
    assert_eq!((room.len(), room.is_empty(), room.name()), (1, false, "room"));
    let [info] = &server.peers()[..] else { panic!("one peer") };
    assert_eq!(server.peer(info.id).map(|peer| peer.id), Some(info.id));
    for sent in [
        room.send(50, b"to all"),
        server.everyone().send(50, b"to all"),
        server.send(info.id, 50, b"to all"),
    ] {
        sent.unwrap();
        assert_eq!(client.receive(PATIENCE).unwrap().payload, b"to all");
    }
    room.send_except(info.id, 50, b"to nobody").unwrap();
    assert_eq!(server.send(info.id, 9, b""), Err(SendError::ReservedKind(9)));

    server
        .run(info.id, |peer| {
            let state = peer.state().name.clone();
            assert!(!state.is_empty() && peer.now() > Duration::ZERO);
            let number = peer.random().to_le_bytes();
            peer.send(51, &number);
            Ok(())
        })
        .unwrap();
    assert_eq!(client.receive(PATIENCE).unwrap().kind, 51);
    let silent = server.attach(Silent).unwrap();
    assert_eq!(silent.run(info.id, |_| Ok(())), Err(RunError::WrongHandler));
    let nothing = client.receive(Duration::from_millis(1));
    assert!(matches!(nothing, Err(ClientError::TimedOut)), "{nothing:?}");
    client.send(40, b"leave").unwrap();
    let left = world.run_until(PATIENCE, || room.is_empty().then_some(()));
    assert!(left.is_some() && client.endpoint().count() == 1);
    assert!(server.peer(client.peer()).is_some() || server.count() == 1);
    client.close();
}

fn requests(world: &sim::World, server: &Endpoint<Everything>) {
    let target = Target::new("10.0.0.1:9990").credential(*b"who");
    let client = world.client_with(target, EndpointOptions::default()).unwrap();
    assert_eq!(client.request(40, b"now", PATIENCE).unwrap().payload, b"here");
    let rejected = client.request(40, b"never", PATIENCE).unwrap_err();
    let ClientError::Request(RequestError::Rejected(text)) = rejected else {
        panic!("{rejected}");
    };
    assert_eq!(*text, *"no");

    // A request between two endpoints, answered later.
    let asking = world.start(Endpoint::builder(everything(world, "asking"))).unwrap();
    let log = asking.handler().log.clone();
    let target = Target::new("10.0.0.1:9990").credential(*b"who");
    let id = asking.connect_with(target, |_| State::default()).unwrap();
    log.wait(world, "connected 10.0.0.1:9990");
    asking
        .run(id, |peer| {
            peer.request(40, b"later", PATIENCE, |peer, reply| {
                let reply = String::from_utf8_lossy(reply?.payload()).into_owned();
                peer.handler().log.add(reply);
                Ok(())
            });
            Ok(())
        })
        .unwrap();
    let take = || server.handler().kept.lock().unwrap().pop();
    let kept = world.run_until(PATIENCE, take).unwrap();
    assert_eq!(server.peer(kept.peer()).map(|peer| peer.id), Some(kept.peer()));
    kept.reply(41, b"at last").unwrap();
    log.wait(world, "at last");
    asking.shutdown(Duration::ZERO);
    asking.wait().unwrap();
    client.close();
}

fn files(world: &sim::World, log: &Log) {
    let here = world.disk("here");
    let disk = world.disk("here").directory();
    for name in ["one", "no", "later"] {
        here.write(name, b"content");
    }
    let client = world.client("10.0.0.1:9990").unwrap();
    assert_eq!(client.put("one", &disk).unwrap().len(), 32);
    assert!(matches!(client.put("no", &disk), Err(ClientError::Transfer(_))));
    client.put("later", &disk).unwrap();
    log.wait(world, "transferred later");
    let names: Vec<_> = client.list().unwrap().files.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["came later".into(), "one".into()]);
    client.get("one", Destination::new(&disk).named("two")).unwrap();
    assert_eq!(here.read("two").unwrap(), b"content");
    client.close();

    let sending = world.start(Endpoint::builder(everything(world, "here"))).unwrap();
    let sent = sending.handler().log.clone();
    let id = sending.connect("10.0.0.1:9990", State::default()).unwrap();
    sent.wait(world, "connected 10.0.0.1:9990");
    sending
        .run(id, |peer| {
            let inbox = peer.handler().inbox.clone();
            let offered = peer.offer_file(Source::new(&inbox, "one").named("three"));
            assert_eq!((offered.size(), offered.resumed_from()), (None, 0));
            let cancelled = peer.fetch_file("one", Destination::new(&inbox).named("four"));
            peer.cancel_transfer(&cancelled);
            assert_eq!(cancelled.transferred_bytes(), 0);
            peer.list_files("", |peer, listed| {
                peer.handler().log.add(format!("{} files", listed.or_close()?.files.len()));
                Ok(())
            });
            Ok(())
        })
        .unwrap();
    sent.wait(world, "transferred three");
    sent.wait(world, "not transferred one");
    sent.wait(world, "2 files");
    sending.shutdown(Duration::ZERO);
    sending.wait().unwrap();
}

fn others(world: &sim::World, server: &Endpoint<Everything>, log: &Log) {
    let silent = server.attach(Silent).unwrap();
    let delimiter = Framing::Delimiter(Delimiter::new(b"||").unwrap());
    let length = LengthField::new(0, 2, Endian::Little, 0, 2).unwrap();
    let key = Key::new(b"0123456789abcdef").unwrap();
    let listening = [
        Listener::new("10.0.0.1:1").framing(delimiter),
        Listener::new("10.0.0.1:2").framing(Framing::Length(length)),
        Listener::new("10.0.0.1:3").key(key.clone()),
        Listener::new("[fd00::1:1]:4").dual_stack(true),
    ]
    .map(|listener| silent.listen(listener).unwrap());
    assert_eq!(server.addresses().len(), 5);
    assert_eq!(listening[2].local_address().port(), 3);
    assert!(world.client("10.0.0.1:3").is_err(), "the key is missing");
    let keyed = world.client(Target::new("10.0.0.1:3").key(key)).unwrap();
    keyed.close();
    let plain = Target::new("10.0.0.1:2").framing(Framing::Length(length)).without_hello();
    world.client(plain).unwrap().close();
    listening.iter().for_each(posthouse::ListenerHandle::stop);
    let stopped = world.run_until(PATIENCE, || (server.addresses().len() == 1).then_some(()));
    assert!(stopped.is_some());

    let seen = log.clone();
    let timer = log.clone();
    server
        .after(Duration::from_millis(1), move |endpoint| {
            assert!(endpoint.now() > Duration::ZERO);
            assert_eq!(endpoint.wait(), Err(WouldDeadlock));
            seen.add("after");
        })
        .unwrap();
    let mut rounds = 0;
    server
        .every(Duration::from_millis(1), move |_| {
            rounds += 1;
            timer.add(format!("every {rounds}"));
            if rounds < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
    log.wait(world, "after");
    log.wait(world, "every 3");
    let failing = server.connect("10.0.0.9:9", State::default()).unwrap();
    log.wait(world, "connect_failed 10.0.0.9:9");
    assert_eq!(server.close(failing, Close::graceful()), Err(RunError::NotConnected));
    let error = "no address".parse::<Target>().unwrap_err();
    assert!(error.to_string().contains("no address"), "{error}");
}

fn ends(world: &sim::World, server: &Endpoint<Everything>, log: &Log) {
    for (word, kind) in [("parse", "Closed"), ("other", "Closed"), ("fault", "Closed")] {
        let client = world.client("10.0.0.1:9990").unwrap();
        client.send(40, word.as_bytes()).unwrap();
        let end = client.receive(PATIENCE).unwrap_err();
        assert!(matches!(end, ClientError::Disconnected(_)), "{end}");
        log.wait(world, &format!("disconnected {kind}"));
    }
    let client = world.client("10.0.0.1:9990").unwrap();
    client.send(40, b"close").unwrap();
    let Err(ClientError::Disconnected(reason)) = client.receive(PATIENCE) else {
        panic!("the connection ended")
    };
    assert_eq!((reason.code(), reason.text()), (Some(1001), Some("as you like")));
    assert_eq!(reason.retry_after(), Some(PATIENCE));
    let client = world.client("10.0.0.1:9990").unwrap();
    client.send(40, b"abort").unwrap();
    assert!(client.receive(PATIENCE).is_err());
    let stats = server.stats();
    assert!(stats.accepted >= 5 && stats.disconnected >= 5, "{stats:?}");
}
