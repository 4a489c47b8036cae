//! The plan: the kinds of work, the contenders, and the number of pairs.

use crate::contender::{BASELINE, Contender, OTHERS};
use crate::load::Work;
use crate::memory;
use crate::pairs::{self, Compared};
use crate::report::{Memory, Row, WorkResult};
use crate::server::NoServer;
use crate::{Arguments, Outcome};

/// The number of pairs of slices in each start order.
const PAIRS: usize = 100;
const PAIRS_QUICK: usize = 5;

/// The payload and the depth of the closed loops, each with both numbers of connections.
const ECHOES: [(usize, u32); 4] = [(64, 1), (64, 64), (1024, 16), (16 * 1024, 4)];
const CONNECTIONS: [u32; 2] = [50, 1000];
/// The work that a quick run omits: a window of this many frames takes much longer than a slice.
const LONG: [Work; 2] = [
    Work::Echo { payload_bytes: 64, depth: 64, connections: 1000 },
    Work::Echo { payload_bytes: 1024, depth: 16, connections: 1000 },
];
const PACED: Work = Work::Paced { payload_bytes: 64, connections: 50, per_second: 20_000 };
const CONNECT_CHURN: Work = Work::ConnectChurn { payload_bytes: 64, at_a_time: 32 };

pub(crate) struct Plan {
    pub(crate) pairs: usize,
    pub(crate) quick: bool,
    pub(crate) with_memory: bool,
    contenders: Vec<Contender>,
    works: Vec<Work>,
}

impl Plan {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let fits = |part: &Option<String>, name: &str| {
            part.as_ref().is_none_or(|part| name.contains(part.as_str()))
        };
        let echoes = CONNECTIONS.into_iter().flat_map(|connections| {
            ECHOES.map(|(payload_bytes, depth)| Work::Echo { payload_bytes, depth, connections })
        });
        let works = echoes.chain([PACED, CONNECT_CHURN]);
        Self {
            pairs: arguments.pairs.unwrap_or(if arguments.quick { PAIRS_QUICK } else { PAIRS }),
            quick: arguments.quick,
            with_memory: fits(&arguments.work, "memory"),
            contenders: OTHERS
                .iter()
                .copied()
                .filter(|contender| fits(&arguments.only, contender.name))
                .chain(arguments.also.iter().copied())
                .collect(),
            works: works
                .filter(|work| fits(&arguments.work, &work.name()))
                .filter(|work| !arguments.quick || !LONG.contains(work))
                .collect(),
        }
    }

    pub(crate) fn works(&self) -> impl Iterator<Item = Work> {
        self.works.iter().copied()
    }

    /// Measures all contenders with one kind of work. First it measures the baseline against
    /// itself, which shows the differences that mean nothing; every ratio is divided by that one.
    pub(crate) fn measure(&self, work: Work) -> Outcome<WorkResult> {
        let same = match pairs::compare(BASELINE, work, self.pairs) {
            Ok(same) => same,
            Err(NoServer::NotAvailable(text) | NoServer::Failed(text)) => return Err(text),
        };
        let baseline = Row::baseline(&same);
        println!("{}\n{}", Row::title(work), baseline.line());
        let mut rows = Vec::new();
        for contender in &self.contenders {
            let row = match pairs::compare(*contender, work, self.pairs) {
                Ok(compared) => Row::new(contender.name, &compared, same.ratio.median),
                Err(NoServer::NotAvailable(reason)) => Row::skipped(contender.name, reason),
                // One failing server must not cost the numbers of all others.
                Err(NoServer::Failed(text)) => Row::skipped(contender.name, text),
            };
            println!("{}", row.line());
            rows.push(row);
        }
        println!();
        Ok(WorkResult { work, baseline, rows })
    }

    pub(crate) fn measure_memory(&self) -> Vec<Memory> {
        println!("idle memory, {} connections", memory::CONNECTIONS);
        let mut rows = Vec::new();
        for contender in [BASELINE].iter().chain(&self.contenders) {
            let bytes = memory::bytes_per_connection(*contender);
            let bytes = bytes.map_err(|error| match error {
                NoServer::NotAvailable(text) | NoServer::Failed(text) => text,
            });
            let row = Memory { name: contender.name, bytes };
            println!("{}", row.line());
            rows.push(row);
        }
        rows
    }
}

impl Row {
    fn baseline(same: &Compared) -> Self {
        // Undivided, because this ratio shows the uncertainty of the others.
        Self::new("baseline epoll (A/A)", same, 1.0)
    }
}
