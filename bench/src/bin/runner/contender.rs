//! The contenders: the servers that are measured.

/// One echo server: a program of this package and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    pub(crate) arguments: &'static [&'static str],
}

const fn contender(
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
) -> Contender {
    Contender { name, program, arguments }
}

/// The server that every ratio refers to.
pub(crate) const BASELINE: Contender = contender("baseline epoll", "baseline-epoll", &[]);

/// All other servers. The first row of every kind of work is the baseline itself, a second time.
pub(crate) const OTHERS: &[Contender] = &[
    contender("baseline io_uring", "baseline-uring", &[]),
    contender("tokio Framed", "tokio-framed", &[]),
    contender("tokio Framed forward", "tokio-framed", &["--forward"]),
    contender("tokio tuned", "tokio-tuned", &[]),
    contender("compio", "compio-echo", &[]),
    contender("monoio", "monoio-echo", &[]),
    contender("posthouse readiness", "posthouse-echo", &["--backend", "readiness"]),
    contender("posthouse uring", "posthouse-echo", &["--backend", "uring"]),
];

impl Contender {
    /// Parses `NAME=PROGRAM ARGUMENT ..`, which describes an additional server, or one with other
    /// arguments. Its words live as long as the process, like those of all others.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, command) = text.split_once('=')?;
        let mut words = command.split(' ').map(|word| &*word.to_owned().leak());
        let program = words.next()?;
        let arguments = Vec::leak(words.collect());
        Some(contender(name.to_owned().leak(), program, arguments))
    }
}
