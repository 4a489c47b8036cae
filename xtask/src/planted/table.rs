//! The planted mistakes: each breaks one contract in one place.

use super::Mistake;

pub(super) const PLANTED: &[Mistake] = &[
    Mistake {
        name: "released_twice",
        breaks: "C3: a connection goes twice into the pool of slots",
        file: "crates/posthouse/src/worker/pinned.rs",
        find: r"                self.table[place] = None;
                self.core.registry.release(id);",
        replace: r"                self.table[place] = None;
                self.core.registry.release(id);
                self.core.registry.release(id);",
    },
    Mistake {
        name: "lost_early_completion",
        breaks: "C1, C5: a completion that came early is never looked at",
        file: "crates/posthouse/src/connection/receiving.rs",
        find: r"            next = self.inbound.next_early(&mut cx.local.held);",
        replace: r"            next = None;",
    },
    Mistake {
        name: "no_reorder_window",
        breaks: "C5: receives are delivered as their completions are taken",
        file: "crates/posthouse/src/connection/inbound.rs",
        find: r"        if sequence == self.next_delivered {",
        replace: r"        let _ = self.next_delivered;
        if true {",
    },
    Mistake {
        name: "window_of_pending",
        breaks: "C8: the window is bounded by receives in flight, not by distance",
        file: "crates/posthouse/src/connection/inbound.rs",
        find: r"window.saturating_sub(self.next_submitted.wrapping_sub(self.next_delivered))",
        replace: r"window.saturating_sub(self.pending)",
    },
    Mistake {
        name: "told_twice",
        breaks: "C6: disconnected is told twice",
        file: "crates/posthouse/src/connection/closing.rs",
        find: r"                handler.disconnected(peer, &why);",
        replace: r"                handler.disconnected(peer, &why);
                handler.disconnected(peer, &why);",
    },
    Mistake {
        name: "not_told",
        breaks: "C6: requests that wait are not told the end",
        file: "crates/posthouse/src/connection/closing.rs",
        find: r"= extras.requests.pop_first() {",
        replace: r"= extras.requests.pop_first().filter(|_| false) {",
    },
    Mistake {
        name: "lock_over_callback",
        breaks: "C9: a lock is held over a callback",
        file: "crates/posthouse/src/worker/shared.rs",
        find: r"                connection.apply(&mut cx, work);",
        replace: r"                let core = self.core.clone();
                let held = lock(&Self::strands(&core).ready);
                connection.apply(&mut cx, work);
                drop(held);",
    },
    Mistake {
        name: "closed_with_operations_in_flight",
        breaks: "C3: the handle is closed before the join",
        file: "crates/posthouse/src/connection/closing.rs",
        find: r"Phase::Joining || self.in_flight > 0 && !self.stop_waiting(cx) {",
        replace: r"Phase::Joining {",
    },
    Mistake {
        name: "partial_send_forgotten",
        breaks: "C5: what a partial send left is thrown away",
        file: "crates/posthouse/src/output.rs",
        find: r"        if gather.is_empty() {",
        replace: r"        if bytes > 0 {",
    },
    Mistake {
        name: "over_high_for_ever",
        breaks: "C8: a peer that was once over the high mark is never read from again",
        file: "crates/posthouse/src/connection.rs",
        find: r"            strand.over_high = false;",
        replace: r"            let _ = strand.over_high;",
    },
    Mistake {
        name: "assembly_not_returned",
        breaks: "C8: a partial frame's memory stays counted when its connection ends",
        file: "crates/posthouse/src/connection/receiving.rs",
        find: r"        let known = std::mem::take(&mut self.inbound.budgeted_bytes);
        cx.core.assembly.resize(known, 0, usize::MAX);",
        replace: r"        let _ = std::mem::take(&mut self.inbound.budgeted_bytes);
        let _ = cx;",
    },
    Mistake {
        name: "end_overtakes_data",
        breaks: "C5: the end of the stream is acted on before what is held",
        file: "crates/posthouse/src/connection/closing.rs",
        find: r"self.inbound.held_chunks() == 0 && !self.strand.paused || failed && stopped",
        replace: r"!self.strand.paused || failed && stopped",
    },
    Mistake {
        name: "reply_to_another_request",
        breaks: "C6: a reply runs another request's closure",
        file: "crates/posthouse/src/connection/receiving.rs",
        find: r"extras.and_then(|extras| extras.requests.remove(&id))",
        replace: r"extras.and_then(|extras| extras.requests.pop_first()).map(|(_, r)| r)",
    },
    Mistake {
        name: "shutdown_wakes_one_lane",
        breaks: "C9: lanes that sleep do not hear of the shutdown",
        file: "crates/posthouse/src/core.rs",
        find: r"        for lane in 0..self.mailboxes.len() {
            self.port.wake(",
        replace: r"        for lane in 0..1 {
            self.port.wake(",
    },
];
