//! `posthouse get`: files from a server.

use std::collections::VecDeque;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};
use posthouse::{Directory, FileList, Target};

use crate::address;
use crate::failure::{CommandResult, Failure};
use crate::term::hints;
use crate::transfer_client::{
    ConnectFlags, Direction, FileClient, FileJob, InvalidNames, JobSource, ListCursor, NextJob,
    NotListed, PARTS_DIRECTORY, TransferFlags, TransferReport, parent_directory,
};
use posthouse::Escaped;

/// Get files from a server.
///
/// A file arrives under the name that `posthouse list` shows, in the current directory or in the
/// directory given by -o. Missing directories in the name are created. If NAME is a directory on
/// the server, all its files arrive.
///
/// A file appears whole and verified, or not at all. It never replaces another file: an existing
/// file with the same content counts as received, and one with other content is an error. After a
/// lost connection the transfer resumes. To resume it later, run the same command again.
///
/// The exit code is 0 if every file was received and verified, 1 if a file failed (stderr has the
/// reason), 2 for wrong usage, and 130 after an interruption.
///
/// The server's list of files is read while files arrive, at most 10000 names ahead, so the totals
/// of the progress grow with a longer list.
#[derive(Debug, Args)]
#[command(override_usage = "posthouse get [OPTIONS] <ADDR> <NAME...|--all>")]
#[command(group = ArgGroup::new("what").args(["names", "all"]).required(true))]
#[command(after_long_help = "\
Examples:
  posthouse get 10.0.0.7:9990 report.pdf
  posthouse get 10.0.0.7:9990 report.pdf -o /tmp/today.pdf
  posthouse get 10.0.0.7:9990 build                     all files in build
  posthouse get 10.0.0.7:9990 --all -o copy --key-file secret.key")]
pub(crate) struct Get {
    /// The address of the server, HOST:PORT
    #[arg(value_name = "ADDR", value_parser = address::parse_target)]
    target: Target,
    /// The names of files or directories on the server
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Get all files of the server
    #[arg(long)]
    all: bool,
    /// The directory for the files, which must exist. With one NAME that is a file, PATH can also
    /// be the path of the new file
    #[arg(long, short, value_name = "PATH", default_value = ".", hide_default_value = true)]
    output: PathBuf,
    #[command(flatten)]
    connect: ConnectFlags,
    #[command(flatten)]
    transfer: TransferFlags,
}

/// The directory for the files.
struct Destination {
    directory: Directory,
    path: PathBuf,
    /// The local name of the only file, if `--output` gives it another name.
    file_name: Option<String>,
}

/// A file to get.
struct WantedFile {
    /// The name on the server.
    name: Box<str>,
    /// The local path, if it differs from the name.
    path: Option<Box<str>>,
    /// The reason why the name could not be looked up.
    not_listed: Option<Box<NotListed>>,
}

/// The number of names waiting for their transfer at which no further page of names is requested,
/// so that a server cannot fill the memory with its list. A page has at most 1 MiB.
const MAX_WAITING_NAMES: usize = 10_000;

/// The jobs for all files to get, as far as they are known: the server's list is read while files
/// are transferred.
struct GetJobs {
    destination: Destination,
    /// The `-o` of the command line.
    output: PathBuf,
    files: VecDeque<WantedFile>,
    /// The names that are not looked up yet. The first one is being looked up.
    lookups: VecDeque<Lookup>,
    /// The invalid names that were found.
    invalid: InvalidNames,
    /// The failure that ended the only look-up, unless the report has it already.
    failure: Option<Failure>,
}

/// The look-up of the files to get in the server's list.
struct Lookup {
    cursor: ListCursor,
    /// The name on the command line: a file, or a directory. `None` means all files.
    name: Option<String>,
    /// True exactly when the list had a file, or an invalid name.
    has_found: bool,
}

impl Lookup {
    fn all() -> Self {
        Self { cursor: ListCursor::new(""), name: None, has_found: false }
    }

    fn named(name: &str) -> Self {
        let name = name.replace(MAIN_SEPARATOR, "/");
        let name = name.trim_end_matches('/');
        let cursor = ListCursor::new(&format!("{name}/"));
        Self { cursor, name: Some(name.to_owned()), has_found: false }
    }
}

impl Get {
    pub(crate) fn run(&self) -> CommandResult {
        let mut report = self.transfer.report(Direction::Get);
        let destination = self.destination()?;
        let policy = self.transfer.retry_policy();
        let terminal = report.terminal().clone();
        let mut client = FileClient::start(&self.target, &self.connect, policy, terminal)?;
        let parts = destination.path.join(PARTS_DIRECTORY);
        let mut jobs = GetJobs {
            destination,
            output: self.output.clone(),
            files: VecDeque::new(),
            lookups: match self.all {
                true => [Lookup::all()].into(),
                false => self.names.iter().map(|name| Lookup::named(name)).collect(),
            },
            invalid: InvalidNames::default(),
            failure: None,
        };
        let end = client.transfer(&mut jobs, &mut report, Duration::ZERO);
        let result = report.close(&end);
        let ended = client.shutdown();
        // This fails, as intended, if the directory still holds the part of an unfinished file.
        let _ = std::fs::remove_dir(parts);
        ended.and(result)
    }

    fn destination(&self) -> CommandResult<Destination> {
        let path = &self.output;
        let shown = Escaped(path.as_path());
        if path.is_dir() {
            let directory = open(path)?;
            return Ok(Destination { directory, path: path.clone(), file_name: None });
        }
        let named = path.file_name().filter(|_| !ends_with_separator(path));
        let (Some(name), [_]) = (named, &self.names[..]) else {
            return Err(Failure::usage(format!(
                "-o {shown}: no such directory; create it: {}",
                hints::make_directory(shown)
            )));
        };
        let Some(name) = name.to_str() else {
            return Err(Failure::usage(format!("-o {shown}: the name is not valid Unicode")));
        };
        let parent = parent_directory(path);
        let directory = open(parent)?;
        Ok(Destination { directory, path: parent.to_owned(), file_name: Some(name.to_owned()) })
    }
}

fn open(path: &Path) -> CommandResult<Directory> {
    Directory::open(path).map_err(|error| Failure::usage(format!("-o: {error}")))
}

fn ends_with_separator(path: &Path) -> bool {
    let last = path.as_os_str().as_encoded_bytes().last();
    last.is_some_and(|byte| std::path::is_separator(char::from(*byte)))
}

impl GetJobs {
    fn add(&mut self, file: WantedFile, bytes: u64, report: &mut TransferReport) {
        report.expect_file(bytes);
        self.files.push_back(file);
    }

    /// Ends the first look-up. The files that it found are still transferred, and the other names
    /// are still looked up.
    fn fail_lookup(&mut self, why: NotListed, report: &mut TransferReport) {
        if let Some(name) = self.lookups.pop_front().and_then(|lookup| lookup.name) {
            return report.failed_lookup(&name, why);
        }
        if why.may_succeed_later {
            report.add_unlisted_for_now();
        }
        self.failure = Some(Failure::runtime(why.why));
    }

    /// Ends the first look-up. A name that was not found is taken for a file.
    fn end_lookup(&mut self, not_listed: Option<NotListed>, report: &mut TransferReport) {
        if let Some(Lookup { name: Some(name), has_found: false, .. }) = self.lookups.pop_front() {
            // The name of a file, or of nothing. In the second case the request for it fails.
            let path = self.destination.file_name.as_deref().map(Box::from);
            let not_listed = not_listed.map(Box::new);
            self.add(WantedFile { name: name.into(), path, not_listed }, 0, report);
        }
    }

    fn take_page(&mut self, page: FileList, report: &mut TransferReport) {
        let Some(lookup) = self.lookups.front_mut() else { return };
        let listed = lookup.cursor.take(page);
        lookup.has_found |= !listed.files.is_empty() || !listed.invalid.is_empty();
        if let (Some(name), true) = (&lookup.name, lookup.has_found)
            && self.destination.file_name.is_some()
        {
            let output = Escaped(self.output.as_path());
            let failure = Failure::usage(format!(
                "{} is a directory on the server, but {output} is not a directory here; \
                 create it: {}",
                Escaped(&**name),
                hints::make_directory(output)
            ));
            // It is the only name.
            self.lookups.clear();
            self.failure = Some(failure);
            return;
        }
        self.invalid.add(listed.invalid);
        for entry in listed.files {
            let file = WantedFile { name: entry.name, path: None, not_listed: None };
            self.add(file, entry.size, report);
        }
        if listed.is_last {
            self.end_lookup(None, report);
        }
    }
}

impl JobSource for GetJobs {
    fn next(&mut self, _: Instant) -> NextJob {
        let Some(WantedFile { name, path, not_listed }) = self.files.pop_front() else {
            return if self.lookups.is_empty() { NextJob::End } else { NextJob::AfterPage };
        };
        let path = path.unwrap_or_else(|| name.clone());
        let directory = self.destination.directory.clone();
        NextJob::Job(FileJob { directory, path, name, not_listed })
    }

    fn remaining(&self) -> usize {
        self.files.len()
    }

    fn wanted_page(&self) -> Option<&str> {
        let lookup = self.lookups.front()?;
        (self.files.len() < MAX_WAITING_NAMES).then(|| lookup.cursor.after())
    }

    fn on_page(&mut self, page: Result<FileList, NotListed>, report: &mut TransferReport) {
        let Some(lookup) = self.lookups.front() else { return };
        let may_be_a_file = lookup.name.is_some() && !lookup.has_found;
        match page {
            Ok(page) => self.take_page(page, report),
            Err(why) if why.is_lasting && may_be_a_file => self.end_lookup(Some(why), report),
            Err(why) => self.fail_lookup(why, report),
        }
    }

    fn is_complete(&self) -> bool {
        self.lookups.is_empty() && self.failure.is_none()
    }

    fn take_failure(&mut self) -> Option<Failure> {
        let invalid = self.invalid.message();
        match self.failure.take() {
            None => invalid.map(Failure::runtime),
            Some(failure) => Some(failure.with(invalid)),
        }
    }
}
