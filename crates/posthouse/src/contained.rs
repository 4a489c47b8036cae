//! Values of the program whose `Drop` may panic, and the containment of such a panic.
//!
//! The framework drops closures, states and handlers of the program in many places, most of them
//! outside of a callback. [`Contained`] holds such a value, so that no place can forget it.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// The panics that [`contain`] has caught on this thread and nobody has taken.
    static CAUGHT: RefCell<Caught> = RefCell::default();
}

/// The panics that were caught on one thread.
#[derive(Default)]
pub(crate) struct Caught {
    pub(crate) count: u64,
    /// The text of the last one.
    pub(crate) last: String,
}

/// The maximum number of panics that follow from the drop of one panic's payload. The payload of
/// the last one is leaked.
const MAX_PAYLOADS: usize = 3;

/// A value of the program. A panic in its `Drop` is contained.
pub(crate) struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("only this call and `drop` take the value")
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            contain(|| drop(value));
        }
    }
}

/// Runs code of the program outside of a callback. A panic is contained: a worker counts and logs
/// it at the end of its step ([`take_caught`]), on another thread it is logged at once.
pub(crate) fn contain<T>(run: impl FnOnce() -> T) -> Option<T> {
    let payload = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(value) => return Some(value),
        Err(payload) => payload,
    };
    if posthouse_io::on_worker() {
        CAUGHT.with_borrow_mut(|caught| {
            caught.count += 1;
            text(&*payload).clone_into(&mut caught.last);
        });
    } else {
        tracing::error!(panic = text(&*payload), "a value of the program panicked in its drop");
    }
    drop_payload(payload);
    None
}

/// Takes the panics that were caught on this thread since the last call, if there was one.
pub(crate) fn take_caught() -> Option<Caught> {
    CAUGHT.with_borrow_mut(|caught| (caught.count > 0).then(|| std::mem::take(caught)))
}

/// Drops the payload of a panic. The payload is a value of the program, so its drop can panic, too.
pub(crate) fn drop_payload(mut payload: Box<dyn Any + Send>) {
    for _ in 0..MAX_PAYLOADS {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    std::mem::forget(payload);
}

/// Returns the text of a panic, if it has one.
pub(crate) fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A payload whose drop panics with another one, this number of times.
    struct Again(u32);

    impl Drop for Again {
        fn drop(&mut self) {
            if self.0 > 0 {
                std::panic::panic_any(Again(self.0 - 1));
            }
        }
    }

    #[test]
    fn a_panic_in_a_drop_is_contained_also_while_the_thread_unwinds() {
        let unwound = catch_unwind(|| {
            let _first = Contained::new(Again(1));
            let _second = Contained::new(Again(1));
            panic!("the thread unwinds");
        });
        assert_eq!(text(&*unwound.unwrap_err()), "the thread unwinds");
    }

    #[test]
    fn the_payloads_of_payloads_are_dropped_to_an_end() {
        for times in [0, 1, 2, 10] {
            assert_eq!(contain(|| std::panic::panic_any(Again(times))), None::<()>);
        }
        assert_eq!(contain(|| 7), Some(7));
    }
}
