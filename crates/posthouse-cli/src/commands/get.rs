//! `posthouse get`: files from a server.

use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};
use posthouse::{Directory, Target};

use crate::address;
use crate::failure::{CommandResult, Failure};
use crate::term::hints;
use crate::transfer_client::{
    ConnectFlags, Direction, FileClient, FileJob, JobSource, Listing, NextJob, PARTS_DIRECTORY,
    RunEnd, TransferFlags, TransferReport, parent_directory,
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
}

/// The jobs for all files to get.
struct GetJobs {
    directory: Directory,
    files: std::vec::IntoIter<WantedFile>,
}

impl Get {
    pub(crate) fn run(&self) -> CommandResult {
        let mut report = self.transfer.report(Direction::Get);
        let destination = self.destination()?;
        let policy = self.transfer.retry_policy();
        let terminal = report.terminal().clone();
        let mut client = FileClient::start(&self.target, &self.connect, policy, terminal)?;
        let files = self.find_files(&mut client, &mut report, &destination)?;
        let mut jobs = GetJobs { directory: destination.directory, files: files.into_iter() };
        let end = match jobs.remaining() {
            0 => RunEnd::Complete,
            _ => client.transfer(&mut jobs, &mut report, Duration::ZERO),
        };
        let result = report.close(&end);
        let ended = client.shutdown();
        // This fails, as intended, if the directory still holds the part of an unfinished file.
        let _ = std::fs::remove_dir(destination.path.join(PARTS_DIRECTORY));
        ended.and(result)
    }

    /// Finds the files to get. A name that the server does not list is also taken for a file.
    fn find_files(
        &self,
        client: &mut FileClient,
        report: &mut TransferReport,
        destination: &Destination,
    ) -> CommandResult<Vec<WantedFile>> {
        let mut files = Vec::new();
        if self.all {
            let listed = client.list("", |entry| {
                report.expect_file(entry.size);
                files.push(WantedFile { name: entry.name, path: None });
                Ok(())
            })?;
            return match listed {
                Listing::Complete => Ok(files),
                Listing::Refused(why) => Err(Failure::runtime(why)),
            };
        }
        for name in &self.names {
            let name = name.replace(MAIN_SEPARATOR, "/");
            let name = name.trim_end_matches('/');
            let before = files.len();
            // If the server refuses to list, the name is taken for a file.
            client.list(&format!("{name}/"), |entry| {
                report.expect_file(entry.size);
                files.push(WantedFile { name: entry.name, path: None });
                Ok(())
            })?;
            if files.len() == before {
                // The name of a file, or of nothing. In the second case the request for it fails.
                report.expect_file(0);
                let path = destination.file_name.as_deref().map(Box::from);
                files.push(WantedFile { name: name.into(), path });
            } else if destination.file_name.is_some() {
                let output = Escaped(self.output.as_path());
                return Err(Failure::usage(format!(
                    "{} is a directory on the server, but {output} is not a directory here; \
                     create it: {}",
                    Escaped(name),
                    hints::make_directory(output)
                )));
            }
        }
        Ok(files)
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

impl JobSource for GetJobs {
    fn next(&mut self, _: Instant) -> NextJob {
        let Some(WantedFile { name, path }) = self.files.next() else { return NextJob::End };
        let path = path.unwrap_or_else(|| name.clone());
        NextJob::Job(FileJob { directory: self.directory.clone(), path, name })
    }

    fn remaining(&self) -> usize {
        self.files.len()
    }
}
