//! Checks that the README's tokio program is the one that compiles here.

#[test]
fn the_chat_room_of_the_readme_is_the_example() {
    let readme = include_str!("../../README.md");
    let example = include_str!("../examples/tokio_chat.rs");
    let shown = readme.split("```rust,ignore\n").nth(1).and_then(|rest| rest.split("```").next());
    let shown = shown.expect("the README has one program that its doc tests do not compile");
    assert!(example.ends_with(shown), "bench/examples/tokio_chat.rs and the README differ");
    assert_eq!(readme.matches("rust,ignore").count(), 1, "every other block is a doc test");
}
