//! `posthouse get`: files from a server.

use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};
use posthouse::{Directory, Escaped, Target};

use crate::address;
use crate::advice;
use crate::courier::{
    self, Account, CarryFlags, Courier, End, LineFlags, Listing, Manifest, Next, Parcel, Screen,
    Way,
};
use crate::failure::{Failure, Outcome};

/// Get files from a server with a directory.
///
/// A file arrives under the name that `posthouse list` shows, in the current directory or in the
/// one that -o names; directories in the name are made. The name of a directory there gets all
/// that is in it.
///
/// A file is there whole and verified, or not at all. One that is there already is left as it is:
/// with the same content that counts as done, with another it is an error. What broke off goes on
/// where it was, after a lost connection as with the same command given again.
///
/// The exit code is 0 only if every file is there and verified; 1 if any failed, each with its
/// reason on stderr; 2 for wrong usage; 130 for an interruption.
#[derive(Debug, Args)]
#[command(override_usage = "posthouse get [OPTIONS] <ADDR> <NAME...|--all>")]
#[command(group = ArgGroup::new("what").args(["names", "all"]).required(true))]
#[command(after_long_help = "\
Examples:
  posthouse get 10.0.0.7:9990 report.pdf
  posthouse get 10.0.0.7:9990 report.pdf -o /tmp/today.pdf
  posthouse get 10.0.0.7:9990 build                     everything in build
  posthouse get 10.0.0.7:9990 --all -o copy --key-file secret.key")]
pub(crate) struct Get {
    /// The server, HOST:PORT
    #[arg(value_name = "ADDR", value_parser = address::target)]
    target: Target,
    /// Names of files, or of directories
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Get everything that the server has
    #[arg(long)]
    all: bool,
    /// Where to put them: a directory that is there, or, with one NAME that is a file, its path
    #[arg(long, short, value_name = "PATH", default_value = ".", hide_default_value = true)]
    output: PathBuf,
    #[command(flatten)]
    line: LineFlags,
    #[command(flatten)]
    carry: CarryFlags,
}

/// Where files go.
struct Place {
    directory: Directory,
    path: PathBuf,
    /// Under what name the one file is kept, where it is not its own.
    kept_as: Option<String>,
}

/// What is to be got.
struct Wishes {
    directory: Directory,
    /// The names, there and, where it is another, here.
    names: std::vec::IntoIter<(Box<str>, Option<String>)>,
}

impl Get {
    pub(crate) fn run(&self) -> Outcome {
        let mut screen = Screen::new(self.carry.quiet);
        let style = courier::style(self.carry.quiet, self.carry.json, &screen);
        let mut account = Account::new(Way::Get, style);
        let place = self.place()?;
        let patience = self.carry.patience();
        let mut courier = Courier::start(&self.target, &self.line, patience)?;
        let names = self.wishes(&mut courier, &mut account, &screen, &place)?;
        let mut wishes = Wishes { directory: place.directory, names: names.into_iter() };
        let (end, left) = match wishes.left() {
            0 => (End::Done, 0),
            _ => courier.carry(&mut wishes, &mut account, &mut screen, Duration::ZERO),
        };
        let closed = account.close(&mut screen, &end, left);
        let ended = courier.end();
        // Goes only where it is empty: nothing of an unfinished file is left in it then.
        let _ = std::fs::remove_dir(place.path.join(posthouse::PARTS_DIRECTORY));
        ended.and(closed)
    }

    /// Everything to get, by its name.
    fn wishes(
        &self,
        courier: &mut Courier,
        account: &mut Account,
        screen: &Screen,
        place: &Place,
    ) -> Outcome<Vec<(Box<str>, Option<String>)>> {
        let mut names = Vec::new();
        if self.all {
            let listed = courier.list(screen, "", |entry| {
                account.expect(entry.size);
                names.push((entry.name, None));
                Ok(())
            })?;
            return match listed {
                Listing::Whole => Ok(names),
                Listing::Refused(why) => Err(Failure::runtime(why)),
            };
        }
        for name in &self.names {
            let name = name.replace(MAIN_SEPARATOR, "/");
            let name = name.trim_end_matches('/');
            let before = names.len();
            // Where the server does not say what it has, the name is taken for a file's.
            courier.list(screen, &format!("{name}/"), |entry| {
                account.expect(entry.size);
                names.push((entry.name, None));
                Ok(())
            })?;
            if names.len() == before {
                // No directory: a file, or nothing, which is told when it is asked for.
                account.expect(0);
                names.push((name.into(), place.kept_as.clone()));
            } else if place.kept_as.is_some() {
                return Err(Failure::usage(format!(
                    "{} is a directory there, and {} is none here: make it, with mkdir",
                    Escaped(name),
                    Escaped(self.output.as_path())
                )));
            }
        }
        Ok(names)
    }

    fn place(&self) -> Outcome<Place> {
        let path = &self.output;
        let shown = Escaped(path.as_path());
        if path.is_dir() {
            let directory = open(path)?;
            return Ok(Place { directory, path: path.clone(), kept_as: None });
        }
        let named = path.file_name().filter(|_| !ends_with_separator(path));
        let (Some(name), [_]) = (named, &self.names[..]) else {
            return Err(Failure::usage(format!(
                "-o {shown}: there is no such directory; make it: {}",
                advice::make_directory(shown)
            )));
        };
        let Some(name) = name.to_str() else {
            return Err(Failure::usage(format!("-o {shown}: the name is not UTF-8")));
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let (directory, path) = (open(parent)?, parent.to_owned());
        Ok(Place { directory, path, kept_as: Some(name.to_owned()) })
    }
}

fn open(path: &Path) -> Outcome<Directory> {
    Directory::open(path).map_err(|error| Failure::usage(format!("-o: {error}")))
}

fn ends_with_separator(path: &Path) -> bool {
    let last = path.as_os_str().as_encoded_bytes().last();
    last.is_some_and(|byte| std::path::is_separator(char::from(*byte)))
}

impl Manifest for Wishes {
    fn next(&mut self, _: Instant) -> Next {
        let Some((name, kept_as)) = self.names.next() else { return Next::End };
        let path = kept_as.map_or_else(|| name.clone(), Into::into);
        Next::Parcel(Parcel { directory: self.directory.clone(), path, name })
    }

    fn left(&self) -> usize {
        self.names.len()
    }
}
