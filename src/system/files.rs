//! Work that a hanging file system may block: limited reading, and detached threads.
//!
//! Owns how much of a file is read, and how blocking work is kept off the threads that must not block. Must not know single
//! files. Invariants: an endless file is read up to a limit; neither a stop nor the end of the process waits for a detached
//! thread.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use tokio::sync::oneshot;

use crate::system::reserve;

/// Reads at most `most` bytes of a file, and one more if the file is larger than that.
///
/// # Errors
///
/// When the file cannot be opened or read.
pub fn read_limited(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = reserve::retry_with_reserve(|| File::open(path))?;
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs `work` on its own thread and waits for the result without blocking. If the caller stops waiting, the thread
/// continues, and drops its result.
///
/// The blocking pool of tokio is not suitable: dropping a runtime joins it, and a thread that waits for a file system or a
/// name server for minutes occupies one of its slots.
///
/// # Errors
///
/// When the thread cannot be started, or the work panicked.
pub async fn run_detached<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (send, result) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // The caller may have stopped waiting.
            let _ = send.send(work());
        })?;
    result
        .await
        .map_err(|_| io::Error::other("the thread panicked"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_endless_file_is_read_up_to_its_limit() {
        assert_eq!(
            read_limited(Path::new("/dev/zero"), 100).unwrap().len(),
            101
        );
        assert!(
            read_limited(Path::new("/dev/null"), 100)
                .unwrap()
                .is_empty()
        );
        assert!(read_limited(Path::new("/"), 100).is_err());
    }

    #[test]
    fn a_runtime_ends_while_work_still_runs() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (finish, wait) = std::sync::mpsc::channel::<()>();
        runtime.block_on(async {
            let stuck = run_detached("stuck", move || wait.recv());
            let waited = tokio::time::timeout(Duration::from_millis(20), stuck).await;
            assert!(waited.is_err());
            assert_eq!(run_detached("quick", || 7).await.unwrap(), 7);
            assert!(
                run_detached("panics", || panic!("as the test wants"))
                    .await
                    .is_err()
            );
        });
        drop(runtime);
        // The thread has waited until now.
        finish.send(()).unwrap();
    }
}
