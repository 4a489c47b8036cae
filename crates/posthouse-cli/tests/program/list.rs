//! `posthouse list`.

use std::fs;

use super::file_server::FileServerFixture;

#[test]
fn a_list_has_a_line_for_each_file_in_order_over_many_pages() {
    let fixture = FileServerFixture::new(&[]);
    let inbox = fixture.here.join("inbox");
    // More files than one page of the protocol can hold.
    for number in 0..1500 {
        fs::write(inbox.join(format!("{number:04}")), "").unwrap();
    }
    let path = fixture.here.write("inbox/build/a.txt", "12345");
    fixture.here.write("inbox/build.log", "");
    fixture.here.write("inbox/.posthouse/part", "is no file yet");
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(951_782_400, 123_456_700);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();

    let listed = fixture.list(&[]).expect(0);
    assert_eq!((listed.stdout.lines().count(), listed.stderr.as_str()), (1502, ""));
    let names: Vec<&str> =
        listed.stdout.lines().filter_map(|line| line.split("  ").last()).collect();
    assert!(names.is_sorted() && names[0] == "0000" && names[1501] == "build/a.txt", "{names:?}");
    let build = fixture.list(&["build/"]).expect(0);
    assert_eq!(build.stdout, "           5  2000-02-29T00:00:00Z  build/a.txt\n");
    assert_eq!(fixture.list(&["build"]).expect(0).stdout.lines().count(), 2);
    assert_eq!(fixture.list(&["build.log"]).expect(0).stdout.lines().count(), 1);
    assert_eq!(fixture.list(&["c"]).expect(0).stdout, "");
    let json = &fixture.list(&["build/", "--json"]).expect(0).json_lines()[0];
    assert_eq!((&json["name"], &json["bytes"]), (&"build/a.txt".into(), &5.into()));
    assert_eq!(json["modified"], "2000-02-29T00:00:00Z");
    assert_eq!(json["modified_ns"], 951_782_400_123_456_700_i64);
}
