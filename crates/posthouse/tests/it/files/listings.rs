//! Listings from peers that lie.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use posthouse::{Client, ClientError, FileList, TransferError, TransferErrorKind};

use super::file_handler::FileHandler;
use super::frames::{LIST, LISTED, greet, greeting, numbered};
use crate::harness::in_simulation;
use crate::raw::frame;

/// Returns the payload of a list of files and directories. A `/` at the end of a name marks a
/// directory. The payload has the name without the `/`.
fn listed(id: u32, more: bool, names: &[&[u8]]) -> Vec<u8> {
    let mut page = numbered(id, &[u8::from(more)]);
    for name in names {
        let is_directory = name.ends_with(b"/");
        let name = name.strip_suffix(b"/").unwrap_or(name);
        page.extend_from_slice(&0_u64.to_le_bytes());
        page.extend_from_slice(&0_i64.to_le_bytes());
        page.extend_from_slice(&[0xff, 0xff, 2 * u8::from(is_directory)]);
        page.extend_from_slice(&(name.len() as u16).to_le_bytes());
        page.extend_from_slice(name);
    }
    page
}

/// Requests the names after `m` from a raw peer that sends this answer. Returns the resulting list.
fn answered(more: bool, names: &[&[u8]]) -> Result<FileList, TransferError> {
    let kept = Arc::new(Mutex::new(None));
    in_simulation(|harness| {
        *kept.lock().unwrap() = None;
        let slot = kept.clone();
        let server = harness.serve(FileHandler::new().on_received(move |peer| {
            let slot = slot.clone();
            peer.list_files("m", move |_, list| {
                *slot.lock().unwrap() = Some(list);
                Ok(())
            });
            Ok(())
        }));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(0, b"list them");
        let (kind, request) = harness.read_frame(&mut raw);
        assert_eq!(kind, LIST);
        let id = u32::from_le_bytes(request[..4].try_into().unwrap());
        raw.send_frame(LISTED, &listed(id, more, names));
        harness.wait_for("the list", || kept.lock().unwrap().is_some());
        harness.end(&server);
    });
    kept.lock().unwrap().take().expect("the list has arrived")
}

#[test]
fn a_page_tells_what_is_left_out_and_where_it_continues() {
    let page = |more, names: &[&[u8]]| {
        let list = answered(more, names).expect("the list is valid");
        let files: Vec<String> = list.files.iter().map(|file| file.name.to_string()).collect();
        (files, list.invalid_names, list.next.map(String::from))
    };
    let none = || (Vec::<String>::new(), Vec::<Box<[u8]>>::new());
    assert_eq!(page(false, &[]), (none().0, none().1, None));
    assert_eq!(page(false, &[b"n", b"o"]), (vec!["n".into(), "o".into()], none().1, None));
    assert_eq!(page(true, &[b"n/"]), (none().0, none().1, Some("n".into())));
    let invalid: [&[u8]; 2] = [b"n\n", b"n\xff"];
    let names = invalid.map(Box::from).to_vec();
    assert_eq!(page(true, &[b"n\n", b"n\xff", b"o"]), {
        (vec!["o".into()], names.clone(), Some("o".into()))
    });
    assert_eq!(page(true, &[b"n\n"]), (none().0, names[..1].to_vec(), Some("n\n".into())));
    assert_eq!(page(false, &invalid), (none().0, names, None));
}

#[test]
fn a_list_that_might_never_end_is_an_error() {
    let error = |more, names: &[&[u8]]| {
        let error = answered(more, names).expect_err("the list is invalid");
        assert_eq!(error.kind(), TransferErrorKind::Protocol, "{error}");
        error.to_string()
    };
    let wrong: [&[&[u8]]; 5] = [&[b"m"], &[b"a"], &[b"n", b"n"], &[b"o", b"n"], &[b"n\n", b"n\n"]];
    for names in wrong {
        assert!(error(false, names).contains("do not ascend"), "{names:?}");
    }
    assert!(error(true, &[b"n", b"o\xff"]).contains("cannot be continued"));
}

/// Accepts one connection, and answers its list requests with these pages.
fn lister(listener: &TcpListener, pages: &[Page]) {
    let (mut tcp, _) = listener.accept().expect("a client connects");
    let read = |mut tcp: &TcpStream| {
        let mut head = [0; 5];
        tcp.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_le_bytes(head[..4].try_into().unwrap()) as usize - 1];
        tcp.read_exact(&mut payload).ok()?;
        Some((head[4], payload))
    };
    read(&tcp).expect("the client sends a hello");
    let mut hello = greeting(1 << 20);
    // This hello is an answer. The flag for that follows the random bytes.
    hello[5 + 8 + 2 + 4 + 4 + 4 + 16] = 0x80;
    tcp.write_all(&hello).expect("the client reads");
    let mut pages = pages.iter();
    while let Some((kind, payload)) = read(&tcp) {
        if kind == LIST {
            let id = u32::from_le_bytes(payload[..4].try_into().unwrap());
            let (more, names) =
                pages.next().expect("the client requests no more pages than there are");
            let page = listed(id, *more, names);
            tcp.write_all(&frame(LISTED, &page)).expect("the client reads");
        }
    }
}

/// A page of a list: whether other pages follow, and the names.
type Page = (bool, &'static [&'static [u8]]);

/// Returns the list that a blocking client gets from these pages.
fn client_list(pages: &'static [Page]) -> Result<FileList, ClientError> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("the socket is bound");
    let server = std::thread::spawn(move || lister(&listener, pages));
    let client = Client::connect(&*address.to_string()).expect("the client connects");
    let listed = client.list();
    client.close();
    server.join().expect("the server did not panic");
    listed
}

#[test]
fn a_client_gets_the_whole_list_or_an_error() {
    const WHOLE: &[Page] = &[(true, &[b"a\n", b"b/"]), (true, &[b"c"]), (false, &[b"d"])];
    const AGAIN: &[Page] = &[(true, &[b"a"]), (true, &[b"a"])];
    const BACK: &[Page] = &[(true, &[b"b"]), (true, &[b"a"])];
    let whole = client_list(WHOLE).expect("the list is valid");
    assert!(whole.files.iter().map(|file| &*file.name).eq(["c", "d"]), "{whole:?}");
    assert_eq!((whole.invalid_names.len(), whole.next), (1, None));
    for pages in [AGAIN, BACK] {
        let error = client_list(pages).expect_err("the list is invalid");
        assert!(matches!(error, ClientError::Transfer(_)), "{error}");
    }
}
