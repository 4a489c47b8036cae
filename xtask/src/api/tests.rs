//! The listing of small crates, as the rustdoc of this toolchain describes them.

use std::path::Path;

use tempfile::TempDir;

use super::*;

/// A directory for one test, removed when the test ends.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Documents a crate and compiles it for the next, which may use the `uses`.
    fn describe(&self, crates: &mut Crates, name: &str, text: &str, uses: &[&str]) {
        let source = self.0.path().join(format!("{name}.rs"));
        fs::write(&source, text).unwrap();
        let mut rustc = self.tool("rustc", name, &source, uses);
        rustc.args(["--crate-type", "lib", "--emit", "metadata", "--out-dir"]).arg(self.0.path());
        workspace::succeed(&mut rustc).unwrap();
        let mut rustdoc = self.tool("rustdoc", name, &source, uses);
        rustdoc.env("RUSTC_BOOTSTRAP", "1").args(["-Zunstable-options", "--output-format", "json"]);
        workspace::succeed(rustdoc.arg("--out-dir").arg(self.0.path())).unwrap();
        let json = fs::read_to_string(self.0.path().join(format!("{name}.json"))).unwrap();
        crates.add(name, serde_json::from_str(&json).unwrap());
    }

    fn tool(&self, tool: &str, name: &str, source: &Path, uses: &[&str]) -> Command {
        let mut command = Command::new(tool);
        command.args(["--edition", "2024", "--cap-lints", "allow", "--crate-name", name]);
        for used in uses {
            let metadata = self.0.path().join(format!("lib{used}.rmeta"));
            command.arg("--extern").arg(format!("{used}={}", metadata.display()));
        }
        command.arg(source);
        command
    }
}

fn listed(name: &str, text: &str) -> String {
    let directory = Directory::new();
    let mut crates = Crates::default();
    directory.describe(&mut crates, name, text, &[]);
    crates.list(name).unwrap().join("\n")
}

/// Without what every type has: `Send` and `Sync` are told, and tested once.
fn without_thread_safety(listing: &str) -> Vec<&str> {
    let told = |line: &&str| !line.contains(" Send for ") && !line.contains(" Sync for ");
    listing.lines().filter(told).collect()
}

#[test]
fn a_difference_shows_what_went_and_what_came() {
    assert_eq!(difference("a\nb\n", "b\nc\n"), "- a\n+ c\n");
    assert_eq!(difference("a\n", "a\n"), "");
}

#[test]
fn data_types_are_listed_with_what_is_public_of_them() {
    let listing = listed(
        "data",
        "#[derive(Clone, PartialEq)] #[non_exhaustive]
         pub struct Options { pub idle_ms_max: u64, own: u8 }
         pub struct Token(pub u32, u16);
         pub struct Unit;
         #[must_use] pub enum Reason { Ended, Failed(u8, String), Late { after: u64 } }
         #[repr(u8)] pub enum Kind { Ping = 7 }
         struct Hidden;
         pub type Outcome<T = ()> = Result<T, Reason>;
         pub const LIMIT: u32 = 1 << 4;",
    );
    assert_eq!(
        without_thread_safety(&listing),
        [
            "enum data::Kind",
            "variant data::Kind::Ping = 7",
            "const data::LIMIT: u32 = 16u32",
            "#[non_exhaustive] struct data::Options",
            "impl Clone for data::Options",
            "impl PartialEq for data::Options",
            "field data::Options::idle_ms_max: u64",
            "type data::Outcome<T = ()> = Result<T, Reason>",
            "#[must_use] enum data::Reason",
            "variant data::Reason::Ended",
            "variant data::Reason::Failed(u8, String)",
            "variant data::Reason::Late { after: u64 }",
            "struct data::Token(u32, _)",
            "struct data::Unit",
        ]
    );
}

#[test]
fn functions_are_listed_with_their_whole_signature() {
    let listing = listed(
        "calls",
        "use std::fmt; pub struct Peer<'a, T: Clone, const N: usize>(&'a [T; N]);
         impl<'a, T: Clone, const N: usize> Peer<'a, T, N> {
             pub const fn get(&self) -> Option<&'a T> { None }
             pub fn set(&mut self, f: impl FnOnce(&u8) -> T + 'static) -> fmt::Result { loop {} }
             pub async fn end(self, p: *const u8, d: &mut (dyn Fn(u8) -> bool + Send)) {}
             fn secret(&self) {}
         }
         pub fn each<I>(items: I, f: fn(u8) -> u8) -> impl Iterator<Item = I::Item> + use<I>
         where I: Iterator, for<'x> I::Item: PartialEq<&'x str> { items }
         pub fn never<B: ?Sized>(b: Box<[(u8,)]>) -> ! { loop {} }",
    );
    assert_eq!(
        without_thread_safety(&listing),
        [
            "struct calls::Peer<'a, T: Clone, const N: usize>(_)",
            "async fn calls::Peer::end(self, p: *const u8, d: &mut (dyn Fn(u8) -> bool + Send))",
            "const fn calls::Peer::get(&self) -> Option<&'a T>",
            "fn calls::Peer::set(&mut self, f: impl FnOnce(&u8) -> T + 'static) -> fmt::Result",
            "fn calls::each<I>(items: I, f: fn(u8) -> u8) -> \
             impl Iterator<Item = I::Item> + use<I> \
             where I: Iterator, for<'x> I::Item: PartialEq<&'x str>",
            "fn calls::never<B: ?Sized>(b: Box<[(u8,)]>) -> !",
        ]
    );
}

#[test]
fn traits_tell_what_must_and_what_may_be_written() {
    let listing = listed(
        "traits",
        "pub trait Handler: Send + 'static {
             type State: Default;
             const KIND: u8 = 3;
             fn received(&self, state: &mut Self::State);
             fn connected(&self) {}
         }
         pub struct Ids(std::rc::Rc<u8>);
         impl Iterator for Ids { type Item = u8; fn next(&mut self) -> Option<u8> { None } }
         impl<T: Clone> From<Vec<T>> for Ids { fn from(_: Vec<T>) -> Self { loop {} } }",
    );
    assert_eq!(
        listing.lines().collect::<Vec<_>>(),
        [
            "trait traits::Handler: Send + 'static",
            "associated const traits::Handler::KIND: u8 = 3",
            "associated type traits::Handler::State: Default",
            "fn traits::Handler::connected(&self) { .. }",
            "fn traits::Handler::received(&self, state: &mut Self::State)",
            "struct traits::Ids(_)",
            "impl !Send for traits::Ids",
            "impl !Sync for traits::Ids",
            "impl Iterator for traits::Ids",
            "impl Iterator for traits::Ids { type Item = u8 }",
            "impl<T: Clone> From<Vec<T>> for traits::Ids",
        ]
    );
}

#[test]
fn what_is_shown_from_elsewhere_is_listed_where_users_find_it() {
    let directory = Directory::new();
    let mut crates = Crates::default();
    let wire = "mod frame { pub struct Frame { pub length: u32 } } pub use frame::Frame;
                pub mod kinds { pub const PING: u8 = 1; }";
    directory.describe(&mut crates, "wire", wire, &[]);
    let shown = "pub use wire::Frame as Message; pub use wire::kinds::*;
                 pub use std::time::Duration;
                 mod inner { pub struct Peer; pub(crate) struct Own; } pub use inner::*;
                 pub mod again { pub use crate::*; }";
    directory.describe(&mut crates, "shown", shown, &["wire"]);
    let listing = crates.list("shown").unwrap().join("\n");
    let expected = [
        "use shown::Duration = std::time::Duration",
        "struct shown::Message",
        "field shown::Message::length: u32",
        "const shown::PING: u8 = 1u8",
        "struct shown::Peer",
        "mod shown::again",
    ];
    assert_eq!(without_thread_safety(&listing), expected);
}

#[test]
fn a_type_that_stops_being_send_changes_its_listing() {
    let listing = |field: &str| listed("safety", &format!("pub struct Peer({field});"));
    assert!(listing("u8").contains("impl Send for safety::Peer"));
    assert!(!listing("*const u8").contains("impl Send for safety::Peer"));
}
