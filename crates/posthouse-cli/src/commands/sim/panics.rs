//! The capture of panics as text of one line.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// True exactly while [`catch`] runs on this thread.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `work`. If it panics, returns the message and the place of the panic.
///
/// While `work` runs, panics on this thread print nothing, including those that `work` catches.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(install);
    CATCHING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(false);
    result.map_err(|_| LAST.take())
}

/// Installs a hook that keeps the message of a panic caught here. Other panics print as before.
fn install() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !CATCHING.get() {
            return before(info);
        }
        let text = info.payload_as_str().unwrap_or("a panic without a text");
        let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line()));
        LAST.set(format!("panicked{}: {text}", place.unwrap_or_default()));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_text_and_its_place() {
        let error = catch(|| panic!("the sky falls")).unwrap_err();
        assert!(error.starts_with("panicked at ") && error.contains("panics.rs:"), "{error}");
        assert!(error.ends_with(": the sky falls"), "{error}");
        assert_eq!(catch(|| 5), Ok(5));
    }

    #[test]
    fn of_two_panics_the_one_that_came_through_is_told() {
        let error = catch(|| {
            assert!(panic::catch_unwind(|| panic!("inner")).is_err());
            panic!("outer");
        });
        assert!(error.unwrap_err().ends_with("outer"));
    }
}
