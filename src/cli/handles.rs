//! How many files this process may have open.

/// Most that it asks for: many systems allow millions, which no transfer has a use for.
#[cfg(unix)]
const HANDLES_MAX: u64 = 64 * 1024;

/// Asks for as many as the system lets this user have. What a shell gives, often 1,024, is there for programs that
/// cannot deal with more; with it, small files are published in the slower of two ways.
pub(crate) fn ask_for_more() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let wanted = maximum.map_or(HANDLES_MAX, |maximum| maximum.min(HANDLES_MAX));
        if current.is_some_and(|current| current < wanted) {
            // It works without.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
        }
    }
}
