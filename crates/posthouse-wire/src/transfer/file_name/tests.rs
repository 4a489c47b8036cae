use proptest::prelude::*;

use super::*;

/// Returns the fault of an invalid name, and the component that has it.
fn fault(name: &str) -> (NameFault, String) {
    let error = FileName::parse(name).expect_err(name);
    assert_eq!(FileName::from_wire(name.as_bytes()), Err(error.clone()));
    (error.fault, error.of.into())
}

#[test]
fn ordinary_names_are_taken_as_they_are() {
    let longest = "a".repeat(MAX_COMPONENT_BYTES);
    let deepest = vec!["d"; MAX_COMPONENTS].join("/");
    let whole = format!("{}{}", format!("{}/", "p".repeat(127)).repeat(7), "p".repeat(128));
    assert_eq!(whole.len(), MAX_FILE_NAME_BYTES);
    for name in [
        "a",
        "a.b",
        ".hidden",
        "...a",
        "dir/.hidden/c",
        "größe/日本.txt",
        "❤\u{fe0f}",
        "a b",
        "a~1",
        "po~",
        "po~1a",
        "posthouse",
        "post~1000",
        "console",
        "conin",
        "COM",
        "COM10",
        "COM1st",
        "comb.txt",
        "com\u{2074}",
        "x.posthouse",
        ".posthouse2",
        ".posthouse.txt",
        "a/.posthouse",
        "a/POSTHO~1",
        "-rf",
        "~",
        "#",
        "a'b",
        &longest,
        &deepest,
        &whole,
    ] {
        assert_eq!(FileName::parse(name).expect(name).as_str(), name);
        assert_eq!(FileName::from_wire(name.as_bytes()).expect(name).to_string(), name);
    }
}

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    for (name, expected, of) in [
        ("", NameFault::Empty, ""),
        ("/", NameFault::Absolute, "/"),
        ("/a", NameFault::Absolute, "/a"),
        ("//host/a", NameFault::Absolute, "//host/a"),
        ("a/", NameFault::EmptyComponent, "a/"),
        ("a//b", NameFault::EmptyComponent, "a//b"),
        (".", NameFault::Dots, "."),
        ("..", NameFault::Dots, ".."),
        ("../a", NameFault::Dots, ".."),
        ("a/..", NameFault::Dots, ".."),
        ("a/./b", NameFault::Dots, "."),
        ("...", NameFault::Edge, "..."),
        ("C:", NameFault::Character(':'), "C:"),
        ("C:/a", NameFault::Character(':'), "C:"),
        ("d/file:stream", NameFault::Character(':'), "file:stream"),
        ("a\\b", NameFault::Character('\\'), "a\\b"),
        ("\\\\host\\share", NameFault::Character('\\'), "\\\\host\\share"),
    ] {
        assert_eq!(fault(name), (expected, of.to_owned()), "{name:?}");
    }
    let many = vec!["d"; MAX_COMPONENTS + 1].join("/");
    assert_eq!(fault(&many).0, NameFault::TooManyComponents);
    let long = format!("d/{}", "a".repeat(MAX_COMPONENT_BYTES + 1));
    assert_eq!(fault(&long).0, NameFault::ComponentTooLong);
    // The limit counts bytes, not characters.
    assert_eq!(fault(&"ä".repeat(128)).0, NameFault::ComponentTooLong);
    let long = format!("{}a", "dir/".repeat(256));
    assert_eq!(fault(&long).0, NameFault::TooLong);
}

#[test]
fn every_character_that_deceives_or_means_something_is_refused_everywhere_in_a_name() {
    let ranges = [
        '\0'..='\u{1f}',
        '\u{7f}'..='\u{9f}',
        '\u{61c}'..='\u{61c}',
        '\u{200b}'..='\u{200f}',
        '\u{2028}'..='\u{202e}',
        '\u{2060}'..='\u{206f}',
        '\u{feff}'..='\u{feff}',
    ];
    for c in ranges.into_iter().flatten().chain("<>:\"|?*\\".chars()) {
        for component in [format!("{c}ab"), format!("a{c}b"), format!("ab{c}")] {
            let name = format!("d/{component}/e");
            assert_eq!(fault(&name), (NameFault::Character(c), component), "{name:?}");
        }
    }
}

#[test]
fn what_windows_would_strip_or_take_for_a_device_is_refused() {
    for component in ["a.", "a ", "a. ", " a", ".a.", "a .", "..."] {
        assert_eq!(fault(&format!("d/{component}")), (NameFault::Edge, component.to_owned()));
    }
    let numbered = ["COM", "LPT"].into_iter().flat_map(|name| {
        let numbers = ('0'..='9').chain("¹²³".chars());
        numbers.map(move |number| format!("{name}{number}"))
    });
    let named = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].map(str::to_owned);
    for device in numbered.chain(named) {
        let mixed = device[..1].to_lowercase() + &device[1..];
        for component in [
            device.clone(),
            device.to_lowercase(),
            mixed,
            format!("{device}.txt"),
            format!("{device}.tar.gz"),
            format!("{device} .txt"),
            format!("{device}  ..x"),
        ] {
            assert_eq!(fault(&format!("d/{component}")), (NameFault::Device, component.clone()));
            assert_eq!(fault(&format!("{component}/d")).0, NameFault::Device);
        }
    }
}

#[test]
fn nobody_names_the_place_of_unfinished_files_however_it_is_written() {
    for first in [
        ".posthouse",
        ".Posthouse",
        ".POSTHOUSE",
        ".poſthouSe",
        ".post\u{ad}house",
        "\u{fe0f}.posthouse",
        ".posthouse\u{e0020}",
        "POSTHO~1",
        "postho~2",
        "PosTh~10",
        "po1a2b~9",
        "PO~1",
    ] {
        assert_eq!(fault(first).0, NameFault::Reserved, "{first:?}");
        assert_eq!(fault(&format!("{first}/a")), (NameFault::Reserved, first.to_owned()));
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_and_long_ones_before_they_are_read() {
    for bytes in [&b"a\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"a/\xe2\x80"] {
        assert_eq!(FileName::from_wire(bytes).unwrap_err().fault, NameFault::NotUtf8);
    }
    let error = FileName::from_wire(&vec![0xff; 1 << 20]).unwrap_err();
    assert_eq!(error.fault, NameFault::TooLong);
    assert!(error.of.len() <= 4 * (MAX_SHOWN_CHARS + 1));
}

#[test]
fn an_error_names_the_part_and_cannot_forge_a_line() {
    let text = |name: &str| FileName::parse(name).unwrap_err().to_string();
    let expected = "the file name component \"nul.txt\" is the name of a device on Windows; \
                    rename the file";
    assert_eq!(text("dir/nul.txt"), expected);
    assert_eq!(text("/a"), "the file name \"/a\" begins with /; use a relative name");
    let expected = "the file name component \"b\\u{202e}\\n\\u{1b}[2J\\\"\" contains the \
                    character '\\u{202e}', which is not allowed; rename the file";
    assert_eq!(text("a/b\u{202e}\n\u{1b}[2J\""), expected);
    for c in '\0'..='\u{ffff}' {
        let text = text(&format!("a{c}b?"));
        let hides = |c| is_forbidden(c) || is_default_ignorable(c);
        let plain = |c: char| c.is_ascii_graphic() || c == ' ' || !hides(c);
        assert!(text.chars().all(plain), "{c:?} in {text:?}");
    }
    assert!(text(&"x".repeat(300)).contains(&format!("{}\"...", "x".repeat(MAX_SHOWN_CHARS))));
    assert!(text(&"\u{e0001}".repeat(300)).len() < 20 * MAX_SHOWN_CHARS);
}

/// Generates text that comes close to every rule more often than random bytes would.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "a",
        "b",
        ".",
        "..",
        "/",
        " ",
        ":",
        "\\",
        "?",
        "\n",
        "\0",
        "\u{202e}",
        "\u{feff}",
        "\u{85}",
        "con",
        "NUL",
        "com",
        "1",
        "³",
        "$",
        ".posthouse",
        "ſ",
        "\u{ad}",
        "po",
        "~1",
    ];
    prop_oneof![
        8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => (1_usize..300).prop_map(|len| "x".repeat(len)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Checks the rules again, with another implementation.
    #[test]
    fn what_is_taken_has_nothing_in_it_that_is_forbidden(
        pieces in prop::collection::vec(piece(), 0..10),
    ) {
        let name = pieces.concat();
        let Ok(taken) = FileName::from_wire(name.as_bytes()) else { return Ok(()) };
        prop_assert_eq!(taken.as_str(), &name);
        prop_assert!((1..=1024).contains(&name.len()));
        let forbidden = "<>:\"|?*\\\u{61c}\u{200e}\u{200f}\u{2066}\u{2069}\u{feff}\u{2028}";
        for c in name.chars() {
            prop_assert!(!forbidden.contains(c) && u32::from(c) >= 0x20);
            prop_assert!(!(0x7f..0xa0).contains(&u32::from(c)));
            prop_assert!(!(0x202a..=0x202e).contains(&u32::from(c)));
        }
        let components: Vec<&str> = name.split('/').collect();
        prop_assert!(components.len() <= 32);
        for component in &components {
            prop_assert!((1..=255).contains(&component.len()));
            prop_assert!(!component.starts_with(' ') && !component.ends_with([' ', '.']));
            let lower = component.to_lowercase();
            let stem = lower.split('.').next().unwrap().trim_end();
            prop_assert!(!["con", "nul", "com1", "com³"].contains(&stem));
        }
        let first = components[0].to_lowercase().replace('ſ', "s").replace('\u{ad}', "");
        prop_assert!(first != ".posthouse" && first != "po~1");
    }

    #[test]
    fn no_bytes_make_it_panic_and_no_error_is_more_than_a_line(
        bytes in prop::collection::vec(any::<u8>(), 0..1100),
    ) {
        if let Err(error) = FileName::from_wire(&bytes) {
            let text = error.to_string();
            let one_line = !text.contains(|c: char| c.is_control());
            prop_assert!(one_line && text.len() < 2000);
        }
    }
}
