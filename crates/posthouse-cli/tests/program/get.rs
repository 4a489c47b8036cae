//! `posthouse get`.

use std::collections::BTreeMap;
use std::fs;

use super::file_server::{FileServerFixture, files, make_tree};
use super::harness::MKDIR;

#[test]
fn a_tree_and_a_file_arrive_and_come_back_as_they_were() {
    let fixture = FileServerFixture::new(&[]);
    make_tree(&fixture.here, "tree");
    fixture.here.write("one.bin", vec![7; 3_000_000]);
    let sent = fixture.send(&["tree", "one.bin"]).expect(0);
    assert_eq!((sent.stdout.lines().count(), sent.stderr.as_str()), (61, ""), "{sent:#?}");
    let mut expected = BTreeMap::from([("one.bin".to_owned(), vec![7; 3_000_000])]);
    let tree = files(&fixture.here.join("tree"));
    expected.extend(tree.iter().map(|(name, bytes)| (format!("tree/{name}"), bytes.clone())));
    assert!(fixture.inbox() == expected, "{:?}", fixture.names());

    fs::create_dir(fixture.here.join("back")).unwrap();
    let got = fixture.get(&["--all", "-o", "back"]).expect(0);
    assert_eq!((got.stdout.lines().count(), got.stderr.as_str()), (61, ""), "{got:#?}");
    assert!(files(&fixture.here.join("back")) == expected);
    assert!(!fixture.here.join("back/.posthouse").exists(), "files of the transfer are left");

    let time = |name: &str| fs::metadata(fixture.here.join(name)).unwrap().modified().unwrap();
    let ms = |name| time(name).duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert_eq!(ms("one.bin"), ms("inbox/one.bin"));
    assert_eq!(ms("one.bin"), ms("back/one.bin"));
}

#[test]
fn what_is_got_goes_where_it_is_told_to() {
    let fixture = FileServerFixture::new(&[]);
    fixture.here.write("inbox/d/a", "a");
    fixture.here.write("inbox/d/e/b", "b");
    fixture.here.write("inbox/d.txt", "t");
    fs::create_dir(fixture.here.join("to")).unwrap();
    let got = |top: &str| files(&fixture.here.join(top)).into_keys().collect::<Vec<_>>();
    fixture.get(&["d", "-o", "to"]).expect(0);
    assert_eq!(got("to"), ["d/a", "d/e/b"], "a name was taken by its prefix");
    fixture.get(&["d/e/", "d.txt", "-o", "to/"]).expect(0);
    assert_eq!(got("to"), ["d.txt", "d/a", "d/e/b"]);
    let kept = fixture.get(&["d.txt", "-o", "to/kept"]).expect(0);
    assert!(kept.stdout.starts_with("received d.txt (1 B)"), "{kept:#?}");
    let again = fixture.get(&["d.txt", "-o", "to/kept"]).expect(0);
    assert!(again.stdout.contains("was already there"), "{again:#?}");
    assert_eq!(fs::read(fixture.here.join("to/kept")).unwrap(), b"t");
    let other = fixture.get(&["d/a", "-o", "to/kept"]).expect(1);
    assert!(other.stderr.contains("not received: d/a: a file of that name exists"), "{other:#?}");
    assert_eq!(fs::read(fixture.here.join("to/kept")).unwrap(), b"t", "nothing is replaced");

    let none = fixture.get(&["nothing", "-o", "to"]).expect(1);
    assert!(none.stderr.starts_with("not received: nothing: the peer reports: no such file"));
    fixture
        .get(&["d", "-o", "to/new"])
        .expect(2)
        .expect_stderr(&["d is a directory on the server", &format!("{MKDIR} to/new")]);
    fixture
        .get(&["d/a", "d.txt", "-o", "to/new"])
        .expect(2)
        .expect_stderr(&["-o to/new", &format!("{MKDIR} to/new")]);
    fixture
        .get(&["d/a", "-o", "no/such"])
        .expect(2)
        .expect_stderr(&["no", "cannot open the directory"]);
    fixture.get(&["d/a", "-o", "new/"]).expect(2).expect_stderr(&[&format!("{MKDIR} new/")]);
    let all = fixture.get(&["--all", "d"]).expect(2);
    assert!(all.stderr.contains("cannot be used with"), "{all:#?}");
    let nothing = fixture.get(&[]).expect(2);
    assert!(nothing.stderr.contains("\n  <NAME|--all>\n"), "{nothing:#?}");
    assert!(nothing.stderr.contains("[OPTIONS] <ADDR> <NAME...|--all>\n"), "{nothing:#?}");
    assert_eq!(got("to"), ["d.txt", "d/a", "d/e/b", "kept"]);
}
