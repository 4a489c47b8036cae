//! The baseline of file transfer: `sendfile` to a socket, and a receiver that writes the bytes. It
//! has no checks of names, no hash, and no framing but the name and length of each file.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;

/// Runs one end, if the arguments request one.
pub(crate) fn run(words: &[String]) -> Option<ExitCode> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["raw-receive", address, directory] => receive(address, Path::new(directory)),
        ["raw-send", address, directory, ref names @ ..] => {
            send(address, Path::new(directory), names)
        }
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raw socket: {error}");
            ExitCode::FAILURE
        }
    })
}

fn receive(address: &str, directory: &Path) -> io::Result<()> {
    let (mut stream, _) = TcpListener::bind(address)?.accept()?;
    let mut memory = vec![0; 256 * 1024];
    let mut head = [0; 8 + 64];
    while stream.read_exact(&mut head).is_ok() {
        let mut left = u64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
        let name = String::from_utf8_lossy(&head[8..]).trim_end_matches('\0').to_owned();
        let mut file = File::create(directory.join(name))?;
        while left > 0 {
            let most = memory.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let bytes = stream.read(&mut memory[..most])?;
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_all(&memory[..bytes])?;
            left -= bytes as u64;
        }
    }
    stream.write_all(b"all")
}

fn send(address: &str, directory: &Path, names: &[&str]) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    for name in names {
        let mut files = vec![(*name).to_owned()];
        if let Some(inner) = name.strip_suffix('/') {
            let entries = std::fs::read_dir(directory.join(inner))?;
            files = entries
                .map(|entry| Ok(format!("{inner}/{}", entry?.file_name().to_string_lossy())))
                .collect::<io::Result<_>>()?;
        }
        for name in files {
            let file = File::open(directory.join(&name))?;
            let size = file.metadata()?.len();
            let mut head = [0; 8 + 64];
            head[..8].copy_from_slice(&size.to_le_bytes());
            head[8..8 + name.len()].copy_from_slice(name.as_bytes());
            stream.write_all(&head)?;
            let mut offset = 0;
            while offset < size {
                let most = usize::try_from(size - offset).unwrap_or(usize::MAX).min(1 << 30);
                rustix::fs::sendfile(&stream, &file, Some(&mut offset), most)?;
            }
        }
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0; 3])
}
