//! The servers that are measured.

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

/// The server that every ratio is against.
pub(crate) const BASELINE: Contender = contender("baseline epoll", "baseline-epoll", &[]);

/// All others. The first row of every work is the baseline itself, a second time.
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
    /// A server of one's own, or one with other arguments, from `NAME=PROGRAM ARGUMENT ..`. Its
    /// words live as long as the process, as those of all others do.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, command) = text.split_once('=')?;
        let mut words = command.split(' ').map(|word| &*word.to_owned().leak());
        let program = words.next()?;
        let arguments = Vec::leak(words.collect());
        Some(contender(name.to_owned().leak(), program, arguments))
    }
}
